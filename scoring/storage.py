"""One batch, one database transaction: transactions, predictions and reviews land together or not at all.

Nothing but the database's constraints decides which of two equal transaction ids was first, so copies of a batch,
parallel repeats and redelivered messages all end in one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from django.db import connection, transaction
from django.utils import timezone

from scoring.models import Decision, Prediction, Review, Transaction
from scoring.submissions import Submission
from training.schema import Schema

# Everything in one statement, and so in one round trip and one commit. Values travel as arrays, which cost the server
# no parsing; docs/performance.md has the measurements of this against COPY and against a long VALUES list.
# Each line that begins with + is for schemas with computed features alone.
STATEMENT = """
WITH sent AS (
    SELECT * FROM unnest(
        %b::text[], %b::bigint[], %b::text[], %b::float8[], %b::text[], %b::text[], %b::float8[], %b::float8[],
        %b::float8[], %b::text[], %b::text[], %b::float8[], %b::float8[]
+       , %b::text[], %b::bigint[], %b::text[]
    ) AS sent(
        id, client_id, transaction_id, amount, fields, body_sha256, event_time, received_at,
        fraud_score, decision, reasons, latency_ms, queue_ms
+       , tokens, sequence, derived
    )
), landed AS (
    INSERT INTO scoring_transaction
        (id, client_id, transaction_id, schema, amount, fields, body_sha256, event_time, received_at
+       , tokens, sequence
        )
    SELECT id::uuid, client_id, transaction_id, %b, amount, fields::jsonb, body_sha256,
        to_timestamp(event_time), to_timestamp(received_at)
+       , tokens::jsonb, sequence
    FROM sent ORDER BY client_id, transaction_id, id
    ON CONFLICT DO NOTHING
    RETURNING id
), predicted AS (
    INSERT INTO scoring_prediction
        (transaction_id, model_version_id, fraud_score, decision, threshold, reasons, latency_ms, queue_ms,
         features_ms, model_ms, created_at
+        , derived
        )
    SELECT landed.id, %b, fraud_score, decision, %b, reasons::jsonb, latency_ms, queue_ms, %b, %b, %b
+       , derived::jsonb
    FROM landed JOIN sent ON landed.id = sent.id::uuid
    RETURNING transaction_id, fraud_score, decision, created_at
), reviews AS (
    INSERT INTO scoring_review (prediction_id, state, fraud_score, opened_at)
    SELECT transaction_id, %b, fraud_score, created_at FROM predicted WHERE decision <> %b
+), remembered AS (
+   UPDATE scoring_history SET events = seen.events, last_sequence = seen.last_sequence, updated_at = %b
+   FROM unnest(%b::text[], %b::bytea[], %b::bigint[]) AS seen(token, events, last_sequence)
+   WHERE scoring_history.token = seen.token
)
SELECT id::text FROM landed
"""
STORE_PLAIN = "".join(line for line in STATEMENT.splitlines(keepends=True) if not line.startswith("+"))
STORE_COMPUTED = "".join(line.removeprefix("+") for line in STATEMENT.splitlines(keepends=True))


@dataclass(slots=True)
class Scored:
    """A submission and what the model and the policy made of it.

    `derived` are in the order of `schema.derived`; plain schemas have neither them nor a `sequence`.
    """

    submission: Submission
    amount: float
    fraud_score: float
    decision: Decision
    reasons: list[dict[str, Any]]
    latency_ms: float
    queue_ms: float
    sequence: int | None = None
    derived: Sequence[float] = ()


class Remembered(NamedTuple):
    """A history as it is to be stored; its row is there, and locked by whoever stores it."""

    token: str
    events: bytes
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the predictions of a batch have in common."""

    schema: Schema
    model_version: str
    threshold: float
    features_ms: float
    model_ms: float
    created_at: datetime


def store(batch: Sequence[Scored], circumstances: Circumstances, histories: Sequence[Remembered] = ()) -> set[str]:
    """Store what is new, and the histories as they are now, which the caller has locked if there are any.

    Returns the ids of the submissions that landed; the others were known by id or content.

    Raises:
        django.db.DatabaseError: nothing was stored.
    """
    if connection.vendor == "postgresql":
        return _store_on_postgresql(batch, circumstances, histories)
    return _store_elsewhere(batch, circumstances, histories)


def _store_on_postgresql(batch: Sequence[Scored], common: Circumstances, histories: Sequence[Remembered]) -> set[str]:
    schema = common.schema
    sent = [scored.submission for scored in batch]
    values: list[Any] = [
        [submission.id for submission in sent],
        [submission.client_id for submission in sent],
        [submission.transaction_id for submission in sent],
        [scored.amount for scored in batch],
        [
            msgspec.json.encode(dict(zip(schema.feature_names, submission.features, strict=True))).decode()
            for submission in sent
        ],
        [submission.body_sha256 for submission in sent],
        [submission.event_time for submission in sent],
        [submission.received_at for submission in sent],
        [scored.fraud_score for scored in batch],
        [str(scored.decision) for scored in batch],
        [msgspec.json.encode(scored.reasons).decode() for scored in batch],
        [scored.latency_ms for scored in batch],
        [scored.queue_ms for scored in batch],
        *([] if schema.is_plain else _computed_columns(batch, schema)),
        schema.name,
        common.model_version,
        common.threshold,
        common.features_ms,
        common.model_ms,
        common.created_at,
        str(Review.State.OPEN),
        str(Decision.APPROVE),
    ]
    if not schema.is_plain:
        values += [
            common.created_at,
            [history.token for history in histories],
            [history.events for history in histories],
            [history.last_sequence for history in histories],
        ]
    connection.ensure_connection()
    # Django's own cursor writes values into the text of a statement; arrays want to travel beside it.
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(STORE_PLAIN if schema.is_plain else STORE_COMPUTED, values, prepare=True)
        return {row[0] for row in cursor.fetchall()}


def _computed_columns(batch: Sequence[Scored], schema: Schema) -> list[list[Any]]:
    rows = [
        (tokens_by_name(schema, scored.submission.tokens), scored.sequence, derived_by_name(schema, scored.derived))
        for scored in batch
    ]
    return [
        [msgspec.json.encode(tokens).decode() if tokens else None for tokens, _, _ in rows],
        [sequence for _, sequence, _ in rows],
        [msgspec.json.encode(derived).decode() if derived else None for _, _, derived in rows],
    ]


@transaction.atomic
def _store_elsewhere(batch: Sequence[Scored], common: Circumstances, histories: Sequence[Remembered]) -> set[str]:
    landed = insert_new(
        [transaction_of(scored.submission, common.schema, scored.amount, scored.sequence) for scored in batch]
    )
    predictions = [
        Prediction(
            transaction_id=scored.submission.id,
            model_version_id=common.model_version,
            fraud_score=scored.fraud_score,
            decision=scored.decision,
            threshold=common.threshold,
            reasons=scored.reasons,
            derived=derived_by_name(common.schema, scored.derived),
            latency_ms=scored.latency_ms,
            queue_ms=scored.queue_ms,
            features_ms=common.features_ms,
            model_ms=common.model_ms,
            created_at=common.created_at,
        )
        for scored in batch
        if scored.submission.id in landed
    ]
    Prediction.objects.bulk_create(predictions)
    Review.objects.bulk_create(
        Review(prediction=prediction, fraud_score=prediction.fraud_score, opened_at=common.created_at)
        for prediction in predictions
        if prediction.is_alert
    )
    save_histories(histories)
    return landed


def save_histories(histories: Sequence[Remembered]) -> None:
    """Write histories; see `Remembered`."""
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE scoring_history SET events = %s, last_sequence = %s, updated_at = %s WHERE token = %s",
            [(history.events, history.last_sequence, now, history.token) for history in histories],
        )


def tokens_by_name(schema: Schema, tokens: Sequence[str]) -> dict[str, str] | None:
    return dict(zip(schema.entity_names, tokens, strict=True)) or None


def derived_by_name(schema: Schema, derived: Sequence[float]) -> dict[str, float] | None:
    """Computed features, in the order of `schema.derived`, by their names."""
    return {feature.name: value for feature, value in zip(schema.derived, derived, strict=True)} or None


def transaction_of(submission: Submission, schema: Schema, amount: float, sequence: int | None = None) -> Transaction:
    return Transaction(
        id=UUID(submission.id),
        client_id=submission.client_id,
        transaction_id=submission.transaction_id,
        schema=schema.name,
        amount=amount,
        fields=dict(zip(schema.feature_names, submission.features, strict=True)),
        tokens=tokens_by_name(schema, submission.tokens),
        sequence=sequence,
        body_sha256=submission.body_sha256,
        event_time=datetime.fromtimestamp(submission.event_time, UTC),
        received_at=datetime.fromtimestamp(submission.received_at, UTC),
    )


def insert_new(rows: Sequence[Transaction]) -> set[str]:
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
        return {str(UUID(str(row[0]))) for row in cursor.fetchall()}
