"""Which events are told to whom: in the transaction of what happened, and without personal values."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, seed_payload, submission
from scoring.messages.submission import Submission
from scoring.models import (
    Decision,
    Fallback,
    Pending,
    PolicyVersion,
    Prediction,
    Review,
    ReviewQueue,
    WebhookDelivery,
)
from scoring.policies import versions
from scoring.reviews import due, labelling
from scoring.tests.receivers import subscribe
from scoring.webhooks import events
from scoring.webhooks.types import EventType
from scoring.worker import batches, pending, predictor
from training import registry

pytestmark = pytest.mark.django_db

HOOK = "https://hooks.example/fraud"


def told(*types):
    """The payloads in the outbox, in order."""
    rows = WebhookDelivery.objects.order_by("pk")
    return [json.loads(row.payload) for row in (rows.filter(type__in=types) if types else rows)]


def score(client, *payloads):
    sent: list[Submission] = [submission(client.pk, payload) for payload in payloads]
    batches.score_batch(submissions=sent, predictor=predictor.current("ulb"), started_at=timezone.now().timestamp())
    return sent


@pytest.fixture
def hook(acme, champion):
    return subscribe(acme, HOOK)[0]


def test_an_alert_is_told_with_its_prediction_and_without_personal_values(acme, hook, champion):
    [sent] = score(acme, fraudulent_payload(transaction_id="order-7"))
    [event] = told()
    row = Prediction.objects.get()
    assert event["type"] == "alert.opened"
    assert event["data"] == {
        "id": sent.id,
        "transaction_id": "order-7",
        "schema": "ulb",
        "decision": row.decision,
        "fraud_score": row.fraud_score,
        "reason_codes": [reason["feature"] for reason in row.reasons],
    }
    assert row.reasons
    assert WebhookDelivery.objects.get().object == sent.id


def test_a_repeated_transaction_is_told_once_and_an_approved_one_never(acme, hook, champion):
    score(acme, fraudulent_payload(transaction_id="order-7"), seed_payload(transaction_id="order-8"))
    score(acme, fraudulent_payload(transaction_id="order-7"))
    assert [event["data"]["transaction_id"] for event in told()] == ["order-7"]


def test_without_an_endpoint_nothing_is_stored_and_on_postgresql_a_batch_stays_one_statement(acme, champion):
    score(acme, seed_payload())
    with CaptureQueriesContext(connection) as queries:
        score(acme, fraudulent_payload())
    assert not WebhookDelivery.objects.exists()
    if connection.vendor == "postgresql":
        assert len(queries) <= 1  # Django does not see the statement itself


@pytest.mark.parametrize(
    "changes",
    [
        {"types": ["batch.finished"]},
        {"schemas": ("handbook",)},
        {"state": "disabled"},
        {"state": "removed"},
    ],
)
def test_an_endpoint_hears_only_what_it_is_subscribed_to(acme, champion, changes):
    endpoint, _ = subscribe(acme, HOOK, *changes.get("types", []), schemas=changes.get("schemas", ()))
    endpoint.state = changes.get("state", endpoint.state)
    endpoint.save()
    score(acme, fraudulent_payload())
    alert = Review.objects.get()
    labelling.add_label(transaction_id=alert.pk, is_fraud=True, source="analyst", reason="seen")
    assert told() == []


def test_each_endpoint_of_a_client_is_told_and_the_message_has_one_id(acme, hook, champion):
    subscribe(acme, HOOK + "2", EventType.ALERT_OPENED, schemas=("ulb", "handbook"))
    score(acme, fraudulent_payload())
    first, second = WebhookDelivery.objects.order_by("pk")
    assert first.message_id == second.message_id
    assert {first.endpoint.url, second.endpoint.url} == {HOOK, HOOK + "2"}


def test_no_client_hears_of_anothers_events(acme, globex, champion, alice):
    mine, _ = subscribe(acme, HOOK)
    theirs, _ = subscribe(globex, HOOK)
    score(acme, fraudulent_payload())
    labelling.close_review(review=Review.objects.get(), is_fraud=True, reviewer=alice)
    labelling.reopen_review(review=Review.objects.get(), author=alice, reason="again")
    events.record(EventType.BATCH_FINISHED, object="batch:1", data={"id": 1}, client=acme.pk)
    assert set(WebhookDelivery.objects.values_list("endpoint", "type")) == {
        (mine.pk, kind) for kind in ("alert.opened", "review.decided", "decision.changed", "batch.finished")
    }
    assert not theirs.deliveries.exists()


def test_a_decision_on_a_review_is_told_without_the_name_and_note_of_who_decided(hook, alert, alice):
    review = alert(0.9, transaction_id="order-7")
    labelling.close_review(review=review, is_fraud=True, reviewer=alice, note="Mrs Doe called")
    [event] = told()
    assert event["data"] == {
        "id": str(review.pk),
        "transaction_id": "order-7",
        "schema": "ulb",
        "decision": "review",
        "fraud_score": 0.9,
        "outcome": "fraud",
        "decided_by": "analyst",
        "reason_code": None,
    }


def test_what_changes_a_decision_is_told_with_its_cause(hook, alert, alice):
    review = alert(0.9)
    act = uuid4()
    labelling.close_review(review=review, is_fraud=True, reviewer=alice, act=act)
    labelling.undo(act=act, author=alice)
    labelling.close_review(review=review, is_fraud=True, reviewer=alice)
    labelling.add_label(transaction_id=review.pk, is_fraud=False, source="analyst", author=alice, reason="a mistake")
    labelling.reopen_review(review=review, author=alice, reason="again")
    assert [(event["type"], event["data"].get("cause"), event["data"].get("after")) for event in told()] == [
        ("review.decided", None, None),
        ("decision.changed", "undone", "open"),
        ("review.decided", None, None),
        ("decision.changed", "corrected", "legitimate"),
        ("decision.changed", "reopened", "open"),
    ]


def test_a_label_that_leaves_the_review_as_it_is_tells_nothing(hook, alert):
    review = alert(0.9)
    labelling.add_label(transaction_id=review.pk, is_fraud=True, source="chargeback")
    assert told() == []


def test_a_review_that_its_queue_closes_is_told(hook, alert):
    review = alert(0.9)
    queue = ReviewQueue.objects.create(name="q", position=1, due_minutes=1, when_due="legitimate")
    Review.objects.filter(pk=review.pk).update(queue=queue, due_at=timezone.now() - timedelta(minutes=1))
    assert due.act_on_late() == 1
    [event] = told()
    assert (event["data"]["outcome"], event["data"]["decided_by"]) == ("legitimate", "due_time")


def test_a_decision_that_is_rolled_back_tells_nothing(hook, alert, alice):
    review = alert(0.9)

    class Failed(Exception):
        pass

    def decide():
        with transaction.atomic():
            assert labelling.close_review(review=review, is_fraud=True, reviewer=alice)
            assert told()
            raise Failed

    with pytest.raises(Failed):
        decide()
    assert told() == []
    review.refresh_from_db()
    assert review.state == Review.State.OPEN


def test_a_decision_is_not_stored_if_its_event_cannot_be(hook, alert, alice, monkeypatch):
    review = alert(0.9)

    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(WebhookDelivery.objects, "bulk_create", fail)
    with pytest.raises(RuntimeError):
        labelling.close_review(review=review, is_fraud=True, reviewer=alice)
    review.refresh_from_db()
    assert review.state == Review.State.OPEN


def test_a_score_that_follows_a_fallback_tells_of_another_decision(hook, transaction, champion):
    row = transaction()
    Fallback.objects.create(transaction=row, decision=Decision.REVIEW, reason="deadline", latency_ms=1)
    Pending.objects.create(transaction=row, due_at=timezone.now())
    for _ in range(2):  # a repeat of the message tells nothing more
        pending.score(transaction_ids=[row.pk], predictor=predictor.current("ulb"))
    [opened] = told("alert.opened")
    assert opened["data"]["decision"] == "review"
    [changed] = told("decision.changed")
    about = changed["data"]
    assert (about["cause"], about["before"], about["after"]) == ("scored", "review", "approve")


def test_a_promotion_is_told_to_every_client_that_asked(acme, globex, bundle):
    subscribe(acme, HOOK)
    subscribe(globex, HOOK, EventType.MODEL_PROMOTED)
    subscribe(globex, HOOK, EventType.MODEL_PROMOTED, schemas=("handbook",))
    registry.register(bundle, promote=True)
    first, second = told("model.promoted")
    assert first == second
    assert first["data"] == {"schema": "ulb", "model_version": bundle.version, "action": "promote"}


def test_a_policy_that_goes_live_and_back_is_told(hook, champion):
    version = versions.draft(schema="ulb", by="rita")
    assert told("policy.changed") == []
    versions.activate(version, by="rita")
    versions.roll_back(schema="ulb", by="rita")
    live, back = (event["data"] for event in told("policy.changed"))
    assert live == {"schema": "ulb", "policy_version": 1, "previous_policy_version": None, "action": "activate"}
    assert back == {"schema": "ulb", "policy_version": None, "previous_policy_version": 1, "action": "roll_back"}
    assert PolicyVersion.objects.get().state == PolicyVersion.State.RETIRED
