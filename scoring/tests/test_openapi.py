import json

import pytest
from django.urls import reverse

from training.core.schema import load_schema

pytestmark = pytest.mark.django_db


@pytest.fixture
def document(client):
    response = client.get("/api/v1/schema", headers={"Accept": "application/json"})
    assert response.status_code == 200
    return json.loads(response.content)


def test_it_describes_every_endpoint(document):
    assert document["paths"].keys() == {
        "/predict",
        "/api/v1/predict",
        "/api/v1/predict/batch",
        "/api/v1/labels",
        "/api/v1/labels/batch",
        "/api/v1/transactions",
        "/api/v1/transactions/{key}",
        "/api/v1/predictions",
        "/api/v1/webhooks",
        "/api/v1/webhooks/{key}",
        *(f"/api/v1/webhooks/{{key}}/{part}" for part in ("secrets", "test", "deliveries", "replay")),
        "/api/v1/reviews",
        "/api/v1/reviews/{key}",
        "/api/v1/predictions/{prediction_id}",
        "/api/v1/predictions/{prediction_id}/explanation",
        "/api/v1/batches",
        "/api/v1/batches/{file_id}",
        "/api/v1/batches/{file_id}/cancel",
        "/api/v1/batches/{file_id}/result",
        "/api/v1/batches/{file_id}/refused",
    }
    assert set(document["paths"]["/api/v1/predict"]["post"]["responses"]) >= {"200", "400", "401", "409", "422", "503"}


def test_every_call_that_needs_a_key_tells_its_scope_its_refusals_and_its_limits(document):
    for operations in document["paths"].values():
        for operation in operations.values():
            assert "Needs a key with the scope" in operation["description"]
            responses = operation["responses"]
            assert {"401", "403", "429"} <= responses.keys()
            assert "scope-missing" in responses["403"]["description"]
            assert "application/problem+json" in responses["403"]["content"]
            assert responses["429"]["headers"].keys() == {"RateLimit-Policy", "RateLimit", "Retry-After"}
            done = [response for status, response in responses.items() if status.startswith("2")]
            assert done
            assert all({"RateLimit-Policy", "RateLimit"} <= response["headers"].keys() for response in done)


def test_it_describes_the_body_by_the_dataset_schema(document):
    body = _bodies(document)["ulb"]
    schema = load_schema("ulb")
    assert body["required"] == list(schema.feature_names)
    assert body["additionalProperties"] is False
    assert body["properties"]["Amount"]["maximum"] == schema.features[-1].maximum


def test_it_describes_a_body_with_entities(document):
    body = _bodies(document)["handbook"]
    assert body["required"] == ["schema", "amount", "customer", "terminal"]
    assert body["properties"]["customer"] == body["properties"]["terminal"] | {
        "description": body["properties"]["customer"]["description"]
    }
    assert body["properties"]["customer"]["maxLength"] == 64


def test_it_describes_what_a_label_may_say(document):
    label = document["components"]["schemas"]["Label"]
    assert {"kind", "event_time"} == set(label["required"])
    kind = document["components"]["schemas"][label["properties"]["kind"]["$ref"].rsplit("/")[-1]]
    assert "chargeback_lost" in kind["enum"]


def _bodies(document):
    """The bodies that the predict call takes, by schema."""
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return {one["properties"]["schema"]["enum"][0]: one for one in body["oneOf"]}


def examples(client, path="/predict"):
    response = client.get("/api/v1/schema", headers={"Accept": "application/json"})
    body = json.loads(response.content)["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return list(body["examples"].values())


def test_the_first_example_works_on_this_installation(worker, client, acme_api):
    for path in ("/predict", "/api/v1/predict", "/api/v1/predict/batch"):
        first = json.dumps(examples(client, path)[0]["value"])
        response = acme_api.post(path, data=first, content_type="application/json")
        assert response.status_code == 200, response.content
        assert all(result["status"] == 200 for result in response.json().get("results", []))


def test_the_first_example_is_of_a_schema_with_a_champion(handbook_champion, client):
    first, *others = examples(client)
    assert first["value"]["schema"] == "handbook"
    assert all("no champion" in each["summary"] for each in others)
    [several] = examples(client, "/api/v1/predict/batch")
    assert {row["schema"] for row in several["value"]["transactions"]} == {"handbook"}


def test_without_any_champion_the_first_example_is_of_the_schema_that_may_be_left_out(client):
    first, *others = ["schema" in example["value"] for example in examples(client)]
    assert not first
    assert all(others)


def test_it_says_what_a_schema_without_a_champion_is_answered(document):
    description = document["paths"]["/api/v1/predict"]["post"]["responses"]["503"]["description"]
    assert "schema-without-a-champion" in description


def test_the_page_for_people_loads_nothing_from_elsewhere(client):
    page = client.get(reverse("docs")).content.decode()
    assert "swagger" in page
    assert "https://" not in page
    assert "unpkg" not in page
