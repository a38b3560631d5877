"""Computes features from a stream of events and labels, by one function for a micro-batch and for years.

Online, `replay` takes the stored histories of a batch's entities and returns them updated. Offline it starts without
histories. A lost history is rebuilt by replaying its stored events and labels. As the code and the order of arrival are
the same, so are the features, to the bit.
"""

import hashlib
import json
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from training.core.exceptions import StaleHistory
from training.core.features import aggregates, kernel, present, stored
from training.core.features.declaration import DAY_US, Entity, Velocity, kept_values
from training.core.features.tokens import Tokens, factorize, without_missing
from training.core.schema import Schema

# An event in a stored history, as its version tells it; `kernel.Histories` has the bytes.
EVENT = [("key", "<i8"), ("event_time", "<i8"), ("amount_minor", "<i8"), ("label", "|i1")]
MANY_OPERATIONS = 100_000  # from this number on all cores are used

Histories = Mapping[str, Mapping[Any, bytes]]


class _Arrived:
    key: np.ndarray

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True, eq=False)
class Events(_Arrived):
    """`n` transactions, in any order.

    `key` [n] int64 is the identity of a transaction: a key that comes again is the same transaction, and counts once.
    `event_time` [n] int64 is in microseconds since 1970 UTC, `amount_minor` [n] int64 in minor units. `sequence` [n]
    int64 is the order of arrival, shared with labels. `tokens` has the `n` tokens of each entity, by its name; that of
    a missing one is "" or a negative number. Those of an entity that a feature compares (`of` or `same`) are texts, or
    numbers below 2**31. `given` [n, len(schema.features)] float64 are the values as
    `Schema.encode` encodes them; None will do if no feature reads them.
    """

    key: np.ndarray
    event_time: np.ndarray
    amount_minor: np.ndarray
    sequence: np.ndarray
    tokens: Mapping[str, Tokens]
    given: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Labels(_Arrived):
    """`n` labels that arrived, in any order; of one transaction the latest arrived counts.

    `key` [n] int64 is the transaction's, `fraud` [n] int8 is 1 or 0, or -1 for a label taken back. `sequence` [n] int64
    is the order of arrival, shared with events: at the same number the label comes first. `tokens` are those of the
    transactions.
    """

    key: np.ndarray
    fraud: np.ndarray
    sequence: np.ndarray
    tokens: Mapping[str, Tokens]


@dataclass(frozen=True, eq=False)
class Replayed:
    """`features` [n, len(schema.derived)] float64, a row per event; the new histories by entity and token."""

    features: np.ndarray
    histories: dict[str, dict[Hashable, bytes]] = field(default_factory=dict)


def replay(
    schema: Schema,
    events: Events | None = None,
    labels: Labels | None = None,
    histories: Histories | None = None,
    *,
    keep_histories: bool = True,
) -> Replayed:
    """Replay events and labels in their order of arrival, and compute the features of each event at its arrival.

    `histories` are those of the entities in the events and labels; an entity without one is new. The histories of all
    these entities are returned, changed or not, unless `keep_histories` is False. A missing entity has no history; the
    features of it are NaN.

    Raises:
        StaleHistory: a history has another `version`: replay all stored events and labels of that entity without it.
    """
    events = events or _NO_EVENTS
    labels = labels or _NO_LABELS
    # A missing entity leaves its columns as they are.
    features = np.full((len(events), len(schema.derived)), np.nan)
    given = events.given if len(events) else np.empty((0, len(schema.features)))
    present.fill(schema, events.event_time, given, features)
    names, plans = _plans(schema)
    values = present.kept_values(schema, names, given, events.tokens, len(events))
    without_labels = _arrivals(events, _NO_LABELS, values)
    with_labels = _arrivals(events, labels, values) if len(labels) else without_labels
    kept = {}
    for plan in plans:
        arrivals = with_labels if plan.reads_labels else without_labels
        before = (histories or {}).get(plan.entity, {})
        kept[plan.entity] = _replay_entity(plan, arrivals, before, features, keep=keep_histories)
    return Replayed(features, kept)


def labelled(schema: Schema, labels: Labels, histories: Histories) -> dict[str, dict[str, bytes]]:
    """The histories of the entities of these labels after the labels arrived, by entity and token: those that `replay`
    returns. This is without its compiled code, so that a process that only labels does not compile it, for seconds.

    Entities whose histories have no labels are left out. `labels` have texts as tokens.

    Raises:
        StaleHistory: as above.
    """
    kept = {}
    for plan in _plans(schema)[1]:
        if not plan.reads_labels:
            continue
        before, changed = histories.get(plan.entity, {}), dict[str, bytearray]()
        for row in np.argsort(labels.sequence, kind="stable").tolist():
            if token := labels.tokens[plan.entity][row]:
                history = changed.setdefault(token, bytearray(before.get(token, plan.version)))
                stored.set_label(history, plan.event_bytes, int(labels.key[row]), int(labels.fraud[row]))
        _check(plan, changed.values())
        kept[plan.entity] = {token: bytes(history) for token, history in changed.items()}
    return kept


def version(schema: Schema, entity: str) -> bytes:
    """The version with which stored histories of this entity begin: a hash of everything that decides what is kept.

    A new feature that reads no further back than the others does not change it. It is empty if no feature reads this
    entity's history, which is not kept then.
    """
    return next((plan.version for plan in _plans(schema)[1] if plan.entity == entity), b"")


def event_bytes(schema: Schema, entity: str) -> int:
    """How many bytes an event takes in a stored history of this entity; 0 if it has none."""
    return next((plan.event_bytes for plan in _plans(schema)[1] if plan.entity == entity), 0)


def arrivals_by_time(event_time: np.ndarray, label_delay_days: float) -> tuple[np.ndarray, np.ndarray]:
    """The sequences of events and of their labels, [n] int64 each, for a dataset without recorded arrivals.

    Events arrive at their event time, equal ones in the order of their rows. The label of each arrives
    `label_delay_days` after it, before the events of that time.
    """
    label_time = event_time + round(label_delay_days * DAY_US)
    order = np.argsort(np.concatenate([label_time, event_time]), kind="stable")
    sequence = np.empty(len(order), np.int64)
    sequence[order] = np.arange(len(order))
    return sequence[len(event_time) :], sequence[: len(event_time)]


def model_inputs(schema: Schema, given: np.ndarray, derived: np.ndarray) -> np.ndarray:
    """The model's inputs [n, len(schema.input_names)], from the fields of requests [n, len(schema.features)] and the
    computed features [n, len(schema.derived)]."""
    return np.hstack([given[:, _places_of_inputs(schema)], derived])


@cache
def _places_of_inputs(schema: Schema) -> np.ndarray:
    return np.array([index for index, feature in enumerate(schema.features) if feature.is_input], np.int64)


def warm(schema: Schema) -> None:
    """Compile the code of `replay`, which takes seconds, and load what it reads, before they are needed."""
    if schema.derived:
        zero = np.zeros(1, np.int64)
        tokens = {name: ["warm"] for name in schema.entity_names}
        replay(schema, Events(zero, zero, zero, zero, tokens, np.zeros((1, len(schema.features)))))


@dataclass(frozen=True, eq=False)
class _Plan:
    """The declaration of one entity's features, as the kernel reads it. Stored histories are `version` and then events
    of `event_bytes`, with the values in the columns `kept` of all that are read."""

    entity: str
    may_be_missing: bool
    declared: aggregates.Declared
    reads_labels: bool
    kept: np.ndarray
    event_bytes: int
    version: bytes


@cache
def _plans(schema: Schema) -> tuple[tuple[str, ...], list[_Plan]]:
    """What the histories of a schema keep of requests, by name, and the plans of the entities that have features."""
    names = tuple(sorted({name for entity in schema.entities for name in kept_values(schema, entity.name)}))
    plans = [_plan(schema, entity, names) for entity in schema.entities]
    return names, [plan for plan in plans if plan]


def _plan(schema: Schema, entity: Entity, names: tuple[str, ...]) -> _Plan | None:
    columns = {feature.name: column for column, feature in enumerate(schema.derived)}
    # The kernel chooses the events with the same value once for all features of it.
    declared = sorted(
        (feature for feature in schema.velocity if feature.entity == entity.name), key=lambda feature: feature.same
    )
    if not declared:
        return None
    values = kept_values(schema, entity.name)
    reads_labels = any(feature.reads_labels for feature in declared)
    horizon_us = max(feature.window_us + feature.delay_us for feature in declared) + round(entity.late_days * DAY_US)
    decides = [EVENT, entity.name, entity.history_limit, horizon_us, schema.amount_decimals, reads_labels]
    if values:
        kinds: dict[str, Any] = {field.name: field.kind for field in schema.features}
        kinds |= {each.name: ["entity", *each.of] for each in schema.entities}
        decides.append([(name, kinds[name]) for name in values])
    return _Plan(
        entity=entity.name,
        may_be_missing=entity.may_be_missing,
        declared=aggregates.Declared(
            specs=np.array([_spec(schema, feature, values) for feature in declared], np.int64),
            empty=np.array([feature.empty for feature in declared], np.float64),
            smoothing=np.array([feature.smoothing for feature in declared], np.float64),
            columns=np.array([columns[feature.name] for feature in declared], np.int64),
            limit=entity.history_limit,
            horizon_us=horizon_us,
            minor_units=10**schema.amount_decimals,
        ),
        reads_labels=reads_labels,
        kept=np.array([names.index(name) for name in values], np.int64),
        event_bytes=stored.event_bytes(schema, entity.name),
        version=hashlib.sha256(json.dumps(decides).encode()).digest()[: stored.VERSION_BYTES],
    )


def _spec(schema: Schema, feature: Velocity, values: tuple[str, ...]) -> list[int]:
    """A row of `aggregates.Declared.specs`, of histories that keep these `values`."""
    taken = (aggregates.AMOUNT, -1)
    if feature.of_value:
        taken = (aggregates.FIRST_VALUE + values.index(feature.of), -1)
    elif feature.of_point:
        point = next(point for point in schema.points if point.name == feature.of)
        latitude, longitude = values.index(point.latitude), values.index(point.longitude)
        taken = (aggregates.FIRST_VALUE + latitude, aggregates.FIRST_VALUE + longitude)
    return [
        aggregates.AGGREGATES.index(feature.aggregate),
        aggregates.OF.index("values" if feature.of_value else "points" if feature.of_point else feature.of),
        feature.window_us,
        feature.delay_us,
        feature.last,
        feature.current,
        feature.labelled or feature.of == "streak",
        feature.relative,
        *taken,
        aggregates.FIRST_VALUE + values.index(feature.same) if feature.same else -1,
    ]


class _Arrivals(NamedTuple):
    """Labels and then events, of which the kernel reads `operations`, in the order of `arrival` [n]."""

    tokens: list[Mapping[str, Tokens]]
    arrival: np.ndarray
    operations: kernel.Operations


def _arrivals(events: Events, labels: Labels, values: np.ndarray) -> _Arrivals:
    padding, parts = np.zeros(len(labels), np.int64), [part for part in (labels, events) if len(part)]
    # Labels come first, and the sort is stable: at the same sequence they arrive first.
    sequence = np.concatenate([labels.sequence, events.sequence])
    return _Arrivals(
        tokens=[part.tokens for part in parts],
        arrival=np.argsort(sequence, kind="stable"),
        operations=kernel.Operations(
            first=_NONE,
            order=_NONE,
            key=np.concatenate([labels.key, events.key]),
            time=np.concatenate([padding, events.event_time]),
            amount=np.concatenate([padding, events.amount_minor]),
            label=np.concatenate([labels.fraud, np.full(len(events), kernel.EVENT, np.int8)]),
            values=values,
            kept=_NONE,
        ),
    )


def _replay_entity(
    plan: _Plan, arrivals: _Arrivals, before: Mapping[Hashable, bytes], features: np.ndarray, *, keep: bool
) -> dict[Hashable, bytes]:
    """Fill the columns of one entity. Returns the histories of all its tokens."""
    tokens, codes = factorize([part[plan.entity] for part in arrivals.tokens])
    if plan.may_be_missing:
        tokens, codes = without_missing(tokens, codes)
    if not tokens:
        return {}
    first, order = kernel.grouped(codes, arrivals.arrival, len(tokens))
    operations = arrivals.operations._replace(first=first, order=order, kept=plan.kept)
    histories = _read(plan, tokens, before, first, keep=keep)

    def run(start: int, end: int) -> None:
        """Replay the entities [start, end)."""
        kernel.replay(
            operations._replace(first=first[start : end + 1]),
            histories._replace(
                begins=histories.begins[start : end + 1],
                places=histories.places[start:end],
                ends=histories.ends[start:end],
            ),
            plan.declared,
            features,
        )

    if len(codes) < MANY_OPERATIONS:
        kernel.replay(operations, histories, plan.declared, features)
    else:  # entities are independent of each other, and the kernel releases the GIL
        shares = np.searchsorted(first, np.linspace(0, first[-1], 4 * _cores() + 1)).tolist()
        with ThreadPoolExecutor(_cores()) as threads:
            list(threads.map(run, shares[:-1], shares[1:]))
    if not keep:
        return {}
    written = histories.written.tobytes()
    ranges = zip(tokens, histories.places.tolist(), histories.ends.tolist(), strict=True)
    return {token: written[begin:end] for token, begin, end in ranges}


def _read(
    plan: _Plan, tokens: Sequence[Hashable], before: Mapping[Hashable, bytes], first: np.ndarray, *, keep: bool
) -> kernel.Histories:
    """The stored histories of these tokens, and room to write them with the operations that are in `first`."""
    stored = [before.get(token, plan.version) for token in tokens]
    _check(plan, stored)
    begins, places = kernel.allotted(
        np.fromiter(map(len, stored), np.int64, len(stored)), first, plan.event_bytes, plan.declared.limit
    )
    return kernel.Histories(
        begins=begins,
        stored=np.frombuffer(b"".join(stored), np.uint8),
        places=places[:-1],
        ends=np.empty(len(stored), np.int64),
        written=np.empty(places[-1] if keep else 0, np.uint8),
    )


def _check(plan: _Plan, histories: Iterable[bytes | bytearray]) -> None:
    if stale := len([history for history in histories if not history.startswith(plan.version)]):
        raise StaleHistory(f"{stale} histories of {plan.entity} were kept under another declaration: rebuild them.")


def _cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_NONE = np.zeros(0, np.int64)
_NO_EVENTS = Events(_NONE, _NONE, _NONE, _NONE, {})
_NO_LABELS = Labels(_NONE, _NONE.astype(np.int8), _NONE, {})
