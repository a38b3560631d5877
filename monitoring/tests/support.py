"""Predictions as the workers would have stored them, at any time and with any outcome."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from scoring.models import Client, Decision, Fallback, Pending, Prediction, Review, Transaction
from scoring.worker.opening import review_of
from training.models import ModelVersion
from training.tests.support import made_up_rows

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def made_up_fields(count: int, *, seed: int = 7, **shifts: float) -> list[dict[str, float]]:
    """Fields of legitimate transactions that the tiny model's training rows resemble; each of `shifts` is added."""
    from training.core.schema import load_schema

    names = load_schema("ulb").feature_names
    features, _ = made_up_rows(count, 0, seed)
    for name, shift in shifts.items():
        features[:, names.index(name)] += shift
    return [dict(zip(names, row, strict=True)) for row in features.tolist()]


def transactions(
    client: Client, times: Iterable[datetime], fields: list[dict[str, Any]] | None = None, schema: str = "ulb"
) -> Any:
    times = list(times)
    amount = "Amount" if schema == "ulb" else "amount"
    fields = fields or [{amount: 12.5}] * len(times)
    rows = [
        Transaction(
            client=client,
            schema=schema,
            amount=row[amount],
            fields=row,
            body_sha256="0" * 64,
            event_time=time,
            received_at=time,
        )
        for time, row in zip(times, fields, strict=True)
    ]
    return Transaction.objects.bulk_create(rows)


def predict(
    version: ModelVersion,
    client: Client,
    times: Iterable[datetime],
    *,
    decision: Decision = Decision.APPROVE,
    fields: list[dict[str, Any]] | None = None,
    fraud_scores: Iterable[float] | None = None,
    latencies_ms: Iterable[float] | None = None,
) -> list[Prediction]:
    """A prediction at each of the times, and a review where the decision is an alert."""
    rows = transactions(client, times, fields, version.schema)
    fraud_scores = [0.01] * len(rows) if fraud_scores is None else fraud_scores
    latencies_ms = [4.0] * len(rows) if latencies_ms is None else latencies_ms
    predictions = Prediction.objects.bulk_create(
        Prediction(
            transaction=row,
            model_version=version,
            fraud_score=score,
            decision=decision,
            threshold=0.5,
            reasons=[{"feature": "V14", "contribution": 3.25}] if decision != Decision.APPROVE else [],
            latency_ms=latency_ms,
            created_at=row.received_at,
        )
        for row, score, latency_ms in zip(rows, fraud_scores, latencies_ms, strict=True)
    )
    Review.objects.bulk_create(review_of(prediction) for prediction in predictions if prediction.is_alert)
    return predictions


def fall_back(client: Client, times: Iterable[datetime], *, attempts: int = 0) -> list[Fallback]:
    """An answer without a score at each of the times; its transaction waits for the score."""
    rows = transactions(client, times)
    Pending.objects.bulk_create(
        Pending(transaction=row, attempts=attempts, due_at=row.received_at + timedelta(seconds=10)) for row in rows
    )
    return Fallback.objects.bulk_create(
        Fallback(
            transaction=row,
            decision=Decision.APPROVE,
            reason=Fallback.Reason.DEADLINE,
            latency_ms=1000.0,
            created_at=row.received_at,
        )
        for row in rows
    )


def moments(count: int, *, before: datetime, within: timedelta, seed: int = 0) -> list[datetime]:
    """So many moments of the time `within` before a moment, in no order."""
    seconds = np.random.default_rng(seed).uniform(0, within.total_seconds(), count)
    return [before - timedelta(seconds=second) for second in seconds.tolist()]


def decide(reviews, analyst, state, at, **columns):
    keys = [review.pk for review in reviews]
    Review.objects.filter(pk__in=keys).update(state=state, closed_at=at, reviewer=analyst, **columns)
