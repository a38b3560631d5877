import json

import pytest
from django.urls import reverse

from training.schema import load_schema


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
        "/api/v1/predictions/{prediction_id}",
    }
    assert set(document["paths"]["/api/v1/predict"]["post"]["responses"]) >= {"200", "400", "401", "409", "422", "503"}


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


def _bodies(document):
    """The bodies that the predict call takes, by schema."""
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return {one["properties"]["schema"]["enum"][0]: one for one in body["oneOf"]}


def test_the_page_for_people_loads_nothing_from_elsewhere(client):
    page = client.get(reverse("docs")).content.decode()
    assert "swagger" in page
    assert "https://" not in page
    assert "unpkg" not in page
