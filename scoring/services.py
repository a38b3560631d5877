"""Every write of the scoring app."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from scoring import selectors
from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey, Client, Decision, Label, Prediction, Review, Transaction
from scoring.predictor import Predictor
from scoring.serializers import answer
from scoring.submissions import Submission

ACTIVE_KEYS_LIMIT = 2


def score_batch(*, submissions: Sequence[Submission], predictor: Predictor) -> list[dict[str, Any]]:
    """Score and store a batch; one model call, one database transaction.

    Returns, per submission and in order, `{"answer": …, "replayed": bool}` or `{"conflict": True}`. Nothing but the
    database decides which of two equal transaction ids was first, so copies of a batch, parallel repeats and
    redelivered messages all end in one row and one answer.
    """
    features = np.array([submission.features for submission in submissions], dtype=np.float32)
    scores = predictor.score(features)
    decisions = [predictor.policy.decide(score) for score in scores]
    alerts = [index for index, decision in enumerate(decisions) if decision != Decision.APPROVE]
    reasons = dict(zip(alerts, predictor.reasons(features[alerts]), strict=True)) if alerts else {}

    rows = [_transaction(submission, predictor) for submission in submissions]
    with transaction.atomic():
        landed = _insert_new(rows)
        now = timezone.now()
        predictions = {
            row.id: Prediction(
                transaction=row,
                model_version=predictor.version,
                fraud_score=float(scores[index]),
                decision=decisions[index],
                threshold=predictor.policy.review_threshold,
                reasons=reasons.get(index, []),
                latency_ms=max(0.0, (time.time() - submissions[index].received_at) * 1000),
                created_at=now,
            )
            for index, row in enumerate(rows)
            if row.id in landed
        }
        Prediction.objects.bulk_create(predictions.values())
        Review.objects.bulk_create(
            Review(prediction=prediction, fraud_score=prediction.fraud_score, opened_at=now)
            for prediction in predictions.values()
            if prediction.is_alert
        )
    repeats = [submission for submission, row in zip(submissions, rows, strict=True) if row.id not in landed]
    stored = selectors.stored_predictions(repeats)
    return [
        {"answer": answer(predictions[row.id]), "replayed": False} if row.id in landed else _repeat(submission, stored)
        for submission, row in zip(submissions, rows, strict=True)
    ]


def _transaction(submission: Submission, predictor: Predictor) -> Transaction:
    fields = dict(zip(predictor.schema.feature_names, submission.features, strict=True))
    return Transaction(
        id=UUID(submission.id),
        client_id=submission.client_id,
        transaction_id=submission.transaction_id,
        schema=submission.schema,
        amount=fields[predictor.schema.amount],
        fields=fields,
        body_sha256=submission.body_sha256,
        event_time=datetime.fromtimestamp(submission.event_time, UTC),
        received_at=datetime.fromtimestamp(submission.received_at, UTC),
    )


def _insert_new(rows: Sequence[Transaction]) -> set[UUID]:
    """Insert the rows whose ids are new, and say which were. `bulk_create` can ignore conflicts, but does not tell."""
    # In one order everywhere, or two batches that share ids could each wait for the other.
    ordered = sorted(rows, key=lambda row: (row.client_id, row.transaction_id or "", row.id))
    columns = Transaction._meta.concrete_fields
    names = ", ".join(connection.ops.quote_name(str(column.column)) for column in columns)
    placeholders = ", ".join(["(" + ", ".join(["%s"] * len(columns)) + ")"] * len(ordered))
    table = connection.ops.quote_name(Transaction._meta.db_table)
    values = [
        column.get_db_prep_save(getattr(row, column.attname), connection) for row in ordered for column in columns
    ]
    with connection.cursor() as cursor:
        # Names come from the model and values travel as parameters: nothing of a request is in the statement.
        cursor.execute(
            f"INSERT INTO {table} ({names}) VALUES {placeholders} ON CONFLICT DO NOTHING RETURNING id",  # noqa: S608
            values,
        )
        return {UUID(str(row[0])) for row in cursor.fetchall()}


def _repeat(submission: Submission, stored: dict[tuple[int, str] | UUID, Prediction]) -> dict[str, Any]:
    prediction = stored.get(UUID(submission.id))
    if prediction is None and submission.transaction_id is not None:
        prediction = stored[submission.client_id, submission.transaction_id]
    assert prediction is not None, "a row that did not land has a stored twin"  # noqa: S101
    if prediction.transaction.body_sha256 != submission.body_sha256:
        return {"conflict": True}
    return {"answer": answer(prediction), "replayed": True}


@transaction.atomic
def close_review(*, review: Review, is_fraud: bool, reviewer: User) -> bool:
    """Record an analyst's word. Returns False, and changes nothing, when somebody else closed the review first."""
    now = timezone.now()
    state = Review.State.FRAUD if is_fraud else Review.State.LEGITIMATE
    claimed = Review.objects.filter(pk=review.pk, state=Review.State.OPEN).update(
        state=state, closed_at=now, reviewer=reviewer
    )
    if claimed:
        Label.objects.create(
            transaction_id=review.pk, is_fraud=is_fraud, source=Label.Source.ANALYST, author=reviewer, created_at=now
        )
    return bool(claimed)


@transaction.atomic
def create_api_key(*, client: Client) -> tuple[ApiKey, str]:
    """Make a key. Returns the row and the key, which can be shown now and never again.

    Raises:
        TooManyKeys: the client has two active keys already.
    """
    Client.objects.select_for_update().get(pk=client.pk)
    if client.keys.filter(revoked_at=None).count() >= ACTIVE_KEYS_LIMIT:
        raise TooManyKeys
    row, key = ApiKey.draw(client)
    row.save()
    return row, key


def revoke_api_key(*, key: ApiKey) -> bool:
    """Revoke a key; it stops working within `API_KEY_CACHE_S` seconds. Returns False when it was revoked before."""
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()))
