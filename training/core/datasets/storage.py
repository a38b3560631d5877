"""Reads and validates raw files, and stores datasets as typed, compact Parquet."""

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from training.core import stages
from training.core.configuration import Configuration
from training.core.datasets.event_times import read_event_times
from training.core.exceptions import ConfigurationError, DatasetError
from training.core.schema import EVENT_TIME, TRANSACTION_ID, Schema, load_schema
from training.core.scored import ScoredRows
from training.core.tokens import token_of

if TYPE_CHECKING:
    from training.core.features.replay import Events, Labels

REPORT_KEY = b"fraudsite"
DAY_S = 86_400
SHOWN = 5  # how many ids, and rows of each, an error names


@dataclass(frozen=True)
class Report:
    """The findings of validation. `duplicates` counts stored rows that equal an earlier one in every column. With
    transaction ids there are none: `left_out` counts copies of an earlier row, id included, which are not stored."""

    schema: str
    source_sha256: str
    rows: int
    frauds: int
    duplicates: int
    nulls: int
    out_of_range: int
    left_out: int = 0

    def lines(self) -> list[str]:
        copies = [f"{self.left_out:,} copies of an earlier row, id included, left out"] if self.left_out else []
        return [
            f"{self.rows:,} rows, {self.frauds:,} of them fraud ({self.frauds / self.rows:.4%})",
            f"{self.duplicates:,} exact duplicates of an earlier row (kept here; `train` says what it does with them)",
            *copies,
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
    `timeline` has the day and the card of each row; None if the schema has no event time or no card.
    """

    schema: Schema
    features: np.ndarray
    labels: np.ndarray
    timeline: Timeline | None
    report: Report

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


def read_csv(path: Path, schema: Schema) -> pd.DataFrame:
    """Read a CSV with the schema's features and its label, all numbers.

    Raises:
        DatasetError: there are other columns, or values that are not numbers; names them.
    """
    try:
        frame = pd.read_csv(path, engine="pyarrow")
    except (ValueError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path.name} is not a readable CSV: {error}") from error
    expected = [*schema.feature_names, schema.label]
    if list(frame.columns) != expected:
        missing, surplus = set(expected) - set(frame.columns), set(frame.columns) - set(expected)
        raise DatasetError(f"Expected the columns {expected}; missing {sorted(missing)}, surplus {sorted(surplus)}.")
    texts = [name for name in expected if not pd.api.types.is_numeric_dtype(frame[name])]
    for name in texts:
        try:
            frame[name] = pd.to_numeric(frame[name])
        except ValueError as error:
            raise DatasetError(f"Column {name}: {error}") from error
    return frame


def read_raw(path: Path, schema: Schema, *, earliest: datetime) -> tuple[pd.DataFrame, int]:
    """Read the raw Parquet or CSV file of a schema with `time = "event_time"`. Returns the rows, sorted by time, and
    how many copies of an earlier row, id included, were left out.

    Columns are renamed as `schema.source` says; others are left out. Entities and ids become strings. In a CSV any text
    of theirs is a value, also `NA` and `null`; only an empty one is missing. For event times see `read_event_times`.

    Raises:
        DatasetError: the file cannot be read, a column is missing or of another type, or different rows have the same
            id; names them.
    """
    ours = [TRANSACTION_ID, EVENT_TIME, *schema.entity_names, *schema.feature_names, schema.label]
    theirs = [schema.source.get(name, name) for name in ours]
    texts = theirs[: 2 + len(schema.entities)]
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path, columns=theirs, engine="pyarrow")
        else:
            frame = pd.read_csv(
                path, usecols=theirs, dtype=dict.fromkeys(texts, "str"), keep_default_na=False, na_values=[""]
            )
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path} is no Parquet or CSV file with the columns {theirs}: {error}") from error
    frame = frame[theirs].set_axis(ours, axis=1)
    for name in ours:
        try:
            if name == EVENT_TIME:
                theirs_named = frame[name].rename(schema.source.get(name, name))
                frame[name] = read_event_times(theirs_named, schema, earliest=earliest)
            elif name in (TRANSACTION_ID, *schema.entity_names):
                frame[name] = frame[name].astype("str")
            else:
                frame[name] = pd.to_numeric(frame[name])
        except (ValueError, TypeError) as error:
            raise DatasetError(f"Column {name}: {error}") from error
    different = frame[~frame.duplicated()]
    _refuse_ids_on_several(different)
    rows = different.sort_values(EVENT_TIME, kind="stable", ignore_index=True)
    return rows, len(frame) - len(different)


def _refuse_ids_on_several(rows: pd.DataFrame) -> None:
    known = rows[rows[TRANSACTION_ID].notna()]
    by_id = known[known[TRANSACTION_ID].duplicated(keep=False)].groupby(TRANSACTION_ID, sort=False).groups
    if by_id:
        shown = "; ".join(
            "rows " + ", ".join(f"{row + 1}" for row in found[:SHOWN]) for found in list(by_id.values())[:SHOWN]
        )
        more = "; …" if len(by_id) > SHOWN else ""
        raise DatasetError(
            f"Column {TRANSACTION_ID}: several different rows have the same id, {len(by_id):,} times "
            f"({shown}{more}; the first row of data is row 1). Give each transaction an id of its own, or keep one row."
        )


def validate(frame: pd.DataFrame, schema: Schema, *, source_sha256: str, left_out: int = 0) -> Report:
    """Check a frame against its schema. `left_out` is the number of copies that were left out, for the report.

    Raises:
        DatasetError: there are no rows, values are missing or out of range, or labels are not 0 and 1 or all the same;
            names the columns.
    """
    if frame.empty:
        raise DatasetError("There are no rows, only column names.")
    nulls = frame.isna().sum()
    out_of_range = {
        field.name: int((~frame[field.name].between(field.lowest, field.highest)).sum() - nulls[field.name])
        for field in schema.features
    }
    labels_wrong = int((~frame[schema.label].isin([0, 1])).sum())
    faults = [f"{name}: {count} missing" for name, count in nulls.items() if count]
    faults += [f"{name}: {count} out of range" for name, count in out_of_range.items() if count]
    faults += [f"{schema.label}: {labels_wrong} neither 0 nor 1"] if labels_wrong else []
    if faults:
        raise DatasetError("The data do not fit the schema: " + "; ".join(faults) + ".")
    if frame[schema.label].nunique() == 1:
        raise DatasetError(
            f"The column {schema.label} has nothing but {int(frame[schema.label].iloc[0])}: training needs frauds (1) "
            "and legitimate transactions (0)."
        )
    return Report(
        schema=schema.name,
        source_sha256=source_sha256,
        rows=len(frame),
        frauds=int(frame[schema.label].sum()),
        duplicates=int(frame.duplicated().sum()),
        nulls=int(nulls.sum()),
        out_of_range=sum(out_of_range.values()),
        left_out=left_out,
    )


def with_tokens(frame: pd.DataFrame, schema: Schema, key: str) -> pd.DataFrame:
    """The frame with tokens instead of its entities' identifiers, made as in a web process with this `key`."""
    tokens = {}
    for name in schema.entity_names:
        stages.enter(f"Making the tokens of {name}")
        token = {value: token_of(key, schema.name, name, value) for value in frame[name].unique()}
        tokens[name] = frame[name].map(token)
    return frame.assign(**tokens)


def write(frame: pd.DataFrame, schema: Schema, report: Report, path: Path) -> None:
    """Write the whole Parquet file or nothing.

    Features are stored as float32, the type of the model's inputs; the amount and the time as float64, so that they are
    shown unchanged.
    """
    exact = {schema.amount, schema.time}
    types: dict[str, Any] = {name: np.float64 if name in exact else np.float32 for name in schema.feature_names}
    types |= {schema.label: np.int8} | dict.fromkeys(schema.entity_names, "category")
    table = pa.Table.from_pandas(frame.astype(types), preserve_index=False)
    table = table.replace_schema_metadata({REPORT_KEY: json.dumps(asdict(report)).encode()})
    unfinished = path.with_suffix(".part")
    try:
        pq.write_table(table, unfinished, compression="zstd")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_report(path: Path) -> Report | None:
    """The report of a stored dataset; None if there is no complete one."""
    try:
        metadata = pq.read_schema(path).metadata or {}
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
    """Read a stored dataset, and compute its computed features, each row's from earlier arrivals.

    Raises:
        DatasetError: it has not been ingested.
    """
    stages.enter(f"Reading the dataset of {schema.name}")
    report = _report_of(path, schema)
    table = pq.read_table(path)
    features = np.column_stack([table[name].to_numpy().astype(np.float64) for name in schema.feature_names])
    if not schema.derived:
        features = features[:, [index for index, feature in enumerate(schema.features) if feature.is_input]]
    else:
        # Imported late, as it compiles.
        from training.core.features.replay import model_inputs, replay

        stages.enter(f"Computing the features of {table.num_rows:,} rows")
        derived = replay(schema, *_arrivals(table, schema), keep_histories=False).features
        features = model_inputs(schema, features, derived)
    return Dataset(schema, features, table[schema.label].to_numpy(), _timeline(table, schema), report)


def read_rows(path: Path, schema: Schema) -> tuple[pd.DataFrame, Report]:
    """Read the stored columns of a dataset: numbers, entities, event time and label; and its report.

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


def _arrivals(table: pa.Table, schema: Schema) -> "tuple[Events, Labels]":
    """The events and labels of a stored dataset, with their order of arrival."""
    from training.core.features.replay import Events, Labels, arrivals_by_time

    def numbered(name: str) -> np.ndarray:
        return pd.factorize(table[name].to_pandas())[0]

    key = numbered(TRANSACTION_ID)
    event_time = table[EVENT_TIME].to_numpy().astype("datetime64[us]").astype(np.int64)
    amount_minor = schema.amount_minor(table[schema.amount].to_numpy())
    sequence, label_sequence = arrivals_by_time(event_time, schema.label_delay_days)
    tokens = {name: numbered(name) for name in schema.entity_names}
    labels = table[schema.label].to_numpy()
    return Events(key, event_time, amount_minor, sequence, tokens), Labels(key, labels, label_sequence, tokens)
