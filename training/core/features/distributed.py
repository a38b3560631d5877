"""Computes the features on a cluster with Dask, the optional extra `growth` of pyproject.toml.

A feature depends on one entity only. So the arrivals are shuffled once per kind of entity, until those of one entity
are in one partition, and `replay` runs on each partition.
"""

from dataclasses import replace

import dask.dataframe as dd
import numpy as np
import pandas as pd

from training.core.features.declaration import Entity, compared_entities, values_read
from training.core.features.partitions import arrived, hashes
from training.core.features.replay import replay
from training.core.schema import Schema

PLACE = "place of the row"  # no feature or entity is named so


def features(schema: Schema, events: dd.DataFrame, labels: dd.DataFrame) -> dd.DataFrame:
    """Compute the features. Returns a row per event, in any order: `sequence`, and float64 columns named as in
    `schema.derived`. The schema must have at least one velocity feature.

    `events` have the int64 columns `key`, `event_time`, `amount_minor` and `sequence`, one number per event, a token
    column per entity, and a float64 column per value of the request that a feature reads, as `Schema.encode` encodes
    it. `labels` have `key`, `fraud`, `sequence` and the tokens. `replay` says what they mean.
    """
    parts: list[dd.DataFrame] = []
    for entity in schema.entities:
        declared = tuple(feature for feature in schema.velocity if feature.entity == entity.name)
        if declared:
            own = replace(schema, velocity=declared)
            if parts:  # what needs no history is computed with the first entity
                own = replace(own, calendar=(), ages=(), distances=())
            parts.append(_of_one_entity(own, entity, events, labels))
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.merge(part, on="sequence")
    return joined[["sequence", *(feature.name for feature in schema.derived)]]


def _of_one_entity(schema: Schema, entity: Entity, events: dd.DataFrame, labels: dd.DataFrame) -> dd.DataFrame:
    taken = ["key", "sequence", *_entities(schema, entity.name)]
    of_events = [*taken, "event_time", "amount_minor", *values_read(schema)]
    # Labels have no time or amount, so both become floats here: exact to 2**53, which is the year 2255.
    arrivals = dd.concat([events[of_events], labels[[*taken, "fraud"]]])
    if entity.may_be_missing:
        arrivals = arrivals.map_partitions(_with_place, entity.name).shuffle(PLACE)
    else:
        arrivals = arrivals.shuffle(entity.name)
    return arrivals.map_partitions(_replay_partition, schema, entity.name, meta=_meta(schema))


def _with_place(arrivals: pd.DataFrame, entity: str) -> pd.DataFrame:
    """Add a column by which rows without the entity come to all partitions, and not to a single one."""
    return arrivals.assign(**{PLACE: hashes(arrivals, entity)})


def _replay_partition(arrivals: pd.DataFrame, schema: Schema, entity: str) -> pd.DataFrame:
    """Replay one partition. Rows without `fraud` are events, the others labels."""
    is_event = arrivals["fraud"].isna()
    events = arrivals[is_event]
    replayed = replay(schema, *arrived(schema, entity, events, arrivals[~is_event]), keep_histories=False)
    made = pd.DataFrame(replayed.features, columns=list(schema.derived_names))
    return made.assign(sequence=events["sequence"].to_numpy())[list(_meta(schema))]


def _entities(schema: Schema, entity: str) -> list[str]:
    """An entity, and those that its features compare."""
    return [entity, *compared_entities(schema)]


def _meta(schema: Schema) -> dict[str, type]:
    return {"sequence": np.int64} | {feature.name: np.float64 for feature in schema.derived}
