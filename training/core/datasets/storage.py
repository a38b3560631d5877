"""Stores datasets as typed, compact Parquet, and reads them."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from training.core import stages
from training.core.configuration import Configuration
from training.core.datasets import columns
from training.core.exceptions import ConfigurationError, DatasetError
from training.core.features.declaration import compared_entities
from training.core.schema import EVENT_TIME, TRANSACTION_ID, Field, Schema, load_schema
from training.core.scored import ScoredRows

if TYPE_CHECKING:
    from training.core.features.replay import Events, Labels

REPORT_KEY = b"fraudsite"
DAY_S = 86_400
GROUP_ROWS = 100_000  # of a Parquet file
# The column of a snapshot that says how many transactions a row stands for. No name of a schema begins so.
WEIGHT = "_weight"


@dataclass(frozen=True)
class Report:
    """The findings of validation. `duplicates` counts stored rows that equal an earlier one in every column. With
    transaction ids there are none: `left_out` counts copies of an earlier row, id included, which are not stored.
    `converted` counts amounts in other currencies than the schema's, and `stale` those whose rate was too old.

    Of a snapshot, which `snapshots.Writer` writes, `as_of` is the time whose knowledge its labels are, and
    `source_sha256` is of its rows."""

    schema: str
    source_sha256: str
    rows: int
    frauds: int
    duplicates: int
    nulls: int
    out_of_range: int
    left_out: int = 0
    converted: int = 0
    stale: int = 0
    as_of: str = ""

    def lines(self) -> list[str]:
        copies = [f"{self.left_out:,} copies of an earlier row, id included, left out"] if self.left_out else []
        converted = [f"{self.converted:,} amounts converted, {self.stale:,} of them by a rate that was too old"]
        converted = converted if self.converted else []
        return [
            f"{self.rows:,} rows, {self.frauds:,} of them fraud ({self.frauds / self.rows:.4%})",
            f"{self.duplicates:,} exact duplicates of an earlier row (kept here; `train` says what it does with them)",
            *copies,
            *converted,
            f"{self.nulls:,} missing values, {self.out_of_range:,} values outside their declared range",
        ]


@dataclass(frozen=True)
class Timeline:
    """The day and the card of each of `n` rows: `day` [n] int64, in days since 1970 UTC, and `card` [n] int64."""

    day: np.ndarray
    card: np.ndarray


@dataclass(frozen=True, eq=False)
class Dataset:
    """A stored dataset in memory.

    `features` are the model's inputs [n, f] float64 in the order of `schema.input_names`, `labels` [n] int8 of 0 and 1.
    `timeline` has the day and the card of each row; None if the schema has no event time or no card. `texts` has what
    models learn of each category's texts, by the codes that `training.core.schema.values.encode` makes of them.
    `weights` [n] are how many transactions each row stands for; None if all rows count alike.
    """

    schema: Schema
    features: np.ndarray
    labels: np.ndarray
    timeline: Timeline | None
    report: Report
    texts: Mapping[str, Mapping[float, str]] = field(default_factory=dict)
    weights: np.ndarray | None = None

    def rows(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of the rows with these numbers."""
        return self.features[part], self.labels[part]

    def scored(self, part: np.ndarray, scores: np.ndarray) -> ScoredRows:
        """The rows with these numbers and their scores, [n] floats."""
        amounts = np.full(len(part), np.nan)
        if self.schema.amount in self.schema.input_names:
            amounts = self.features[part, self.schema.input_names.index(self.schema.amount)]
        return ScoredRows(self.labels[part].astype(np.int8), scores.astype(np.float64), amounts.astype(np.float32))

    def days_of(self, part: np.ndarray) -> float | None:
        """How many days of traffic the rows with these numbers are; None if it is not known. If time is a feature, in
        seconds, it is their share of the days that all rows span."""
        if self.timeline is not None:
            return float(len(np.unique(self.timeline.day[part])))
        if self.schema.time not in self.schema.input_names:
            return None
        span_s = np.ptp(self.features[:, self.schema.input_names.index(self.schema.time)])
        return float(span_s / DAY_S * len(part) / len(self.features))


class Writer:
    """Writes a dataset, part by part: the whole Parquet file, or nothing if the block raises. Its bytes do not depend
    on the parts.

    Numbers are stored as float32, the type of the model's inputs; the amount, the time and coordinates as float64, so
    that they are shown unchanged and features of them are the same online and offline. Texts are dictionary columns.
    """

    def __init__(self, schema: Schema, report: Report, path: Path) -> None:
        self._numbers = {field.name: stored_type(field, schema) for field in schema.features if field.is_number}
        self._numbers[schema.label] = np.int8
        self._texts = {field.name for field in schema.features if not field.is_number} | set(schema.entity_names)
        self._metadata = {REPORT_KEY: json.dumps(asdict(report)).encode()}
        self._path, self._unfinished = path, path.with_suffix(".part")
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pa.Table] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._write(pa.concat_tables(self._held)).close()
                self._unfinished.replace(self._path)
        finally:
            if self._writer:
                self._writer.close()
            self._unfinished.unlink(missing_ok=True)

    def add(self, frame: pd.DataFrame) -> None:
        """Add rows. All frames have the same columns."""
        self._held.append(pa.table({name: self._column(frame[name]) for name in frame}))
        if sum(map(len, self._held)) > GROUP_ROWS:
            held = pa.concat_tables(self._held)
            whole = (len(held) - 1) // GROUP_ROWS * GROUP_ROWS  # the last group has rows
            for start in range(0, whole, GROUP_ROWS):
                self._write(held.slice(start, GROUP_ROWS))
            self._held = [held.slice(whole)]

    def _column(self, column: pd.Series) -> pa.Array:
        if column.name in self._texts:
            found = pa.array(column, from_pandas=True)
            return found.cast(pa.string())
        if column.name in self._numbers:
            column = column.astype(self._numbers[column.name])
        return pa.array(column, from_pandas=True)

    def _write(self, table: pa.Table) -> pq.ParquetWriter:
        columns = {
            name: table[name].combine_chunks().dictionary_encode() if name in self._texts else table[name]
            for name in table.column_names
        }
        table = pa.table(columns, metadata=self._metadata)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._unfinished, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=GROUP_ROWS)
        return self._writer


def write(frame: pd.DataFrame, schema: Schema, report: Report, path: Path) -> None:
    """Write all rows of a dataset: the whole file, or nothing."""
    with Writer(schema, report, path) as writer:
        writer.add(frame)


def stored_type(field: Field, schema: Schema) -> Any:
    """The type of a column: of NumPy for a number, or "category"."""
    if not field.is_number:
        return "category"
    is_exact = field.name in {schema.amount, schema.time} or field.kind in ("latitude", "longitude")
    return np.float64 if is_exact else np.float32


def read_report(path: Path) -> Report | None:
    """The report of a stored dataset; None if there is no complete one."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return Report(**json.loads(metadata[REPORT_KEY]))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError):
        return None


def read_chosen(datasets_dir: Path, config: Configuration) -> Dataset:
    """Read the dataset that a configuration names.

    Raises:
        ConfigurationError: its file is not in `datasets_dir`.
        DatasetError, SchemaNotFound: it has not been ingested, or there is no such schema.
    """
    path = datasets_dir / config.data.parquet
    # A form of the admin names it, too: it must not lead to other files of the machine.
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(datasets_dir)):
        raise ConfigurationError(f"data.parquet must name a file in DATASETS_DIR, unlike {config.data.parquet!r}.")
    return read(path, load_schema(config.data.schema))


def read(path: Path, schema: Schema) -> Dataset:
    """Read a stored dataset, and compute its computed features, each row's from earlier arrivals. Those of a snapshot
    are stored with it.

    Raises:
        DatasetError: it has not been ingested, or is a snapshot that lacks values of this declaration.
    """
    stages.enter(f"Reading the dataset of {schema.name}")
    report = _report_of(path, schema)
    if report.as_of:
        return _read_snapshot(path, schema, report)
    table = pq.read_table(path)
    given, texts = columns.encoded(table, schema)
    derived = np.empty((table.num_rows, 0))
    # Imported late, as it compiles.
    from training.core.features.replay import model_inputs, replay

    if schema.derived:
        stages.enter(f"Computing the features of {table.num_rows:,} rows")
        derived = replay(schema, *_arrivals(table, schema, given), keep_histories=False).features
    features = model_inputs(schema, given, derived)
    return Dataset(schema, features, table[schema.label].to_numpy(), _timeline(table, schema), report, texts)


def _read_snapshot(path: Path, schema: Schema, report: Report) -> Dataset:
    """Read a snapshot. Its timeline is that of the event times; a row without a card is one of its own."""
    computed = [feature.name for feature in schema.derived]
    names = [*schema.feature_names, *computed, EVENT_TIME, schema.label, WEIGHT]
    if missing := set(names) - set(pq.read_schema(path).names):
        raise DatasetError(
            f"{path.name} has no {', '.join(sorted(missing))}: {schema.name} was declared otherwise. "
            "Run `manage.py export_training_set` again."
        )
    table = pq.read_table(path, columns=[*names, *([schema.card] if schema.card else [])])
    given, texts = columns.encoded(table, schema)
    derived = np.empty((table.num_rows, len(computed)))
    for place, name in enumerate(computed):
        derived[:, place] = table[name].to_numpy()
    # Imported late, as it compiles.
    from training.core.features.replay import model_inputs

    days = table[EVENT_TIME].to_numpy().astype("datetime64[D]").astype(np.int64)
    cards = np.full(table.num_rows, -1)
    if schema.card:
        cards = np.asarray(pd.factorize(table[schema.card].to_pandas())[0])
    cards = np.where(cards < 0, table.num_rows + np.arange(table.num_rows), cards)
    return Dataset(
        schema,
        model_inputs(schema, given, derived),
        table[schema.label].to_numpy(),
        Timeline(days, cards.astype(np.int64)),
        report,
        texts,
        weights=table[WEIGHT].to_numpy(),
    )


def read_rows(path: Path, schema: Schema) -> tuple[pd.DataFrame, Report]:
    """Read the stored columns of a dataset: values, entities, event time and label; and its report.

    Raises:
        DatasetError: it has not been ingested.
    """
    report = _report_of(path, schema)
    return pd.read_parquet(path, engine="pyarrow"), report


def _report_of(path: Path, schema: Schema) -> Report:
    report = read_report(path)
    if report is None:
        raise DatasetError(f"There is no dataset at {path}: run `manage.py ingest` for schema {schema.name}.")
    return report


def _timeline(table: pa.Table, schema: Schema) -> Timeline | None:
    if schema.time != EVENT_TIME or not schema.card:
        return None
    days = table[EVENT_TIME].to_numpy().astype("datetime64[D]").astype(np.int64)
    return Timeline(days, pd.factorize(table[schema.card].to_pandas())[0].astype(np.int64))


def _arrivals(table: pa.Table, schema: Schema, given: np.ndarray) -> "tuple[Events, Labels]":
    """The events and labels of a stored dataset, with their order of arrival.

    The tokens of entities are numbers, which are fast, or the texts that a worker has, where these are compared.
    """
    from training.core.features.replay import Events, Labels, arrivals_by_time

    compared = compared_entities(schema)

    def numbered(name: str) -> np.ndarray:
        return pd.factorize(table[name].to_pandas())[0]

    def tokens_of(entity: str) -> np.ndarray:
        if entity not in compared:
            return numbered(entity)
        numbers, texts = pd.factorize(table[entity].to_pandas())
        return np.array([*texts, ""], object)[numbers]

    key = numbered(TRANSACTION_ID)
    event_time = table[EVENT_TIME].to_numpy().astype("datetime64[us]").astype(np.int64)
    amount_minor = schema.amount_minor(table[schema.amount].to_numpy())
    sequence, label_sequence = arrivals_by_time(event_time, schema.label_delay_days)
    tokens = {name: tokens_of(name) for name in schema.entity_names}
    labels = table[schema.label].to_numpy()
    return Events(key, event_time, amount_minor, sequence, tokens, given), Labels(key, labels, label_sequence, tokens)
