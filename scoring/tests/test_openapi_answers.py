"""The OpenAPI document is true: its examples work, its statuses are reached, and answers are as it says."""

import json
import re

import jsonschema
import pytest
from django.db import OperationalError, connection
from django.test import Client as HttpClient

from fraudsite.testing import api_of, fraudulent_payload, seed_payload
from scoring.api import authentication, catalogue
from scoring.clients import keys
from scoring.models import Pending

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("keys_of_the_test")]

NOBODY = "00000000-0000-0000-0000-000000000000"
CARD = "4111111111111111"
JSON, PROBLEM = "application/json", "application/problem+json"


@pytest.fixture
def document(client):
    return json.loads(client.get("/api/v1/schema", headers={"Accept": JSON}).content)


def operations(document, *, of=""):
    """Path, method and operation of all that the document describes."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if of in path:
                yield path, method, operation


def declared(document, path, method, response):
    """Check that an answer is one that the document declares. Returns its status."""
    status = str(response.status_code)
    responses = document["paths"][path][method]["responses"]
    assert status in responses, (method, path, status, response.content)
    content = responses[status].get("content", {})
    if response.content:
        schema = content[response["Content-Type"]]["schema"]
        whole = {"components": document["components"], "$ref": "#/components/schemas/none"} | schema
        jsonschema.validate(json.loads(response.content), whole, jsonschema.Draft202012Validator)
    else:
        assert not content
    return status


def call(http, path, method, body=None, **options):
    address = re.sub(r"{\w+}", NOBODY, path)
    data = body if isinstance(body, str) else json.dumps(body or {})
    query = options.pop("query", "")
    if method in ("get", "delete"):
        return getattr(http, method)(address + query, **options)
    return http.generic(method.upper(), address + query, data, **{"content_type": JSON} | options)


def test_it_is_openapi_3_1_with_json_schemas_of_2020(document):
    assert document["openapi"] == "3.1.1"
    assert "nullable" not in json.dumps(document)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for _, _, operation in operations(document):
        for media in operation.get("requestBody", {}).get("content", {}).values():
            jsonschema.Draft202012Validator.check_schema(media["schema"])


def test_operations_have_ids_of_their_own(document):
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_its_examples_of_problems_are_those_of_the_catalogue(document):
    examples = [example["value"] for example in document["components"]["examples"].values()]
    whole = {"components": document["components"], "$ref": "#/components/schemas/Problem"}
    for example in examples:
        jsonschema.validate(example, whole, jsonschema.Draft202012Validator)
    assert {example["type"] for example in examples} <= {kind.address for kind in catalogue.KINDS}


def test_every_operation_says_what_refuses_it(document, acme):
    """401, 403, 400 and 406 need nothing that is special to an operation."""
    for path, method, _ in operations(document):
        whole, other = api_of(acme), HttpClient()
        scopes = {"/webhooks": ["read"]}.get("/webhooks" if "/webhooks" in path else "", ["webhooks"])
        narrow = HttpClient(headers={"Authorization": f"Bearer {_key(acme, scopes)}"})
        for http, status, headers in (
            (other, "401", {}),
            (narrow, "403", {}),
            (whole, "406", {"Accept": "text/html"}),
            (whole, "400", {"Host": "elsewhere.example"}),
        ):
            assert declared(document, path, method, call(http, path, method, headers=headers)) == status


def _key(client, scopes, **limits):
    for key in client.keys.all():
        keys.revoke(key=key)
    return keys.create(client=client, scopes=scopes, **limits)[1]


def test_what_is_wrong_with_a_body_is_declared(document, acme_api):
    for path, method, operation in operations(document):
        if JSON not in operation.get("requestBody", {}).get("content", {}) or "/webhooks" in path:
            continue
        big = json.dumps({"text": "x" * 3_000_000})
        for status, response in {
            "400": call(acme_api, path, method, "{"),
            "413": call(acme_api, path, method, big),
            "415": call(acme_api, path, method, "a=b", content_type="application/x-www-form-urlencoded"),
            "422": call(acme_api, path, method, {}, headers={"X-Request-ID": CARD}),
        }.items():
            assert declared(document, path, method, response) == status


def test_what_is_wrong_with_a_query_is_declared(document, acme_api):
    for path, method, operation in operations(document):
        if any(one["name"] == "fields" for one in operation.get("parameters", [])):
            assert declared(document, path, method, call(acme_api, path, method, query="?colour=1")) == "400"
            assert declared(document, path, method, call(acme_api, path, method, query=f"?{CARD}=1")) == "422"


def test_a_row_that_is_not_there_is_declared(document, acme_api):
    for path, method, operation in operations(document):
        if "404" in operation["responses"] and "requestBody" not in operation:
            assert declared(document, path, method, call(acme_api, path, method)) == "404"


def test_a_database_that_fails_is_declared(document, acme_api, monkeypatch):
    def fail(*_, **__):
        raise OperationalError("away")

    for path, method, _ in operations(document):
        monkeypatch.setattr(authentication, "ring", authentication.KeyRing())
        with connection.execute_wrapper(fail):
            response = call(acme_api, path, method)
        assert declared(document, path, method, response) == "503"
        assert response["Retry-After"]


def test_what_was_sent_before_is_declared(document, acme_api, transaction):
    for path in ("/predict", "/api/v1/predict"):
        for amount, status in ((1.0, "202"), (2.0, "409")):
            body = seed_payload(Amount=amount, transaction_id=f"order{path}")
            response = call(acme_api, path, "post", body, headers={"Prefer": "respond-async"})
            assert declared(document, path, "post", response) == status
    transaction(transaction_id="order-1001")
    label = _example(document, "/api/v1/labels") | {"reference": "case-1"}
    again = [label, label, label | {"kind": "fraud"}, {**label, "transaction_id": "order-2", "reference": "case-2"}]
    found = [
        declared(document, "/api/v1/labels", "post", call(acme_api, "/api/v1/labels", "post", one)) for one in again
    ]
    assert found == ["201", "200", "409", "202"]


def _example(document, path):
    [first, *_] = document["paths"][path]["post"]["requestBody"]["content"][JSON]["examples"].values()
    return first["value"]


def test_a_transaction_that_waits_or_cannot_be_scored_is_declared(document, acme_api, transaction):
    row = transaction()
    pending = Pending.objects.create(transaction=row, due_at=row.received_at)
    for attempts, status in ((0, "202"), (99, "422")):
        Pending.objects.filter(pk=pending.pk).update(attempts=attempts)
        for path, _, _ in operations(document, of="{prediction_id}"):
            response = acme_api.get(path.replace("{prediction_id}", str(row.pk)))
            assert declared(document, path, "get", response) == status


def test_every_example_works_here_and_is_answered_as_the_document_says(worker, client, acme_api):
    document = json.loads(client.get("/api/v1/schema", headers={"Accept": JSON}).content)
    for path in ("/predict", "/api/v1/predict", "/api/v1/predict/batch", "/api/v1/labels", "/api/v1/labels/batch"):
        for example in document["paths"][path]["post"]["requestBody"]["content"][JSON]["examples"].values():
            response = call(acme_api, path, "post", example["value"])
            status = declared(document, path, "post", response)
            assert status == ("503" if "no champion" in example["summary"] else status)
            if "no champion" not in example["summary"]:
                assert status in ("200", "201", "202"), response.content
    odd = {"transactions": [seed_payload(), {}, 17, seed_payload(Amount=-1.0), seed_payload(transaction_id=CARD)]}
    response = call(acme_api, "/api/v1/predict/batch", "post", odd)
    assert declared(document, "/api/v1/predict/batch", "post", response) == "200"
    assert [one["status"] for one in response.json()["results"]] == [200, 400, 400, 422, 422]
    alert = call(acme_api, "/predict", "post", fraudulent_payload()).json()
    for path, method, _ in operations(document):
        if method != "get" or "/webhooks" in path or "{file_id}" in path:
            continue
        address = path.replace("{key}", alert["id"]).replace("{prediction_id}", alert["id"])
        response = acme_api.get(address)
        assert declared(document, path, "get", response) == "200"
        if "{" in path:
            again = acme_api.get(address, headers={"If-None-Match": response["ETag"]})
            assert declared(document, path, "get", again) == "304"


def test_what_a_document_forbids_is_refused_and_what_it_allows_is_a_transaction(document):
    validator = jsonschema.Draft202012Validator(
        document["paths"]["/api/v1/predict"]["post"]["requestBody"]["content"][JSON]["schema"]
    )
    assert validator.is_valid(seed_payload(transaction_id=None))
    for wrong in (
        seed_payload(Amount="1"),
        seed_payload(Amount=-1),
        seed_payload(x=1),
        seed_payload(transaction_id="a\nb"),
    ):
        assert not validator.is_valid(wrong)


class TestDeprecation:
    def test_the_seeds_address_tells_what_takes_its_place(self, acme_api):
        for response in (call(acme_api, "/predict", "post"), HttpClient().post("/predict/")):
            assert response["Deprecation"] == "@1795910400"
            assert '</api/v1/predict>; rel="successor-version"' in response["Link"]
            assert 'rel="deprecation"' in response["Link"]
            assert "Sunset" not in response

    def test_its_successor_tells_nothing_of_the_kind(self, acme_api):
        assert "Deprecation" not in call(acme_api, "/api/v1/predict", "post")

    def test_the_document_marks_it(self, document):
        assert [path for path, _, operation in operations(document) if operation.get("deprecated")] == ["/predict"]
