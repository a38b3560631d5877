"""Deadlines, and what is decided without a score when the settings ask for it."""

import time

import pytest

from fraudsite.testing import PROCESS_START_S, fraudulent_payload, seed_payload, submission, suspended
from scoring import gateway, tasks
from scoring.lists import changes
from scoring.lists.changes import Addition
from scoring.models import Fallback, Pending, Prediction, Review, Transaction

pytestmark = pytest.mark.alone


@pytest.fixture
def rules(settings):
    settings.FALLBACK_POLICY = "rules"
    settings.FALLBACK_REVIEW_AMOUNT = 100.0
    settings.PREDICT_DEADLINE_MS = 300


@pytest.mark.parametrize(("payload", "headers"), [({"deadline_ms": 200}, {}), ({}, {"Prefer": "wait=0"})])
def test_a_client_may_wait_less_than_the_server_would(worker, post, settings, payload, headers):
    settings.PREDICT_DEADLINE_MS = 30_000
    with suspended(worker.pid):
        began = time.monotonic()
        assert post(seed_payload(**payload), **headers).status_code == 503
        assert time.monotonic() - began < 5
    assert post(seed_payload()).status_code == 200


def test_a_client_cannot_wait_longer_than_the_server(worker, post, settings):
    settings.PREDICT_DEADLINE_MS = 200
    with suspended(worker.pid):
        began = time.monotonic()
        assert post(seed_payload(deadline_ms=60_000), Prefer="wait=60").status_code == 503
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(("amount", "decision"), [(99.99, "approve"), (100, "review")])
def test_rules_decide_while_the_worker_hangs_and_the_answer_says_so(worker, post, rules, amount, decision):
    with suspended(worker.pid):
        response = post(seed_payload(Amount=amount, transaction_id="order-1"))
    assert response.status_code == 200, response.content
    answer = response.json()
    assert (answer["degraded"], answer["decision"], answer["alert"]) == ("deadline", decision, decision == "review")
    assert answer["fraud_score"] is answer["is_fraud"] is answer["threshold"] is answer["model_version"] is None
    assert Fallback.objects.get().decision == decision


def test_lists_decide_while_the_worker_hangs(worker, post, rules):
    blocked = changes.create(schema="ulb", name="blocked", about="Amount", action="block", max_amount=500, by="ada")
    trusted = changes.create(schema="ulb", name="trusted", about="Amount", action="approve", by="ada")
    for row, amount in ((blocked, "12.5"), (blocked, "777.5"), (trusted, "777.5")):
        changes.add_one(row, Addition(amount), by="ada")
    with suspended(worker.pid):
        answers = [post(seed_payload(Amount=amount)).json() for amount in (12.5, 777.5, 888.5)]
    told = [(answer["decision"], answer["basis"], answer["lists"]) for answer in answers]
    assert told == [("block", "list", ["blocked"]), ("approve", "list", ["trusted"]), ("review", "fallback", [])]


def test_a_degraded_answer_is_repeated_and_read_like_any_other(worker, acme_api, post, rules):
    with suspended(worker.pid):
        first = post(seed_payload(transaction_id="order-1"))
    again = post(seed_payload(transaction_id="order-1"))
    assert again["Idempotent-Replayed"] == "true"
    assert again.content == first.content
    assert acme_api.get(f"/api/v1/predictions/{first.json()['id']}").content == first.content
    assert post(seed_payload(transaction_id="order-1", Amount=1)).status_code == 409
    assert Transaction.objects.count() == 1


def test_what_was_decided_by_rules_is_scored_when_the_worker_returns(worker, acme_api, post, rules):
    with suspended(worker.pid):
        given = post(fraudulent_payload()).json()
    assert not Review.objects.exists()
    tasks.send_pending(given["id"])
    give_up = time.monotonic() + PROCESS_START_S
    while Pending.objects.exists():
        assert time.monotonic() < give_up
        time.sleep(0.05)
    read = acme_api.get(f"/api/v1/predictions/{given['id']}").json()
    rescored = read.pop("rescored")
    assert read == given
    assert rescored["alert"] is True
    assert Review.objects.get().fraud_score == rescored["fraud_score"]


def test_a_review_that_rules_asked_for_comes_to_the_analysts_with_its_score(worker, post, rules):
    with suspended(worker.pid):
        given = post(seed_payload(Amount=5000)).json()
    tasks.score_pending([given["id"]])
    assert Prediction.objects.get().decision == "approve"
    assert Review.objects.get().fraud_score == Prediction.objects.get().fraud_score


def test_once_workers_are_known_to_be_gone_nobody_waits_for_the_deadline(worker, post, settings, monkeypatch):
    settings.PREDICT_DEADLINE_MS = 200
    line = gateway.Gateway("realtime", line_limit=100, batch_limit=10, batches_under_way=2, patience_ms=200)
    monkeypatch.setattr(gateway, "realtime", lambda: line)
    with suspended(worker.pid):
        for _ in range(3 * settings.GATEWAY_SILENCE_LIMIT):
            assert post(seed_payload()).status_code == 503
        # The next call is the probe; while it waits, the others are refused at once.
        settings.PREDICT_DEADLINE_MS = 5_000
        line._patience_s = 5
        probe = line.join([submission(1, seed_payload(), deadline_ms=5_000)])
        time.sleep(0.2)
        began = time.monotonic()
        assert post(seed_payload()).status_code == 503
        assert time.monotonic() - began < 2
    probe.wait()
    assert post(seed_payload()).status_code == 200
    line.close()


def test_idempotency_key_is_another_way_to_send_the_transaction_id(worker, post):
    first = post(seed_payload(), **{"Idempotency-Key": "order-1"})
    assert first.json()["transaction_id"] == "order-1"
    again = post(seed_payload(transaction_id="order-1"))
    assert again["Idempotent-Replayed"] == "true"
    assert again.content == first.content
    assert post(seed_payload(Amount=1), **{"Idempotency-Key": "order-1"}).status_code == 409


@pytest.mark.django_db
@pytest.mark.parametrize(("key", "status"), [("", 400), ("x" * 65, 400), ("other", 400), ("4111111111111111", 422)])
def test_it_refuses_an_unusable_idempotency_key(post, key, status):
    response = post(seed_payload(transaction_id="order-1"), **{"Idempotency-Key": key})
    assert response.status_code == status
    assert b"41111111" not in response.content
    assert not Transaction.objects.exists()
