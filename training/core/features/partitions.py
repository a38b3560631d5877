"""Computes the features of more rows than fit in memory, from Parquet files to a Parquet file, on one machine.

A feature depends on one entity only. So for each kind of entity the events and labels are spread over partitions on
the disk, by a hash of the token, and `replay` runs on one partition after the other. What it computes is spread over
files by the number of the event, and joined at the end.
"""

import tempfile
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_numeric_dtype

from training.core.features.declaration import compared_entities, values_read
from training.core.features.replay import Events, Labels, replay
from training.core.schema import Schema
from training.core.spreading import spread, spread_rows

ARRIVALS = 1_000_000
LABEL_COLUMNS = ("key", "sequence", "fraud")
EVENTS, LABELS = "events", "labels"
BLOCKS = 5  # so many blocks, in which files are read and written, have as many rows as a partition
ROW = "number of the row"  # of an event, from 0; no feature or entity is named so


def features(
    schema: Schema, events: Sequence[Path], labels: Sequence[Path], output: Path, *, arrivals: int = ARRIVALS
) -> int:
    """Write the features of the events in Parquet files to the Parquet file `output`: a row per event, in the same
    order, with `sequence` and float64 columns named as in `schema.derived`. Returns the number of rows.

    `events` have the int64 columns `key`, `event_time`, `amount_minor` and `sequence`, a token column per entity, and a
    float64 column per value of the request that a feature reads, as `Schema.encode` encodes it. `labels` have `key`,
    `fraud`, `sequence` and the tokens. `replay` says what they mean. The rows of either, from the first file to the
    last, are in the order of `sequence`.

    A partition has about `arrivals` events and labels. If it has more, since an entity has many, they are replayed by
    parts. So memory does not depend on the number of rows. The rows wait beside `output`.

    Raises:
        ValueError: rows are not in the order of `sequence`; names the file.
    """
    block = max(1, arrivals // BLOCKS)
    partitions = 1 + sum(pq.read_metadata(path).num_rows for path in (*events, *labels)) // arrivals
    with tempfile.TemporaryDirectory(dir=output.parent) as directory:
        computed = Path(directory)
        rows = _compute_of_event(schema, events, computed, block)
        for entity in {feature.entity: None for feature in schema.velocity}:
            own = replace(schema, velocity=tuple(feature for feature in schema.velocity if feature.entity == entity))
            own = replace(own, calendar=(), ages=(), distances=())
            with tempfile.TemporaryDirectory(dir=output.parent) as waiting:
                _partition(own, entity, events, labels, Path(waiting), partitions, block)
                for number in range(partitions):
                    for some in _replayed(own, entity, Path(waiting), number, arrivals):
                        spread(some, some[ROW] // block, computed)
        _join(schema, computed, rows, block, output)
    return rows


def arrived(schema: Schema, entity: str, events: pd.DataFrame, labels: pd.DataFrame) -> tuple[Events, Labels]:
    """Rows as `features` takes them, for `replay` of the features of one entity."""
    return Events(
        events["key"].to_numpy(np.int64),
        events["event_time"].to_numpy(np.int64),
        events["amount_minor"].to_numpy(np.int64),
        events["sequence"].to_numpy(np.int64),
        {name: events[name].to_numpy() for name in (entity, *compared_entities(schema))},
        _given(schema, events),
    ), Labels(
        labels["key"].to_numpy(np.int64),
        labels["fraud"].to_numpy(np.int8),
        labels["sequence"].to_numpy(np.int64),
        {entity: labels[entity].to_numpy()},
    )


def hashes(rows: pd.DataFrame, entity: str) -> pd.Series:
    """A uint64 of each row, by which those of the same token come together, and those without a token come anywhere."""
    tokens = rows[entity]
    missing = tokens < 0 if is_numeric_dtype(tokens) else tokens == ""
    return pd.util.hash_pandas_object(tokens, index=False).mask(missing, rows["sequence"].astype(np.uint64))


def _given(schema: Schema, events: pd.DataFrame) -> np.ndarray:
    """The values of the requests, those that no feature reads as NaN."""
    given = np.full((len(events), len(schema.features)), np.nan)
    for name in values_read(schema):
        given[:, schema.feature_names.index(name)] = events[name]
    return given


def _compute_of_event(schema: Schema, events: Sequence[Path], directory: Path, block: int) -> int:
    """Compute what needs no history. Returns the number of events."""
    schema = replace(schema, velocity=())
    rows = 0
    for read in _read(events, {"event_time", "sequence", *values_read(schema)}, block):
        row = read[ROW].to_numpy()
        time = read["event_time"].to_numpy(np.int64)
        replayed = replay(schema, Events(row, time, row, row, {}, _given(schema, read)), keep_histories=False)
        computed = pd.DataFrame(replayed.features, columns=list(schema.derived_names))
        spread(computed.assign(sequence=read["sequence"], **{ROW: row}), row // block, directory)
        rows += len(read)
    return rows


def _partition(
    schema: Schema,
    entity: str,
    events: Sequence[Path],
    labels: Sequence[Path],
    directory: Path,
    partitions: int,
    block: int,
) -> None:
    """Spread the events and, if features read them, the labels by the tokens of the entity."""
    taken = {"key", "sequence", "event_time", "amount_minor", *compared_entities(schema), *values_read(schema)}
    for read in _read(events, {*taken, entity}, block):
        spread(read, hashes(read, entity) % partitions, directory / EVENTS)
    if any(feature.reads_labels for feature in schema.velocity):
        for read in _read(labels, {*LABEL_COLUMNS, entity}, block):
            spread(read, hashes(read, entity) % partitions, directory / LABELS)


def _read(paths: Sequence[Path], columns: Collection[str], block: int) -> Iterator[pd.DataFrame]:
    """Blocks of rows with their number."""
    rows, reached = 0, np.iinfo(np.int64).min
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(block, columns=list(columns)):
                read = batch.to_pandas(ignore_metadata=True)
                sequence = np.concatenate([[reached], read["sequence"].to_numpy(np.int64)])
                if (sequence[1:] < sequence[:-1]).any():
                    raise ValueError(f"{path}: its rows, or the files, are not in the order of `sequence`: sort them.")
                yield read.assign(**{ROW: np.arange(rows, rows + len(read))})
                rows, reached = rows + len(read), sequence[-1]


def _replayed(schema: Schema, entity: str, directory: Path, number: int, arrivals: int) -> Iterator[pd.DataFrame]:
    """The features of one entity in a partition, those of at least `arrivals` events at a time unless it has fewer."""
    histories: dict[Hashable, bytes] = {}
    labels = spread_rows(directory / LABELS / str(number))
    known, known_until = pd.DataFrame(columns=[*LABEL_COLUMNS, entity]), -1
    held: list[pd.DataFrame] = []
    for read, more in spread_rows(directory / EVENTS / str(number)):
        held.append(read)
        if more and sum(map(len, held)) < arrivals:
            continue
        events, held = pd.concat(held), []
        until = events["sequence"].iloc[-1]
        while known_until <= until and (found := next(labels, None)):
            known = pd.concat([known, found[0]]) if len(known) else found[0]
            known_until = known["sequence"].iloc[-1]
        is_due = known["sequence"] <= until
        replayed = replay(
            schema, *arrived(schema, entity, events, known[is_due]), {entity: histories}, keep_histories=more
        )
        known = known[~is_due]
        histories |= replayed.histories.get(entity, {})
        computed = pd.DataFrame(replayed.features, columns=list(schema.derived_names))
        yield computed.assign(**{ROW: events[ROW].to_numpy()})


def _join(schema: Schema, directory: Path, rows: int, block: int, output: Path) -> None:
    """Write the computed features in the order of the events, the whole file or nothing."""
    names = ["sequence", *schema.derived_names]
    types = pa.schema([(name, pa.int64() if name == "sequence" else pa.float64()) for name in names])
    unfinished = output.with_suffix(".part")
    try:
        with pq.ParquetWriter(unfinished, types, compression="zstd") as writer:
            for number, start in enumerate(range(0, rows, block)):
                joined = {
                    name: np.empty(min(block, rows - start), types.field(name).type.to_pandas_dtype()) for name in names
                }
                for computed, _ in spread_rows(directory / str(number)):
                    for name in computed.columns.intersection(names):
                        joined[name][computed[ROW] - start] = computed[name]
                writer.write_table(pa.table(joined))
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
