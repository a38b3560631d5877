"""Rows of transactions, and what histories read of them."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, Protocol
from uuid import UUID

import msgspec
from django.db import connection

from scoring.messages.submission import Submission
from scoring.models import Transaction
from scoring.worker.declared import declaration_of
from training.core.schema import Schema


class Placed(Protocol):
    """What is read of a transaction for its place in histories."""

    @property
    def pk(self) -> UUID: ...
    @property
    def schema(self) -> str: ...
    @property
    def sequence(self) -> int | None: ...
    @property
    def tokens(self) -> dict[str, str] | None: ...


def request_of(submission: Submission) -> str | None:
    """The id of its request, if that is another than its own."""
    return None if submission.request_id in ("", submission.id) else submission.request_id


def tokens_by_name(schema: Schema, tokens: Sequence[str]) -> dict[str, str] | None:
    """Tokens, in the order of `schema.entities`, by their names, without those of missing entities."""
    return {name: token for name, token in zip(schema.entity_names, tokens, strict=True) if token} or None


def tokens_of(schema: Schema, row: Placed) -> tuple[str, ...]:
    """The tokens of a stored transaction, in the schema's order; empty for a missing entity."""
    tokens = row.tokens or {}
    return tuple(tokens.get(name, "") for name in schema.entity_names)


def derived_by_name(schema: Schema, derived: Sequence[float]) -> dict[str, float | None] | None:
    """Computed features, in the order of `schema.derived`, by their names. JSON has no NaN: a missing one is None."""
    return {
        feature.name: None if math.isnan(value) else value
        for feature, value in zip(schema.derived, derived, strict=True)
    } or None


@lru_cache
def json_writer(names: tuple[str, ...]) -> Callable[[Sequence[Any]], str]:
    """What writes values, which have these names, as a JSON object. NaN becomes null.

    The keys have the order of PostgreSQL's jsonb, which then need not sort them: by length, then by bytes. A struct
    takes half the time of a dict.

    >>> json_writer(("amount", "to", "is"))([12.5, "a shop", math.nan])
    '{"is":null,"to":"a shop","amount":12.5}'
    """
    order = sorted(range(len(names)), key=lambda place: (len(names[place].encode()), names[place].encode()))
    take = itemgetter(*order) if len(names) > 1 else tuple
    # Names need not be identifiers, which a struct's fields are.
    rename = {f"field_{place}": names[place] for place in order}
    struct = msgspec.defstruct("Row", list(rename), rename=rename, gc=False)
    encode = msgspec.json.Encoder().encode

    def write(values: Sequence[Any]) -> str:
        if len(values) != len(names):
            raise ValueError(f"{len(values)} values for {len(names)} names")
        return encode(struct(*take(values))).decode()

    return write


def transaction_of(submission: Submission, sequence: int | None = None) -> Transaction:
    schema = declaration_of(submission)
    return Transaction(
        id=UUID(submission.id),
        client_id=submission.client_id,
        transaction_id=submission.transaction_id,
        schema=schema.name,
        amount=schema.amount_of(submission.features),
        fields=dict(zip(schema.feature_names, submission.features, strict=True)),
        tokens=tokens_by_name(schema, submission.tokens),
        conversion=msgspec.to_builtins(submission.conversion),
        sequence=sequence,
        body_sha256=submission.body_sha256,
        event_time=datetime.fromtimestamp(submission.event_time, UTC),
        received_at=datetime.fromtimestamp(submission.received_at, UTC),
        request_id=request_of(submission),
        trace_id=UUID(submission.trace_id) if submission.trace_id else None,
    )


def insert_new(rows: Sequence[Transaction]) -> set[str]:
    """Insert the rows whose ids are new. Returns these ids, which `bulk_create` does not when it ignores conflicts."""
    # Insert in the same order everywhere; otherwise two batches that share ids could deadlock.
    ordered = sorted(rows, key=lambda row: (row.client_id, row.transaction_id or "", row.id))
    columns = Transaction._meta.concrete_fields
    names = ", ".join(connection.ops.quote_name(str(column.column)) for column in columns)
    placeholders = ", ".join(["(" + ", ".join(["%s"] * len(columns)) + ")"] * len(ordered))
    table = connection.ops.quote_name(Transaction._meta.db_table)
    values = [
        column.get_db_prep_save(getattr(row, column.attname), connection) for row in ordered for column in columns
    ]
    with connection.cursor() as cursor:
        # The names come from the model and the values are parameters: the statement has nothing from a request.
        cursor.execute(
            f"INSERT INTO {table} ({names}) VALUES {placeholders} ON CONFLICT DO NOTHING RETURNING id",  # noqa: S608
            values,
        )
        return {str(UUID(str(row[0]))) for row in cursor.fetchall()}
