"""Labels of clients by the thousand: what each statement of PostgreSQL needs for all of them goes in arrays.

Django writes each value into the statement's text and makes an object of each row, which took most of the time.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from django.db import IntegrityError, connection, transaction
from django.db.models import CharField, UUIDField
from django.db.models.lookups import In

from scoring.acts import acted
from scoring.learning import archive
from scoring.models import Label, Transaction
from scoring.reviews import arrival
from scoring.reviews.verdicts import WORDS

INSERT = """
INSERT INTO scoring_label
    (transaction_id, kind, is_fraud, verdict, sequence, source, event_time, amount, reference, identity, client_id,
     created_at)
SELECT * FROM unnest(
    %b::uuid[], %b::text[], %b::bool[], %b::bool[], %b::bigint[], %b::text[], %b::timestamptz[], %b::float8[],
    %b::text[], %b::text[], %b::bigint[], %b::timestamptz[]
)
"""
COLUMNS = (
    *("transaction_id", "kind", "is_fraud", "verdict", "sequence", "source", "event_time", "amount", "reference"),
    *("identity", "client_id", "created_at"),
)


class Statement(NamedTuple):
    """What a client says of a transaction of its own. `identity` tells a repeat of it. `schema` is the transaction's,
    and `in_histories` says whether it has a place in histories."""

    transaction_id: UUID
    kind: str
    source: str
    event_time: datetime
    amount: float | None
    reference: str
    identity: str
    client_id: int
    schema: str
    in_histories: bool


# What must be equal for a repeat to be one.
CONTENT = ("kind", "source", "event_time", "amount", "transaction_id")
content_of = attrgetter(*CONTENT)


class _Locked(NamedTuple):
    pk: UUID
    schema: str
    sequence: int | None
    tokens: dict[str, str] | None = None


class _Earlier(NamedTuple):
    source: str
    is_fraud: bool | None
    event_time: datetime
    created_at: datetime
    verdict: bool | None


class _New(msgspec.Struct, gc=False):
    """A label that is to be inserted."""

    transaction_id: UUID
    kind: str
    source: str
    event_time: datetime
    amount: float | None
    reference: str
    identity: str
    client_id: int
    is_fraud: bool | None
    verdict: bool | None = None
    sequence: int | None = None
    created_at: datetime = datetime.min


@CharField.register_lookup
@UUIDField.register_lookup
class Among(In):
    """`IN` for thousands of values, which have the field's type already. On PostgreSQL they go in one text of JSON, and
    nothing has to quote each of them."""

    lookup_name = "among"

    def get_prep_lookup(self) -> Any:
        return self.rhs if connection.vendor == "postgresql" else super().get_prep_lookup()

    def as_postgresql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        left, params = self.process_lhs(compiler, connection)
        kind = "uuid" if isinstance(self.lhs.output_field, UUIDField) else "varchar"
        values = msgspec.json.encode(list(self.rhs)).decode()
        return f"{left} = ANY(ARRAY(SELECT json_array_elements_text(%s))::{kind}[])", [*params, values]


def add_labels(*, statements: Sequence[Statement]) -> list[tuple[Any, bool]]:
    """Store labels of many transactions, in this order: all or none. Reviews stay as they are.

    Returns of each a `Statement` or what has its `CONTENT`, and whether it was known: it is the stored label of its
    identity then, which may say something else.

    Raises:
        StaleHistory: a schema's histories have to be rebuilt.
        django.db.IntegrityError: another call has stored one of these identities meanwhile, or retention has deleted or
            archived one of the transactions; find them again, and try again.
    """
    if any(statement.in_histories for statement in statements):
        arrival.get_ready()
    schemas = {statement.transaction_id: statement.schema for statement in statements}
    with transaction.atomic():
        rows = _lock(schemas)
        stored = _stored([statement.identity for statement in statements])
        new: list[tuple[_Locked, _New]] = []
        answers = []
        for statement in statements:
            known = stored.get(statement.identity)
            answers.append((known or statement, known is not None))
            if known is None:
                stored[statement.identity] = statement
                label = _new(statement)
                new.append((rows[statement.transaction_id], label))
        arrival.arrive(new, _given(schemas))
        _insert([label for _, label in new])
        if new:
            told = f"{len(new):,} by a client; the first is of transaction {new[0][1].transaction_id}"
            acted.send(Label, action="labelled", key="", detail=told, person="")
    return answers


def _new(said: Statement) -> _New:
    content = (said.kind, said.source, said.event_time, said.amount, said.reference, said.identity, said.client_id)
    return _New(said.transaction_id, *content, WORDS[said.kind])


def _lock(schemas: Mapping[UUID, str]) -> dict[UUID, _Locked]:
    """Lock transactions, whose schemas are given. Those without a place in histories come without their tokens."""
    # In the same order everywhere; otherwise two calls could deadlock.
    rows = Transaction.objects.select_for_update().filter(pk__among=schemas).order_by("pk")
    locked = {key: _Locked(key, schemas[key], sequence) for key, sequence in rows.values_list("pk", "sequence")}
    boundary = archive.boundary()
    if len(locked) < len(schemas) or any(map(boundary.is_behind, locked)):
        raise IntegrityError("Retention has deleted some of these transactions meanwhile.")
    if placed := [row.pk for row in locked.values() if row.sequence is not None]:
        for key, tokens in Transaction.objects.filter(pk__among=placed).values_list("pk", "tokens"):
            locked[key] = locked[key]._replace(tokens=tokens)
    return locked


def _stored(identities: Sequence[str]) -> dict[str, Any]:
    """The labels of these identities, each with its `CONTENT`."""
    labels = Label.objects.filter(identity__among=identities).only("identity", *CONTENT)
    return {str(label.identity): label for label in labels}


def _given(keys: Collection[UUID]) -> dict[UUID, list[Any]]:
    """The labels of these transactions, in the order of their arrival."""
    found: dict[UUID, list[Any]] = {}
    labels = Label.objects.filter(transaction__pk__among=keys).order_by("created_at", "pk")
    for key, *label in labels.values_list("transaction_id", *_Earlier._fields):
        found.setdefault(key, []).append(_Earlier(*label))
    return found


def _insert(labels: Sequence[_New]) -> None:
    if connection.vendor != "postgresql":
        Label.objects.bulk_create(Label(**msgspec.structs.asdict(label)) for label in labels)
    elif labels:
        columns = [list(column) for column in zip(*map(attrgetter(*COLUMNS), labels), strict=True)]
        connection.ensure_connection()
        with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
            cursor.execute(INSERT, columns)
