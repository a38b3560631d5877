"""What is counted of calls that are refused."""

import json

import httpx
import pytest
from django.db import Error
from django.test import Client as HttpClient

from fraudsite.testing import seed_payload, web_server, worker_environment
from scoring.api import refusals
from scoring.exceptions import ScorerUnavailable
from scoring.models import Fallback, RefusalCount, RefusalOfClientCount


@pytest.fixture(autouse=True)
def uncounted(db, monkeypatch):
    """No counts from earlier tests, and no thread that stores them."""
    refusals._counts.clear()
    RefusalCount.objects.all().delete()
    monkeypatch.setattr(refusals, "_writer", object())


def counted():
    refusals.flush()
    return {
        (status, kind): number for status, kind, number in RefusalCount.objects.values_list("status", "kind", "count")
    }


def post(client, payload, address="/predict"):
    return client.post(address, json.dumps(payload), content_type="application/json")


@pytest.mark.django_db
def test_every_refusal_is_counted_by_its_kind(acme_api):
    for amount in ("x", "y"):
        assert post(acme_api, seed_payload(Amount=amount)).status_code == 400
    assert post(acme_api, seed_payload(Amount=-5)).status_code == 422
    assert post(HttpClient(), seed_payload()).status_code == 401
    assert acme_api.get("/predict").status_code == 405
    assert acme_api.get("/api/v1/nowhere").status_code == 404
    batch = {"transactions": [seed_payload(Amount="x"), seed_payload(Amount="y")]}
    assert post(acme_api, batch, "/api/v1/predict/batch").status_code == 200
    assert counted() == {
        (400, "Invalid fields"): 4,
        (422, "Unacceptable values"): 1,
        (401, "Unauthorized"): 1,
        (405, "Method not allowed"): 1,
        (404, "Not found"): 1,
    }


@pytest.mark.django_db
def test_a_refused_call_with_a_key_is_counted_for_its_client_too(acme, acme_api):
    post(acme_api, seed_payload(Amount="x"))
    post(acme_api, {"transactions": [seed_payload(Amount="x"), seed_payload()]}, "/api/v1/predict/batch")
    post(acme_api, {"labels": [{}]}, "/api/v1/labels/batch")
    post(HttpClient(), seed_payload())
    everything = counted()
    of_clients = RefusalOfClientCount.objects.values_list("client", "status", "kind", "count")
    without_key = {(401, "Unauthorized"): 1}
    assert {(status, kind): number for client, status, kind, number in of_clients} | without_key == everything
    assert {client for client, *_ in of_clients} == {acme.pk}


@pytest.mark.django_db
def test_a_call_that_no_worker_answers_is_counted(acme_api, monkeypatch):
    async def silent(_submission):
        raise ScorerUnavailable(reason=Fallback.Reason.DEADLINE)

    monkeypatch.setattr("scoring.api.views.ask", silent)
    assert post(acme_api, seed_payload()).status_code == 503
    [(status, _)] = counted()
    assert status == 503


@pytest.mark.django_db
def test_counts_of_several_processes_add_up(acme_api):
    for _ in range(3):
        post(acme_api, seed_payload(Amount="x"))
        refusals.flush()
    assert sum(RefusalCount.objects.values_list("count", flat=True)) == 3


@pytest.mark.django_db
def test_counts_outlast_a_database_that_is_away(acme_api, monkeypatch):
    post(acme_api, seed_payload(Amount="x"))

    def away():
        raise Error("away")

    with monkeypatch.context() as broken:
        broken.setattr(refusals.transaction, "atomic", away)
        refusals.flush()
    assert counted() == {(400, "Invalid fields"): 1}


@pytest.mark.django_db(transaction=True)
def test_what_a_web_process_refused_is_known_after_its_end():
    with web_server(worker_environment()) as url:
        for _ in range(3):
            assert httpx.post(f"{url}/predict", json={}).status_code == 401
    assert dict(RefusalCount.objects.values_list("status", "count")) == {401: 3}
