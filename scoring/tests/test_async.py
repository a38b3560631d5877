"""respond-async: a transaction is stored first and scored afterwards, even if messages are lost."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from fraudsite.testing import PROCESS_START_S, fraudulent_payload, seed_payload, suspended
from scoring import tasks
from scoring.models import Pending, Prediction, Review, Transaction
from scoring.worker import pending, predictor


@pytest.fixture
def post(post):
    return lambda payload, prefer="respond-async": post(payload, **({"Prefer": prefer} if prefer else {}))


def await_result(api, address):
    give_up = time.monotonic() + PROCESS_START_S
    while (response := api.get(address)).status_code == 202:
        assert time.monotonic() < give_up, "the score did not come"
        time.sleep(0.05)
    return response


def lose_message(monkeypatch):
    monkeypatch.setattr(tasks, "send_pending", lambda transaction_id: None)


def test_it_accepts_stores_and_scores_afterwards(worker, acme_api, post):
    response = post(fraudulent_payload(transaction_id="order-1"))
    assert response.status_code == 202
    assert response["Preference-Applied"] == "respond-async"
    assert response.json().keys() == {"id", "status", "location"}
    result = await_result(acme_api, response["Location"])
    assert result.status_code == 200
    assert result.json()["id"] == response.json()["id"]
    assert result.json()["alert"] is True
    assert Review.objects.count() == Transaction.objects.count() == 1
    assert not Pending.objects.exists()


def test_it_has_stored_the_transaction_before_it_accepts(acme_api, transactional_db, post, monkeypatch):
    lose_message(monkeypatch)
    key = post(seed_payload()).json()["id"]
    assert Transaction.objects.get(pk=key).pending.attempts == 0
    assert acme_api.get(f"/api/v1/predictions/{key}").status_code == 202


def test_it_accepts_while_the_broker_hangs(worker, acme_api, post, settings):
    from scoring.messages import replies

    with suspended(replies.connection().info("server")["process_id"]):
        assert post(seed_payload()).status_code == 202
        # Awake again, the broker may deliver at once what it had been sent.
        assert Pending.objects.count() == 1


def test_a_message_that_was_lost_is_sent_again(worker, acme_api, post, monkeypatch):
    lose_message(monkeypatch)
    response = post(seed_payload())
    Pending.objects.update(due_at=timezone.now())
    tasks.resend_pending()
    assert await_result(acme_api, response["Location"]).status_code == 200


@pytest.mark.django_db
def test_one_of_two_reconcilers_claims_a_transaction_and_waits_longer_each_time(acme_api, post, monkeypatch, settings):
    lose_message(monkeypatch)
    post(seed_payload())
    assert pending.claim_due(limit=10) == []
    waits = []
    for _ in range(3):
        Pending.objects.update(due_at=timezone.now())
        assert len(pending.claim_due(limit=10)) == 1
        assert pending.claim_due(limit=10) == []
        waits.append(Pending.objects.get().due_at - timezone.now())
    assert waits[0] < waits[1] < waits[2]


@pytest.mark.django_db
def test_a_transaction_that_always_fails_is_left_to_a_person(acme_api, post, monkeypatch, settings):
    lose_message(monkeypatch)
    key = post(seed_payload()).json()["id"]
    Pending.objects.update(attempts=settings.PENDING_ATTEMPTS_LIMIT, due_at=timezone.now() - timedelta(days=1))
    assert pending.claim_due(limit=10) == []
    response = acme_api.get(f"/api/v1/predictions/{key}")
    assert response.status_code == 422
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.django_db
def test_a_message_that_comes_twice_scores_once(champion, acme_api, post, monkeypatch):
    lose_message(monkeypatch)
    key = post(fraudulent_payload()).json()["id"]
    model = predictor.current("ulb")
    assert pending.score(transaction_ids=[key], predictor=model) == 1
    prediction = Prediction.objects.get()
    assert min(prediction.features_ms, prediction.model_ms, prediction.queue_ms) > 0
    assert prediction.latency_ms > prediction.queue_ms + prediction.features_ms + prediction.model_ms
    assert pending.score(transaction_ids=[key], predictor=model) == 0
    assert Prediction.objects.count() == Review.objects.count() == 1


def test_it_gives_the_stored_answer_to_a_repeat_of_what_was_scored(worker, acme_api, post):
    first = await_result(acme_api, post(seed_payload(transaction_id="order-1"))["Location"])
    again = post(seed_payload(transaction_id="order-1"))
    assert (again.status_code, again.content) == (200, first.content)
    assert again["Idempotent-Replayed"] == "true"


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{}, {"Amount": 99}])
def test_it_knows_a_repeat_of_what_still_waits(post, monkeypatch, change):
    lose_message(monkeypatch)
    first = post(seed_payload(transaction_id="order-1"))
    again = post(seed_payload(transaction_id="order-1") | change)
    if change:
        assert again.status_code == 409
    else:
        assert (again.status_code, again["Location"]) == (202, first["Location"])
    assert Transaction.objects.count() == 1


def test_a_waiting_call_for_what_was_accepted_hears_that_it_waits(worker, acme_api, post, monkeypatch):
    lose_message(monkeypatch)
    accepted = post(seed_payload(transaction_id="order-1"))
    waiting = post(seed_payload(transaction_id="order-1"), prefer="")
    assert (waiting.status_code, waiting["Location"]) == (202, accepted["Location"])
    assert Transaction.objects.count() == 1
