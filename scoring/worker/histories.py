"""Locks histories, updates them with arriving transactions and labels, and computes the features.

The histories of an arrival stay locked until the database transaction ends. So the arrivals of one entity have an
order, and `sequence` is the place in it. A history also identifies its transactions by their sequence: within a history
no two arrivals share one.

Web processes import this module late: numba takes a second to load, and only workers need it.
"""

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import psycopg
from django.db import connection
from django.db.models import BinaryField
from django.db.models.functions import Substr

from scoring.models import History, Transaction
from scoring.telemetry import tracing
from scoring.worker import prepared
from scoring.worker.rows import Placed, tokens_of
from scoring.worker.storage import HistoryUpdate
from training.core.exceptions import StaleHistory
from training.core.features.replay import Events, Labels, Tokens, labelled, replay, version
from training.core.features.stored import VERSION_BYTES
from training.core.schema import Schema

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(eq=False)
class Locked:
    """The histories of some entities, locked until the end of the database transaction.

    `events` are by entity and token, `last_sequence` by token.
    """

    schema: Schema
    events: dict[str, dict[Any, bytes]]
    last_sequence: dict[str, int]
    _drawn: set[str] = field(default_factory=set)

    def transactions_arrive(
        self,
        event_times: Sequence[float],
        amounts: Sequence[float],
        tokens: Sequence[Sequence[str]],
        given: np.ndarray,
    ) -> tuple[list[int], np.ndarray]:
        """Add `n` new transactions, in this order. `event_times` are seconds since the epoch, UTC; `given` are the
        encoded values [n, len(schema.features)] float64.

        Returns the sequence of each, and the derived features [n, len(schema.derived)] float64.

        Raises:
            StaleHistory: a history was kept under another declaration.
        """
        sequences = self._draw(tokens)
        sequence = np.array(sequences, np.int64)
        arrived = Events(
            key=sequence,
            event_time=np.rint(np.array(event_times) * 1e6).astype(np.int64),
            amount_minor=self.schema.amount_minor(np.array(amounts, np.float64)),
            sequence=sequence,
            tokens=by_entity(self.schema, tokens),
            given=given,
        )
        return sequences, self._replay(arrived)

    def labels_arrive(self, rows: Sequence[Placed], verdicts: Sequence[bool | None]) -> list[int]:
        """Add what holds of these transactions from now on, in this order; None if nothing does. Returns the sequence
        of each.

        Raises:
            StaleHistory: as above.
        """
        tokens = [tokens_of(self.schema, row) for row in rows]
        sequences = self._draw(tokens)
        arrived = Labels(
            key=np.array([row.sequence for row in rows], np.int64),
            fraud=np.array([label_code(verdict) for verdict in verdicts], np.int8),
            sequence=np.array(sequences, np.int64),
            tokens=by_entity(self.schema, tokens),
        )
        with self._stale_are_told():
            self._keep(labelled(self.schema, arrived, self.events))
        return sequences

    def changed(self) -> list[HistoryUpdate]:
        """The changed histories, to be stored."""
        return [
            # If no feature of an entity reads labels, its events stay the same, but its last sequence changes.
            HistoryUpdate(token, events, self.last_sequence[token])
            for histories in self.events.values()
            for token, events in histories.items()
            if token in self._drawn
        ]

    def _draw(self, tokens: Sequence[Sequence[str]]) -> list[int]:
        """Draw places in the order of arrival: the time in microseconds, but after all earlier ones of these entities.

        This is a hybrid logical clock (Kulkarni et al., 2014): the order holds even if a server's clock is slow.
        """
        first = max([time.time_ns() // 1000, *(last + 1 for last in self.last_sequence.values())])
        sequences = list(range(first, first + len(tokens)))
        for sequence, row in zip(sequences, tokens, strict=True):
            # A missing entity has no history: it is empty, as all are of what was erased while it waited for its score.
            theirs = self.last_sequence.keys() & set(row)
            self.last_sequence |= dict.fromkeys(theirs, sequence)
            self._drawn |= theirs
        return sequences

    def _replay(self, events: Events) -> np.ndarray:
        with self._stale_are_told():
            replayed = replay(self.schema, events, histories=self.events)
        self._keep(replayed.histories)
        return replayed.features

    def _keep(self, histories: Mapping[str, Mapping[Any, bytes]]) -> None:
        for entity, of_entity in histories.items():
            self.events[entity] |= of_entity

    @contextmanager
    def _stale_are_told(self) -> Iterator[None]:
        try:
            yield
        except StaleHistory as error:
            raise StaleHistory(f"{error} {remedy(self.schema)}") from error


def label_code(verdict: bool | None) -> int:
    """A verdict as `training.core.features.replay` encodes it."""
    return -1 if verdict is None else int(verdict)


def counted(schema: Schema, entity: str, limit: int | None = None) -> tuple[int, int]:
    """How many histories of an entity there are, of at most `limit`, and how many of these are stale."""
    rows = History.objects.filter(schema=schema.name, entity=entity)
    begins = Substr("events", 1, VERSION_BYTES, output_field=BinaryField())
    now = version(schema, entity)
    looked_at = rows.annotate(begins=begins)[:limit]
    stale = History.objects.filter(pk__in=looked_at.values("pk")).annotate(begins=begins).exclude(begins=now)
    return looked_at.count(), stale.count() if now else 0


def lock(schema: Schema, tokens: Iterable[Sequence[str]]) -> Locked:
    """Lock the histories of these rows' entities, inserting missing ones. `tokens` are rows in the schema's order.

    Raises:
        StaleHistory: the schema has transactions, but all of its histories are lost.
    """
    kept = _kept(schema)
    entity_of = {row[place]: name for row in tokens for place, name in kept.items() if row[place]}
    events: dict[str, dict[str, bytes]] = {name: {} for name in kept.values()}
    last_sequence = {}
    for token, stored, last in _hold(schema, entity_of):
        events[entity_of[token]][token] = bytes(stored)
        last_sequence[token] = last
    return Locked(schema, events, last_sequence)


@lru_cache
def _kept(schema: Schema) -> dict[int, str]:
    """The entities that have histories, by their place."""
    return {place: name for place, name in enumerate(schema.entity_names) if version(schema, name)}


# Everywhere rows are inserted in the same order, and only then locked in the same order; otherwise two batches could
# deadlock. Tokens are sent as one text, as arrays take longer to send.
INSERT = """
INSERT INTO scoring_history (token, schema, entity, events, last_sequence, updated_at)
SELECT token, %b, entity, decode(%b::jsonb ->> entity, 'hex'), 0, now()
FROM unnest(string_to_array(%b, ','), string_to_array(%b, ',')) AS wanted(token, entity)
ORDER BY token ON CONFLICT DO NOTHING RETURNING token
"""
LOCK = """
SELECT token, events, last_sequence FROM scoring_history WHERE token = ANY(string_to_array(%b, ','))
ORDER BY token FOR UPDATE
"""
# Tokens whose histories this process has seen, up to TOKENS_KNOWN of them. To find that a row exists takes PostgreSQL
# half as long again as to lock it.
TOKENS_KNOWN = 100_000
_known: set[str] = set()

Held = list[tuple[str, bytes | memoryview, int]]


def _hold(schema: Schema, entity_of: Mapping[str, str]) -> Held:
    """Lock the histories of these tokens, and insert those that are missing. Returns token, events and last sequence.

    Raises:
        StaleHistory: as `lock`.
    """
    if connection.vendor != "postgresql":
        return _hold_elsewhere(schema, entity_of)
    made: set[str] = set()
    held: Held = []
    while len(held) < len(entity_of):
        new = {token: entity for token, entity in entity_of.items() if token not in _known}
        insert = (INSERT, [schema.name, _nothing(schema), ",".join(new), ",".join(new.values())])
        *inserted, held = _execute(*([insert] if new else []), (LOCK, [",".join(entity_of)]))
        made |= {token for rows in inserted for (token,) in rows}
        if len(held) < len(entity_of):
            # Some that were known have been erased. The others are locked before these are inserted, which may end in a
            # deadlock: then the batch is tried again.
            _known.difference_update(entity_of)
    if len(_known) + len(entity_of) > TOKENS_KNOWN:
        _known.clear()
    # This database transaction may be undone, and what it has made with it.
    _known.update(entity_of.keys() - made)
    _check(schema, entity_of, made)
    return held


@lru_cache
def _nothing(schema: Schema) -> str:
    """The empty history of each entity that has them, as JSON."""
    return json.dumps({name: version(schema, name).hex() for name in _kept(schema).values()})


def _hold_elsewhere(schema: Schema, entity_of: Mapping[str, str]) -> Held:
    rows = History.objects.filter(token__in=entity_of)
    made = set(entity_of).difference(rows.values_list("token", flat=True))
    History.objects.bulk_create(
        History(token=token, schema=schema.name, entity=entity, events=version(schema, entity), last_sequence=0)
        for token, entity in entity_of.items()
        if token in made
    )
    _check(schema, entity_of, made)
    return list(rows.values_list("token", "events", "last_sequence"))


def _check(schema: Schema, wanted: Collection[str], made: set[str]) -> None:
    if wanted and len(made) == len(wanted) and _were_lost(schema, made):
        raise StaleHistory(f"All histories of {schema.name} are lost. {remedy(schema)}")


def _were_lost(schema: Schema, made: set[str]) -> bool:
    # The order matters: a transaction that the first query finds was committed with its histories, so the second query
    # finds these.
    return (
        Transaction.objects.filter(schema=schema.name, sequence__isnull=False).exists()
        and not History.objects.filter(schema=schema.name).exclude(token__in=made).exists()
    )


def _execute(*statements: tuple[str, list[Any]]) -> list[list[Any]]:
    """Execute statements on PostgreSQL. Returns the rows of each. Django's own cursor would transfer bytes as text,
    twice as long. The pipeline sends them together with the BEGIN of the database transaction."""
    connection.ensure_connection()
    cursors = []
    with connection.wrap_database_errors, tracing.statement(statements[-1][0], "SELECT scoring_history"):
        with connection.connection.pipeline():
            for statement, values in statements:
                cursors.append(psycopg.Cursor(connection.connection))
                cursors[-1].execute(prepared.of_now(statement), values, prepare=True, binary=True)
        return [cursor.fetchall() for cursor in cursors]


def remedy(schema: Schema) -> str:
    return f"Run `manage.py rebuild_histories --schema {schema.name}`."


def by_entity(schema: Schema, tokens: Sequence[Sequence[str]]) -> dict[str, Tokens]:
    """Turn rows of tokens into a column per entity."""
    return {name: [row[place] for row in tokens] for place, name in enumerate(schema.entity_names)}


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, UTC."""
    return (moment - EPOCH) // MICROSECOND
