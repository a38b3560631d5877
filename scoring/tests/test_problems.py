"""The catalogue of problems: whatever the code can answer is in it, and each kind has a page."""

import json
import re
from http import HTTPStatus
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import reverse
from rest_framework import exceptions as drf

from fraudsite.testing import seed_payload
from scoring.api import catalogue, problems
from scoring.exceptions import RequestRefused

OF_DRF = (drf.NotAuthenticated, drf.AuthenticationFailed, drf.MethodNotAllowed, drf.NotAcceptable, drf.ParseError)
AT_HAND = re.compile(r'status=(\d+), title="([^"]+)"')


def kinds_of(refusal):
    """Every kind of refusal below this one."""
    for kind in refusal.__subclasses__():
        yield kind
        yield from kinds_of(kind)


def raised():
    """The status and title of every problem that the code can answer with."""
    yield from ((kind.status, kind.title) for kind in kinds_of(RequestRefused))
    yield from ((kind.status_code, HTTPStatus(kind.status_code).phrase.capitalize()) for kind in OF_DRF)
    yield from ((int(status), title) for status, title in AT_HAND.findall(Path(problems.__file__).read_text()))


@pytest.mark.parametrize(("status", "title"), sorted(set(raised())))
def test_every_problem_that_the_code_can_answer_with_is_in_the_catalogue(status, title):
    kind = catalogue.BY_NAME.get(catalogue.name_of(title))
    assert kind, f"Describe `{title}` in scoring/api/catalogue/."
    assert (kind.status, kind.title) == (status, title)


def test_names_are_unique():
    assert len(catalogue.BY_NAME) == len(catalogue.KINDS)


@pytest.mark.django_db
@pytest.mark.parametrize("kind", catalogue.KINDS, ids=lambda kind: kind.name)
def test_each_kind_has_a_page_that_anybody_may_read(client, kind):
    page = client.get(kind.address)
    text = page.content.decode()
    assert page.status_code == 200
    for words in (kind.title, str(kind.status), kind.address):
        assert words in text
    assert kind.address in client.get(reverse("problems")).content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address", ["/problems/nothing", "/problems/x%00", "/problems/..%2f", "/problems/" + "x" * 5_000]
)
def test_there_is_no_page_of_what_is_no_problem(client, address):
    assert client.get(address).status_code == 404


@pytest.mark.django_db
def test_the_type_of_a_problem_is_the_address_of_its_page(acme_api, client):
    problem = acme_api.post("/api/v1/predict", data="{", content_type="application/json").json()
    assert problem["type"] == "/problems/malformed-body"
    assert client.get(problem["type"]).status_code == 200


@pytest.mark.django_db
def test_an_example_has_what_a_problem_has(acme_api):
    body = json.dumps(seed_payload(Amount="x"))
    problem = acme_api.post("/api/v1/predict", data=body, content_type="application/json").json()
    example = catalogue.BY_NAME["invalid-fields"].example
    assert problem.keys() == example.keys()
    assert problem["errors"][0].keys() == example["errors"][0].keys()


def test_the_page_of_the_docs_is_made_of_the_catalogue():
    written = (settings.BASE_DIR / "docs" / "problems.md").read_text()
    assert written == catalogue.page(), "python -m scoring.api.catalogue > docs/problems.md"
