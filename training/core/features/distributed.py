"""Computes the features on a cluster with Dask, the optional extra `growth` of pyproject.toml.

A feature depends on one entity only. So the arrivals are shuffled once per kind of entity, until those of one entity
are in one partition, and `replay` runs on each partition.
"""

from dataclasses import replace

import dask.dataframe as dd
import numpy as np
import pandas as pd

from training.core.features.replay import Events, Labels, replay
from training.core.schema import Schema


def features(schema: Schema, events: dd.DataFrame, labels: dd.DataFrame) -> dd.DataFrame:
    """Compute the features. Returns a row per event, in any order: `sequence`, and float64 columns named as in
    `schema.derived`. The schema must have at least one velocity feature.

    `events` have the int64 columns `key`, `event_time`, `amount_minor` and `sequence`, one number per event, and a
    token column per entity; `labels` have `key`, `fraud`, `sequence` and the tokens. `replay` says what they mean.
    """
    parts: list[dd.DataFrame] = []
    for entity in schema.entities:
        declared = tuple(feature for feature in schema.velocity if feature.entity == entity.name)
        if declared:
            # Calendar features need no history; they are computed with the first entity.
            own = replace(schema, calendar=() if parts else schema.calendar, entities=(entity,), velocity=declared)
            parts.append(_of_one_entity(own, entity.name, events, labels))
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.merge(part, on="sequence")
    return joined[["sequence", *(feature.name for feature in schema.derived)]]


def _of_one_entity(schema: Schema, entity: str, events: dd.DataFrame, labels: dd.DataFrame) -> dd.DataFrame:
    taken = ["key", "sequence", entity]
    # Labels have no time or amount, so both become floats here: exact to 2**53, which is the year 2255.
    arrivals = dd.concat([events[[*taken, "event_time", "amount_minor"]], labels[[*taken, "fraud"]]])
    return arrivals.shuffle(entity).map_partitions(_replay_partition, schema, entity, meta=_meta(schema))


def _replay_partition(arrivals: pd.DataFrame, schema: Schema, entity: str) -> pd.DataFrame:
    """Replay one partition. Rows without `fraud` are events, the others labels."""
    is_event = arrivals["fraud"].isna()
    events, labels = arrivals[is_event], arrivals[~is_event]
    replayed = replay(
        schema,
        Events(
            events["key"].to_numpy(np.int64),
            events["event_time"].to_numpy(np.int64),
            events["amount_minor"].to_numpy(np.int64),
            events["sequence"].to_numpy(np.int64),
            {entity: events[entity].to_numpy()},
        ),
        Labels(
            labels["key"].to_numpy(np.int64),
            labels["fraud"].to_numpy(np.int8),
            labels["sequence"].to_numpy(np.int64),
            {entity: labels[entity].to_numpy()},
        ),
        keep_histories=False,
    )
    made = pd.DataFrame(replayed.features, columns=[feature.name for feature in schema.derived])
    return made.assign(sequence=events["sequence"].to_numpy())[list(_meta(schema))]


def _meta(schema: Schema) -> dict[str, type]:
    return {"sequence": np.int64} | {feature.name: np.float64 for feature in schema.derived}
