"""predict/batch: many transactions in one call, one answer each."""

import json
from functools import partial

import pytest

from fraudsite.testing import fraudulent_payload, seed_payload
from scoring.models import Prediction, Review, Transaction


@pytest.fixture
def post(post):
    return partial(post, path="/api/v1/predict/batch")


def test_it_answers_for_each_transaction_in_order_and_stores_all(worker, post):
    rows = [seed_payload(transaction_id=f"order-{n}", Amount=n) for n in range(600)]
    response = post({"transactions": rows})
    assert response.status_code == 200, response.content
    results = response.json()["results"]
    assert [result["status"] for result in results] == [200] * 600
    assert [result["prediction"]["transaction_id"] for result in results] == [row["transaction_id"] for row in rows]
    stored = {str(row.pk): row.amount for row in Transaction.objects.all()}
    assert [stored[result["prediction"]["id"]] for result in results] == list(range(600))


def test_it_answers_as_a_call_for_each_would(worker, acme_api, post):
    [result] = post({"transactions": [fraudulent_payload(transaction_id="order-1")]}).json()["results"]
    alone = acme_api.post(
        "/predict", data=json.dumps(fraudulent_payload(transaction_id="order-1")), content_type="application/json"
    )
    assert alone["Idempotent-Replayed"] == "true"
    assert alone.json() == result["prediction"]
    assert Review.objects.count() == 1


def test_it_reports_bad_rows_by_their_place_and_scores_the_others(worker, post):
    rows = [seed_payload(), seed_payload(V1="x"), 7, seed_payload(Amount=-1), seed_payload()]
    response = post({"transactions": rows})
    results = response.json()["results"]
    assert [result["status"] for result in results] == [200, 400, 400, 422, 200]
    assert results[1]["problem"]["errors"][0]["pointer"] == "/V1"
    for result in results:
        if problem := result.get("problem"):
            assert problem.keys() == {"type", "title", "status", "detail", "instance", "request_id", "errors"}
            assert problem["status"] == result["status"]
            assert problem["type"].startswith("/problems/")
            assert problem["request_id"] == response["X-Request-ID"]
    assert Prediction.objects.count() == 2


def test_it_refuses_an_id_that_stands_twice_with_different_content(worker, post):
    rows = [seed_payload(transaction_id="order-1"), seed_payload(transaction_id="order-1", Amount=99)]
    results = post({"transactions": rows}).json()["results"]
    assert sorted(result["status"] for result in results) == [200, 409]
    assert Transaction.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("body", [{}, {"transactions": []}, {"transactions": {}}, {"transactions": [{}], "more": 1}])
def test_it_refuses_a_body_that_is_not_a_list_of_transactions(post, body):
    response = post(body)
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/transactions"


@pytest.mark.django_db
def test_it_refuses_more_transactions_than_its_limit_and_says_the_limit(post, settings):
    settings.BATCH_LIMIT = 3
    response = post({"transactions": [seed_payload()] * 4})
    assert response.status_code == 400
    assert "3" in response.json()["errors"][0]["detail"]


@pytest.mark.django_db
def test_it_refuses_a_body_over_its_limit(post, settings):
    assert post(b" " * (settings.BATCH_BODY_LIMIT_BYTES + 1)).status_code == 413


@pytest.mark.django_db
def test_it_never_keeps_or_repeats_a_card_number(post):
    response = post({"transactions": [seed_payload(transaction_id="4111111111111111")]})
    [result] = response.json()["results"]
    assert result["status"] == 422
    assert b"1111" not in response.content
    assert not Transaction.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["order-1", '"order-1"', ""])
def test_it_refuses_an_idempotency_key_and_says_what_to_send(acme_api, key):
    body = json.dumps({"transactions": [seed_payload()]})
    headers = {"Idempotency-Key": key}
    response = acme_api.post("/api/v1/predict/batch", data=body, content_type="application/json", headers=headers)
    assert response.status_code == 400
    [error] = response.json()["errors"]
    assert error["code"] == "idempotency_key_of_a_list"
    assert "transaction_id" in error["detail"]


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["X-Request-ID", "Idempotency-Key"])
def test_it_refuses_a_card_number_in_a_header(acme_api, header):
    headers = {header: "4111-1111-1111-1111"}
    response = acme_api.post(
        "/api/v1/predict/batch", data='{"transactions": [{}]}', content_type="application/json", headers=headers
    )
    assert response.status_code == 422
    assert b"1111" not in response.content
