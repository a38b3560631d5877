"""What a review copies when it is opened: by a call, by a later score, after a fallback; and of rows of before."""

import time
from importlib import import_module

import pytest
from django.apps import apps
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, seed_payload, submission
from scoring.models import Decision, Fallback, Pending, Review, Transaction
from scoring.policies import versions
from scoring.policies.document import Document, Rule, State
from scoring.worker import batches, pending, predictor

pytestmark = pytest.mark.django_db
COPIES = ("fraud_score", "expected_loss", "client_id", "schema", "amount", "decision", "reason", "rules", "card")


@pytest.fixture
def scorer(champion):
    rules = [
        Rule(name=name, when=f"Amount > {above}", action=Decision.REVIEW, state=state)
        for name, above, state in (
            ("large", 100, State.ACTIVE),
            ("positive", 1, State.ACTIVE),
            ("seen", 0, State.SHADOW),
        )
    ]
    versions.activate(versions.draft(schema="ulb", by="rita", content=Document(rules=rules)), by="rita")
    return predictor.refresh("ulb")


def copies(review):
    return {name: getattr(review, name) for name in COPIES}


def expected(review, rules, decision):
    prediction = review.prediction
    amount = prediction.transaction.amount
    return {
        "fraud_score": prediction.fraud_score,
        "expected_loss": prediction.fraud_score * amount,
        "client_id": prediction.transaction.client_id,
        "schema": "ulb",
        "amount": amount,
        "decision": decision,
        "reason": prediction.reasons[0]["feature"] if prediction.reasons else "",
        "rules": rules,
        "card": "",
    }


def test_a_call_opens_a_review_with_its_loss_and_what_filters_ask_for(scorer, acme):
    batch = [submission(acme.pk, fraudulent_payload(Amount=200.0)), submission(acme.pk, seed_payload(Amount=0.5))]
    batches.score_batch(submissions=batch, predictor=scorer, started_at=time.time())
    review = Review.objects.get()
    assert copies(review) == expected(review, " large positive ", review.prediction.decision)
    assert review.expected_loss > 100
    assert review.reason
    assert review.state == "open"
    assert review.opened_at == review.prediction.created_at


@pytest.mark.parametrize("answered", [None, Decision.REVIEW])
def test_a_later_score_opens_one_with_what_the_client_heard(scorer, acme, answered):
    payload = seed_payload(Amount=0.5) if answered else fraudulent_payload(Amount=50.0)
    pending.accept(submission=submission(acme.pk, payload))
    waiting = Pending.objects.get()
    if answered:
        row = Transaction.objects.get()
        Fallback.objects.create(transaction=row, decision=answered, reason="deadline", latency_ms=1.0)
    pending.score(transaction_ids=[waiting.pk], predictor=scorer)
    review = Review.objects.get()
    assert copies(review) == expected(review, "" if answered else " positive ", answered or review.prediction.decision)


def test_reviews_of_before_the_copies_are_given_them_by_the_migration(scorer, acme):
    batch = [submission(acme.pk, fraudulent_payload(Amount=200.0)) for _ in range(2)]
    batches.score_batch(submissions=batch, predictor=scorer, started_at=time.time())
    before = {review.pk: copies(review) for review in Review.objects.all()}
    Review.objects.update(expected_loss=0, client=None, schema="", amount=0, decision="", reason="", rules="")
    import_module("scoring.migrations.0035_review_copies").fill_copies(apps, None)
    assert {review.pk: copies(review) for review in Review.objects.all()} == before


def test_the_card_is_that_of_the_schema(handbook_champion, acme):
    payload = {"schema": "handbook", "amount": 900.5, "customer": "ada", "terminal": "corner shop"}
    rule = Rule(name="all_of_them", when="amount > 0", action=Decision.REVIEW, state=State.ACTIVE)
    versions.activate(versions.draft(schema="handbook", by="rita", content=Document(rules=[rule])), by="rita")
    batch = [submission(acme.pk, payload | {"event_time": timezone.now().isoformat()})]
    batches.score_batch(submissions=batch, predictor=predictor.refresh("handbook"), started_at=time.time())
    assert Review.objects.get().card == Transaction.objects.get().tokens["customer"]
