"""Replays stored transactions and labels, to rebuild histories and to check computed features.

The tokens of an entity are read and replayed in partitions, so that memory holds only one of them at a time.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from django.db import connection, transaction
from django.db.models import Q, QuerySet, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from scoring.models import History, Label, Prediction, Transaction
from scoring.worker import storage
from scoring.worker.histories import label_code, microseconds
from training import clock, registry
from training.core.features.declaration import compared_entities
from training.core.features.replay import Events, Labels, replay, version, warm
from training.core.schema import Schema

if TYPE_CHECKING:
    from scoring.cluster import Cluster

ROWS_AT_A_TIME = 250_000
# Tokens are hexadecimal. Partitions are bounded by this many first digits; `AFTER_ALL` sorts after every token.
DIGITS, AFTER_ALL = 8, "g"


@dataclass(frozen=True, slots=True)
class Difference:
    """A stored feature that differs from the replayed one. `stored` is None if the prediction does not have it."""

    transaction: UUID
    feature: str
    stored: float | None
    computed: float


def rebuild(schema: Schema, on_progress: Callable[[str, float], None], cluster: "Cluster | None" = None) -> int:
    """Rebuild all histories of a schema. Returns how many there are.

    Workers may go on: each partition is locked while it is rebuilt. Missing histories are first inserted as stale ones,
    which are not used for scoring until they are rebuilt. After an interruption it can be started again.
    `on_progress` gets an entity and the share of its histories that are done. With a cluster, its workers rebuild
    partitions side by side.
    """
    done = 0
    for entity in _kept(schema):
        _make_missing(schema, entity)
        parts = [(schema.name, entity, *bounds) for bounds in _bounds(schema)]
        if cluster:
            counts = cluster.each("scoring.worker.arrivals.rebuild_part", parts)
        else:
            counts = (_rebuild_partition(schema, entity, _between(*bounds)) for _, _, *bounds in parts)
        for place, count in enumerate(counts, 1):
            done += count
            on_progress(entity, place / len(parts))
    return done


def rebuild_part(name: str, entity: str, first: str, end: str) -> int:
    """Rebuild the histories of one partition of a schema's entity, those whose token is at least `first` and before
    `end`. Returns how many they are. It can be run again."""
    schema = registry.declaration_in_force(name)
    warm(schema)  # which takes long, and others must not wait for locks meanwhile
    return _rebuild_partition(schema, entity, _between(first, end))


def differences(schema: Schema, sample: int, on_progress: Callable[[str, float], None]) -> Iterator[Difference]:
    """Compute the features of `sample` stored predictions again (0: of all), and give those that differ in any bit.

    The system may be live, as later arrivals do not change earlier features. Predictions made under another declaration
    of the schema are left out, as their features have to differ.
    """
    computed = _computed(schema).exclude(model_version__in=registry.outdated(schema))
    sampled = set(computed.order_by("?").values_list("pk", flat=True)[:sample]) if sample else None
    without_history = {feature.name for feature in schema.derived} - {feature.name for feature in schema.velocity}
    optional = {entity.name: entity.may_be_missing for entity in schema.entities}
    # Of transactions without the first entity, what needs no history is not compared: so it is one that all have.
    for place, entity in enumerate(sorted(_kept(schema), key=lambda name: optional[name])):
        if optional[entity]:
            yield from _differences_without(schema, entity, computed, sampled)
        part = _only(schema, entity)
        columns = [
            (i, each.name) for i, each in enumerate(part.derived) if place == 0 or each.name not in without_history
        ]
        for chosen, share in _sampled(schema, entity, sampled) if sampled else _partitions(schema):
            rows, events, labels = _read(schema, entity, chosen)
            features = replay(part, events, labels, keep_histories=False).features
            predictions = _with_token(computed, "transaction__tokens", entity).filter(chosen)
            for key, derived in predictions.values_list("pk", "derived").iterator():
                if (sampled is None or key in sampled) and key in rows:
                    for column, name in columns:
                        stored, anew = _stored(derived, name), float(features[rows[key], column])
                        if stored is None or np.float64(stored).tobytes() != np.float64(anew).tobytes():
                            yield Difference(key, name, stored, anew)
            on_progress(entity, share)


def _differences_without(
    schema: Schema, entity: str, computed: QuerySet[Prediction], sampled: set[UUID] | None
) -> Iterator[Difference]:
    """The features of an entity are missing where the transaction does not have it."""
    names = [feature.name for feature in schema.velocity if feature.entity == entity]
    token = Cast(KeyTextTransform(entity, "transaction__tokens"), TextField())
    without = computed.annotate(token=token).filter(token__isnull=True)
    for key, derived in without.values_list("pk", "derived").iterator():
        for name in names if sampled is None or key in sampled else ():
            stored = _stored(derived, name)
            if stored is None or not math.isnan(stored):
                yield Difference(key, name, stored, math.nan)


def _stored(derived: dict[str, float | None] | None, name: str) -> float | None:
    """The stored feature: NaN if its value is missing, None if the prediction does not have it."""
    if derived is None or name not in derived:
        return None
    value = derived[name]
    return math.nan if value is None else value


def of_another_declaration(schema: Schema) -> int:
    """How many predictions were made under another declaration of the schema."""
    return _computed(schema).filter(model_version__in=registry.outdated(schema)).count()


def _computed(schema: Schema) -> QuerySet[Prediction]:
    return Prediction.objects.filter(transaction__schema=schema.name, transaction__sequence__isnull=False)


def _kept(schema: Schema) -> list[str]:
    """The entities whose history some feature reads."""
    return [name for name in schema.entity_names if version(schema, name)]


def _only(schema: Schema, entity: str) -> Schema:
    """The schema with the features of this entity alone; its histories do not depend on those of others."""
    return replace(schema, velocity=tuple(feature for feature in schema.velocity if feature.entity == entity))


def _arrived(schema: Schema) -> QuerySet[Transaction]:
    return Transaction.objects.filter(schema=schema.name, sequence__isnull=False)


def _with_token(rows: QuerySet[Any], tokens: str, entity: str) -> QuerySet[Any]:
    # Without the cast, Django decodes the value as JSON on SQLite.
    return rows.annotate(token=Cast(KeyTextTransform(entity, tokens), TextField())).filter(token__isnull=False)


def _partitions(schema: Schema) -> Iterator[tuple[Q, float]]:
    """Conditions on `token` that each token meets exactly once, and the share that is done after each partition."""
    bounds = _bounds(schema)
    for place, (first, end) in enumerate(bounds, 1):
        yield _between(first, end), place / len(bounds)


def _bounds(schema: Schema) -> list[tuple[str, str]]:
    """The first token of each partition, and where it ends."""
    count = 1 + _arrived(schema).count() // ROWS_AT_A_TIME
    firsts = [f"{place * 16**DIGITS // count:0{DIGITS}x}" for place in range(count)]
    return list(pairwise([*firsts, AFTER_ALL]))


def _between(first: str, end: str) -> Q:
    return Q(token__gte=first, token__lt=end)


def _sampled(schema: Schema, entity: str, sampled: set[UUID]) -> Iterator[tuple[Q, float]]:
    rows = _with_token(_arrived(schema), "tokens", entity).filter(pk__in=sampled)
    yield Q(token__in=set(rows.values_list("token", flat=True))), 1.0


def _read(schema: Schema, entity: str, chosen: Q) -> tuple[dict[UUID, int], Events, Labels]:
    """The arrivals of the chosen tokens: the row number of each transaction by its id, the events and the labels."""
    rows = _with_token(_arrived(schema), "tokens", entity).filter(chosen)
    taken = list(rows.values_list("pk", "sequence", "event_time", "amount", "token", "fields", "tokens").iterator())
    sequence = np.array([row[1] for row in taken], np.int64)
    events = Events(
        key=sequence,
        event_time=np.array([microseconds(row[2]) for row in taken], np.int64),
        amount_minor=schema.amount_minor(np.array([row[3] for row in taken], np.float64)),
        sequence=sequence,
        tokens={name: [row[6].get(name, "") for row in taken] for name in (entity, *compared_entities(schema))},
        given=schema.encode([[row[5].get(name) for name in schema.feature_names] for row in taken]),
    )
    numbered = Label.objects.filter(transaction__schema=schema.name, sequence__isnull=False)
    of_tokens = _with_token(numbered, "transaction__tokens", entity).filter(chosen)
    given = list(of_tokens.values_list("transaction__sequence", "verdict", "sequence", "token").iterator())
    labels = Labels(
        key=np.array([row[0] for row in given], np.int64),
        fraud=np.array([label_code(row[1]) for row in given], np.int8),
        sequence=np.array([row[2] for row in given], np.int64),
        tokens={entity: [row[3] for row in given]},
    )
    return {row[0]: place for place, row in enumerate(taken)}, events, labels


@transaction.atomic
def _rebuild_partition(schema: Schema, entity: str, chosen: Q) -> int:
    held = History.objects.select_for_update().filter(chosen, schema=schema.name, entity=entity).order_by("token")
    # A history that is inserted after this statement is not among these, and is complete.
    last_sequence = dict.fromkeys(held.values_list("token", flat=True), 0)
    _, events, labels = _read(schema, entity, chosen)
    for part in (events, labels):
        for token, sequence in zip(part.tokens[entity], part.sequence.tolist(), strict=True):
            if token in last_sequence:
                last_sequence[token] = max(last_sequence[token], sequence)
    anew = replay(_only(schema, entity), events, labels).histories[entity]
    nothing = version(schema, entity)
    storage.save_histories(
        [storage.HistoryUpdate(token, anew.get(token, nothing), last) for token, last in last_sequence.items()]
    )
    return len(last_sequence)


def _make_missing(schema: Schema, entity: str) -> None:
    """Insert an empty history for every token that has none. It has no version, and so counts as stale."""
    tokens = _with_token(_arrived(schema), "tokens", entity).order_by().values("token").distinct()
    statement, parameters = tokens.query.sql_with_params()
    empty = "''::bytea" if connection.vendor == "postgresql" else "x''"
    with connection.cursor() as cursor:
        # In one statement, so that no worker finds only some of them. Its text has no values from requests.
        cursor.execute(
            "INSERT INTO scoring_history (token, schema, entity, events, last_sequence, updated_at) "  # noqa: S608
            f"SELECT token, %s, %s, {empty}, 0, %s FROM ({statement}) AS arrived WHERE true ON CONFLICT DO NOTHING",
            [schema.name, entity, clock.now(), *parameters],
        )
