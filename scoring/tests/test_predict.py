"""The predict call, through HTTP and a real worker process on a real Redis."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraudsite.testing import api_of, fraudulent_payload, seed_payload, soon
from scoring.api.validation import refuse_card_data, validate
from scoring.models import Prediction, Review, Transaction
from training.core.schema import load_schema


def predict(api, payload, path="/predict"):
    return api.post(path, data=json.dumps(payload), content_type="application/json")


def test_it_answers_an_ordinary_transaction_and_stores_it(worker, champion, acme, acme_api):
    response = predict(acme_api, seed_payload())
    assert response.status_code == 200, response.content
    answer = response.json()
    assert 0 <= answer["fraud_score"] < champion.review_threshold
    assert (answer["is_fraud"], answer["alert"], answer["decision"]) == (False, False, "approve")
    assert answer["threshold"] == champion.review_threshold
    assert answer["model_version"] == champion.version
    assert answer["latency_ms"] > 0
    stored = Transaction.objects.get(pk=answer["id"])
    assert stored.client == acme
    assert stored.fields == seed_payload()
    assert stored.amount == 12.5
    assert stored.prediction.fraud_score == answer["fraud_score"]
    assert not Review.objects.exists()


def test_it_sends_a_suspicious_transaction_to_the_analysts_with_reasons(worker, champion, acme_api):
    answer = predict(acme_api, fraudulent_payload()).json()
    assert answer["fraud_score"] >= champion.review_threshold
    assert (answer["is_fraud"], answer["alert"]) == (True, True)
    assert answer["decision"] in {"review", "block"}
    assert answer["reasons"][0]["feature"] in {"V3", "V4", "V10", "V12", "V14", "V17"}
    contributions = [reason["contribution"] for reason in answer["reasons"]]
    assert contributions == sorted(contributions, reverse=True)
    assert answer["reasons"][0]["text"].startswith("Principal component")
    assert " % are at " in answer["reasons"][0]["text"]
    review = Review.objects.get()
    assert str(review.pk) == answer["id"]
    assert (review.state, review.fraud_score) == ("open", answer["fraud_score"])


def test_it_is_one_endpoint_under_two_addresses(worker, acme_api):
    payload = seed_payload(transaction_id="order-1")
    first = predict(acme_api, payload, "/predict")
    second = predict(acme_api, payload, "/api/v1/predict")
    assert first.content == second.content


def test_it_reads_a_stored_prediction_again_byte_for_byte(worker, acme_api):
    answered = predict(acme_api, fraudulent_payload(transaction_id="order-1", event_time="2026-11-01T10:00:00+02:00"))
    prediction_id = answered.json()["id"]
    assert acme_api.get(f"/api/v1/predictions/{prediction_id}").content == answered.content


def test_it_hides_a_prediction_from_other_clients(worker, acme_api, globex_api):
    prediction_id = predict(acme_api, seed_payload()).json()["id"]
    foreign = globex_api.get(f"/api/v1/predictions/{prediction_id}")
    unknown = globex_api.get(f"/api/v1/predictions/{uuid.uuid4()}")
    assert foreign.status_code == unknown.status_code == 404
    assert foreign["Content-Type"] == "application/problem+json"
    assert foreign.json().keys() == unknown.json().keys()


def test_it_repeats_the_stored_answer_to_the_same_id_and_body(worker, acme_api):
    first = predict(acme_api, fraudulent_payload(transaction_id="order-1"))
    again = predict(acme_api, dict(reversed(fraudulent_payload(transaction_id="order-1").items())))
    assert again.content == first.content
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert (Transaction.objects.count(), Prediction.objects.count(), Review.objects.count()) == (1, 1, 1)


@pytest.mark.parametrize("change", [{"Amount": 12.51}, {"event_time": "2026-11-01T10:00:00Z"}])
def test_it_refuses_the_same_id_with_another_body(worker, acme_api, change):
    predict(acme_api, seed_payload(transaction_id="order-1"))
    response = predict(acme_api, seed_payload(transaction_id="order-1") | change)
    assert response.status_code == 409
    assert response["Content-Type"] == "application/problem+json"
    assert Transaction.objects.count() == 1


def test_it_keeps_the_ids_of_clients_apart(worker, acme_api, globex_api):
    ours = predict(acme_api, seed_payload(transaction_id="order-1"))
    theirs = predict(globex_api, seed_payload(transaction_id="order-1", Amount=99))
    assert (ours.status_code, theirs.status_code) == (200, 200)
    assert Transaction.objects.count() == 2


def test_it_makes_one_row_of_fifty_parallel_repeats(worker, acme):
    apis = [api_of(acme) for _ in range(2)]
    payload = fraudulent_payload(transaction_id="order-1")

    def post(number):
        try:
            return predict(apis[number % 2], payload)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(50) as pool:
        responses = list(pool.map(post, range(50)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1
    assert (Transaction.objects.count(), Prediction.objects.count(), Review.objects.count()) == (1, 1, 1)


def test_it_answers_each_of_many_parallel_requests_with_its_own_score(worker, acme):
    api = api_of(acme)
    payloads = [seed_payload(transaction_id=f"order-{n}", Amount=n, V14=-n / 5) for n in range(40)]

    def post(payload):
        try:
            return predict(api, payload).json()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(40) as pool:
        together = list(pool.map(post, payloads))
    assert [answer["transaction_id"] for answer in together] == [payload["transaction_id"] for payload in payloads]
    for payload, answer in zip(payloads, together, strict=True):
        assert Transaction.objects.get(pk=answer["id"]).amount == payload["Amount"]
        alone = predict(api, {name: value for name, value in payload.items() if name != "transaction_id"}).json()
        assert alone["fraud_score"] == pytest.approx(answer["fraud_score"], abs=1e-6)


@given(amount=st.floats(0, 1e6), v1=st.one_of(st.floats(-200, 200), st.integers(-200, 200)))
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_accepts_every_value_inside_the_declared_ranges(worker, acme_api, amount, v1):
    response = predict(acme_api, seed_payload(Amount=amount, V1=v1))
    assert response.status_code == 200, response.content
    stored = Transaction.objects.get(pk=response.json()["id"])
    assert (stored.amount, stored.fields["V1"]) == (amount, v1)


# A digest of digits alone is as good as never drawn, and may hold a card number.
DIGESTS = st.binary(min_size=20, max_size=32).map(bytes.hex).filter(lambda text: sum(map(str.isalpha, text)) >= 4)


@given(st.one_of(st.uuids().map(str), st.uuids().map(lambda it: it.hex), DIGESTS))
def test_it_takes_no_uuid_or_hash_for_a_card_number(transaction_id):
    body = seed_payload(transaction_id=transaction_id[:64])
    now = timezone.now()
    refuse_card_data(body, {"Idempotency-Key": transaction_id, "X-Request-ID": transaction_id})
    assert validate(body, schema=load_schema("ulb"), client_id=1, received_at=now, deadline_ms=1000, clock_skew_s=0)


def test_it_scores_by_the_thresholds_that_hold_now(worker, champion, acme_api):
    champion.review_threshold, champion.block_threshold = 0.0, 0.0
    champion.save()
    answer = soon(lambda: predict(acme_api, seed_payload()).json(), lambda answer: answer["decision"] == "block")
    assert answer["decision"] == "block"
