"""A worker scores what somebody still waits for, and nothing else."""

import time

import pytest

from fraudsite.testing import seed_payload, submission
from scoring.messages.replies import Kind
from scoring.models import Transaction
from scoring.worker import batches
from scoring.worker.predictor import Predictor


@pytest.fixture
def predictor(champion):
    return Predictor(champion)


def waiting(client, transaction_id, *, deadline_ms):
    return submission(client.pk, seed_payload(transaction_id=transaction_id), deadline_ms=deadline_ms)


def test_what_nobody_waits_for_any_more_is_neither_scored_nor_stored(predictor, acme):
    batch = [
        waiting(acme, "too late", deadline_ms=-1_000),
        waiting(acme, "in time", deadline_ms=60_000),
        waiting(acme, "too late as well", deadline_ms=-1),
    ]
    outcomes, _ = batches.score_batch(submissions=batch, predictor=predictor, started_at=time.time())
    assert [outcome.kind for outcome in outcomes] == [Kind.EXPIRED, Kind.SCORED, Kind.EXPIRED]
    assert [row.transaction_id for row in Transaction.objects.all()] == ["in time"]


def test_at_its_deadline_nobody_waits_any_more(predictor, acme):
    late = waiting(acme, "just late", deadline_ms=1_000)
    outcomes, stages = batches.score_batch(submissions=[late], predictor=predictor, started_at=late.deadline)
    assert [outcome.kind for outcome in outcomes] == [Kind.EXPIRED]
    assert (stages.features_s, stages.model_s) == (0, 0), "the model was not asked"
