"""Stores a batch: transactions, predictions and reviews in one database transaction.

A database constraint decides which of two equal transaction ids is first, so copies of a batch, parallel repeats and
redelivered messages all end in one row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, Self
from uuid import UUID

import msgspec
import psycopg
from django.db import connection, transaction

from scoring import linked
from scoring.decisions import ALERTS
from scoring.messages.replies import Stages
from scoring.messages.submission import Submission
from scoring.models import Pending, Prediction, Review, ReviewLink, Transaction
from scoring.policies.engine import Policy
from scoring.telemetry import tracing
from scoring.webhooks import about, events
from scoring.worker import prepared
from scoring.worker.declared import declaration_of
from scoring.worker.opening import review_of
from scoring.worker.predictor import Predictor
from scoring.worker.routing import Router
from scoring.worker.rows import derived_by_name, insert_new, json_writer, request_of, tokens_by_name, transaction_of
from scoring.worker.scorer import Scored
from scoring.worker.statements import EVENT_COLUMNS, REVIEW_COLUMNS, STATEMENTS
from training import clock
from training.core.schema import Schema


class HistoryUpdate(NamedTuple):
    """A history to store. Its row exists, and the caller has locked it."""

    token: str
    events: bytes
    last_sequence: int


@dataclass(frozen=True, slots=True)
class BatchContext:
    """What the predictions of a batch have in common. A worker took the batch at `started_at` and stores it at
    `created_at`."""

    schema: Schema
    model_version: str
    policy: Policy
    router: Router
    features_ms: float
    model_ms: float
    started_at: float
    created_at: datetime

    @classmethod
    def of(cls, predictor: Predictor, stages: Stages, started_at: float) -> Self:
        """The context of a batch that is scored and about to be stored."""
        return cls(
            schema=predictor.schema,
            model_version=predictor.version.pk,
            policy=predictor.policy,
            router=predictor.router,
            features_ms=stages.features_s * 1000,
            model_ms=stages.model_s * 1000,
            started_at=started_at,
            created_at=clock.now(),
        )

    def latency_ms(self, received_at: float) -> float:
        return round(max(0.0, (self.created_at.timestamp() - received_at) * 1000), 3)

    def queue_ms(self, received_at: float) -> float:
        return max(0.0, (self.started_at - received_at) * 1000)


Batch = Sequence[tuple[Submission, Scored]]


def store(
    batch: Batch,
    context: BatchContext,
    sequences: Sequence[int | None] = (),
    histories: Sequence[HistoryUpdate] = (),
) -> set[str]:
    """Store the submissions that are new. With computed features, `sequences` has one for each, and `histories` are the
    updated histories, which the caller has locked.

    Returns the ids of the submissions that were stored; the ids of the others were known.

    Raises:
        django.db.DatabaseError: nothing was stored.
    """
    if connection.vendor == "postgresql":
        return _store_on_postgresql(batch, context, sequences, histories)
    return _store_elsewhere(batch, context, sequences or [None] * len(batch), histories)


def _store_on_postgresql(
    batch: Batch, context: BatchContext, sequences: Sequence[int | None], histories: Sequence[HistoryUpdate]
) -> set[str]:
    schema = context.schema
    sent = [submission for submission, _ in batch]
    # What a transaction has in its declaration is stored, whether or not the model takes it.
    declared = [schema if each.declaration == schema.hash else declaration_of(each) for each in sent]
    plain = schema.is_plain and not any(each.tokens for each in sent)
    scores = [scored for _, scored in batch]
    reviews = _reviews(batch, context)
    values: list[Any] = [
        [submission.id for submission in sent],
        [submission.client_id for submission in sent],
        [submission.transaction_id for submission in sent],
        [of.amount_of(submission.features) for of, submission in zip(declared, sent, strict=True)],
        [json_writer(of.feature_names)(submission.features) for of, submission in zip(declared, sent, strict=True)],
        [submission.body_sha256 for submission in sent],
        [submission.event_time for submission in sent],
        [submission.received_at for submission in sent],
        [scored.fraud_score for scored in scores],
        [str(scored.decision) for scored in scores],
        [scored.decided.threshold for scored in scores],
        [_json_or_none(scored.decided.evidence) for scored in scores],
        [msgspec.json.encode(scored.reasons).decode() for scored in scores],
        [_json_or_none(scored.explanation) for scored in scores],
        [context.latency_ms(submission.received_at) for submission in sent],
        [context.queue_ms(submission.received_at) for submission in sent],
        [_json_or_none(submission.conversion) for submission in sent],
        [request_of(submission) for submission in sent],
        [submission.trace_id or None for submission in sent],
        *([] if plain else _computed_columns(batch, schema, declared, sequences)),
        schema.name,
        context.model_version,
        context.policy.pk,
        context.features_ms,
        context.model_ms,
        context.created_at,
        *_columns(reviews, REVIEW_COLUMNS),
        *_link_columns(batch, declared),
    ]
    if reviews:
        values += _columns(_alerts(batch, reviews), EVENT_COLUMNS)
    if not plain:
        values += [
            context.created_at,
            [history.token for history in histories],
            [history.events for history in histories],
            [history.last_sequence for history in histories],
        ]
    connection.ensure_connection()
    # Django's own cursor writes values into the statement's text; arrays are better sent as parameters.
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        statement = STATEMENTS[("" if plain else "+") + ("~" if reviews else "")]
        with tracing.statement(statement, "INSERT scoring_transaction"):
            cursor.execute(prepared.of_now(statement), values, prepare=True)
            return {row[0] for row in cursor.fetchall()}


def _computed_columns(
    batch: Batch, schema: Schema, declared: Sequence[Schema], sequences: Sequence[int | None]
) -> list[list[Any]]:
    tokens = [tokens_by_name(of, submission.tokens) for of, (submission, _) in zip(declared, batch, strict=True)]
    write = json_writer(schema.derived_names)
    return [
        [_json_or_none(row) for row in tokens],
        list(sequences) or [None] * len(batch),
        [write(scored.derived) if scored.derived else None for _, scored in batch],
    ]


def _reviews(batch: Batch, context: BatchContext) -> list[Review]:
    return [
        _opened(_prediction_of(transaction_of(submission), scored, context), context)
        for submission, scored in batch
        if scored.is_alert
    ]


def _alerts(batch: Batch, reviews: Sequence[Review]) -> list[events.Event]:
    """What is told of new alerts. Each is of the trace of its own request, not of that of the batch."""
    spans = {submission.id: submission.span for submission, _ in batch}
    return [replace(about.alert_of(review, review.prediction), span=spans[str(review.pk)]) for review in reviews]


def _columns(rows: Sequence[Any], names: Sequence[str]) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in names]


def _link_columns(batch: Batch, declared: Sequence[Schema]) -> list[list[str]]:
    """The links of the alerts in a batch: ids, names, keys."""
    links = [
        (submission.id, name, key)
        for of, (submission, scored) in zip(declared, batch, strict=True)
        if scored.decision in ALERTS
        for name, key in linked.keys_of(
            of,
            submission.client_id,
            dict(zip(of.feature_names, submission.features, strict=True)),
            tokens_by_name(of, submission.tokens) or {},
        ).items()
    ]
    return [list(column) for column in zip(*links, strict=True)] or [[], [], []]


def _json_or_none(content: Any) -> str | None:
    return msgspec.json.encode(content).decode() if content else None


@transaction.atomic
def _store_elsewhere(
    batch: Batch, context: BatchContext, sequences: Sequence[int | None], histories: Sequence[HistoryUpdate]
) -> set[str]:
    rows = {
        submission.id: transaction_of(submission, sequence)
        for (submission, _), sequence in zip(batch, sequences, strict=True)
    }
    inserted = insert_new(list(rows.values()))
    predictions = [
        _prediction_of(rows[submission.id], scored, context)
        for submission, scored in batch
        if submission.id in inserted
    ]
    Prediction.objects.bulk_create(predictions)
    reviews = [_opened(prediction, context) for prediction in predictions if prediction.is_alert]
    Review.objects.bulk_create(reviews)
    events.record_all(_alerts(batch, reviews))
    alerts = [rows[str(prediction.pk)] for prediction in predictions if prediction.is_alert]
    ReviewLink.objects.bulk_create(linked.rows_of(context.schema, alerts))
    save_histories(histories)
    return inserted


@transaction.atomic
def store_waiting(
    batch: Sequence[tuple[Transaction, Scored]], context: BatchContext, histories: Sequence[HistoryUpdate] | None
) -> int:
    """Store the predictions of pending transactions, which come with their fallbacks. With `histories`, which the
    caller has locked, the transactions' sequences are stored, too. Returns how many were still pending."""
    predictions = [_prediction_of(row, scored, context) for row, scored in batch]
    # A fallback that decided on a review gets it now, whatever the score.
    reviews = []
    for prediction, (row, _) in zip(predictions, batch, strict=True):
        fallback = getattr(row, "fallback", None)
        if prediction.is_alert or (fallback and fallback.is_alert):
            reviews.append(_opened(prediction, context, fallback.decision if fallback else None))
    done, _ = Pending.objects.filter(pk__in=[row.pk for row, _ in batch]).delete()
    if histories is not None:
        Transaction.objects.bulk_update([row for row, _ in batch], ["sequence"])
        save_histories(histories)
    # Whoever deletes the pending rows first stores the predictions, and tells of them; the other one finds them here.
    known = set(Prediction.objects.filter(pk__in=[row.pk for row, _ in batch]).values_list("pk", flat=True))
    Prediction.objects.bulk_create(predictions, ignore_conflicts=True)
    Review.objects.bulk_create(reviews, ignore_conflicts=True)
    events.record_all(list(_told(predictions, reviews, known)))
    reviewed = {review.pk for review in reviews}
    links = linked.rows_of(context.schema, [row for row, _ in batch if row.pk in reviewed])
    ReviewLink.objects.bulk_create(links, ignore_conflicts=True)
    return done


def _told(predictions: Sequence[Prediction], reviews: Sequence[Review], known: set[UUID]) -> Iterator[events.Event]:
    """What is told of predictions that come after their answers, but for those that were known."""
    for review in reviews:
        if review.pk not in known:
            yield about.alert_of(review, review.prediction)
    for prediction in predictions:
        fallback = getattr(prediction.transaction, "fallback", None)
        if fallback and fallback.decision != prediction.decision and prediction.pk not in known:
            yield about.rescored(prediction, fallback.decision)


def _prediction_of(row: Transaction, scored: Scored, context: BatchContext) -> Prediction:
    received_at = row.received_at.timestamp()
    return Prediction(
        transaction=row,
        model_version_id=context.model_version,
        fraud_score=scored.fraud_score,
        decision=scored.decision,
        threshold=scored.decided.threshold,
        policy_id=context.policy.pk,
        evidence=msgspec.to_builtins(evidence) if (evidence := scored.decided.evidence) else None,
        reasons=scored.reasons,
        explanation=msgspec.to_builtins(explanation) if (explanation := scored.explanation) else None,
        derived=derived_by_name(context.schema, scored.derived),
        latency_ms=context.latency_ms(received_at),
        queue_ms=context.queue_ms(received_at),
        features_ms=context.features_ms,
        model_ms=context.model_ms,
        created_at=context.created_at,
    )


def _opened(prediction: Prediction, context: BatchContext, answered: str | None = None) -> Review:
    """A new review in its queue. `answered` is the decision that the client heard, if it is not the prediction's."""
    review = review_of(prediction, answered=answered)
    context.router.route(review, prediction, at=review.opened_at)
    return review


def save_histories(histories: Sequence[HistoryUpdate]) -> None:
    """Write histories, whose rows exist and are locked."""
    now = connection.ops.adapt_datetimefield_value(clock.now())
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE scoring_history SET events = %s, last_sequence = %s, updated_at = %s WHERE token = %s",
            [(history.events, history.last_sequence, now, history.token) for history in histories],
        )
