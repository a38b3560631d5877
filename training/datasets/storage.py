"""From the verified CSV to the typed, compact form on disk: Parquet, checked against its schema."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from training.exceptions import DatasetError
from training.schema import Schema

REPORT_KEY = b"fraudsite"


@dataclass(frozen=True)
class Report:
    """What validation found. `duplicates` are rows equal in every column to an earlier one."""

    schema: str
    source_sha256: str
    rows: int
    frauds: int
    duplicates: int
    nulls: int
    out_of_range: int

    def lines(self) -> list[str]:
        return [
            f"{self.rows:,} rows, {self.frauds:,} of them fraud ({self.frauds / self.rows:.4%})",
            f"{self.duplicates:,} exact duplicates of an earlier row (kept here; `train` says what it does with them)",
            f"{self.nulls:,} missing values, {self.out_of_range:,} values outside their declared range",
        ]


def read_csv(path: Path, schema: Schema) -> pd.DataFrame:
    """Read a CSV that has the schema's features and its label, all numbers.

    Raises:
        DatasetError: other columns, or a value that is not a number; says which.
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


def validate(frame: pd.DataFrame, schema: Schema, *, source_sha256: str) -> Report:
    """Hold a frame to its schema.

    Raises:
        DatasetError: values are missing, out of range, or labels are other than 0 and 1; names the columns.
    """
    nulls = frame.isna().sum()
    out_of_range = {
        field.name: int((~frame[field.name].between(field.minimum, field.maximum)).sum() - nulls[field.name])
        for field in schema.features
    }
    labels_wrong = int((~frame[schema.label].isin([0, 1])).sum())
    faults = [f"{name}: {count} missing" for name, count in nulls.items() if count]
    faults += [f"{name}: {count} out of range" for name, count in out_of_range.items() if count]
    faults += [f"{schema.label}: {labels_wrong} neither 0 nor 1"] if labels_wrong else []
    if faults:
        raise DatasetError("The data do not fit the schema: " + "; ".join(faults) + ".")
    return Report(
        schema=schema.name,
        source_sha256=source_sha256,
        rows=len(frame),
        frauds=int(frame[schema.label].sum()),
        duplicates=int(frame.duplicated().sum()),
        nulls=int(nulls.sum()),
        out_of_range=sum(out_of_range.values()),
    )


def write(frame: pd.DataFrame, schema: Schema, report: Report, path: Path) -> None:
    """Write Parquet, all of it or nothing.

    Features are stored as float32, which is what the model takes; money and time keep float64, which they need to be
    shown as they were.
    """
    exact = {schema.amount, schema.time}
    types: dict[str, type] = {name: np.float64 if name in exact else np.float32 for name in schema.feature_names}
    table = pa.Table.from_pandas(frame.astype(types | {schema.label: np.int8}), preserve_index=False)
    table = table.replace_schema_metadata({REPORT_KEY: json.dumps(asdict(report)).encode()})
    unfinished = path.with_suffix(".part")
    pq.write_table(table, unfinished, compression="zstd")
    unfinished.replace(path)


def read_report(path: Path) -> Report | None:
    """The report of a stored dataset, or None when there is none that `ingest` wrote whole."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return Report(**json.loads(metadata[REPORT_KEY]))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError):
        return None


def read(path: Path, schema: Schema) -> tuple[np.ndarray, np.ndarray, Report]:
    """Read a stored dataset: features [n, f] float64 in the schema's order, labels [n] int8, and its report.

    Raises:
        DatasetError: it has not been ingested.
    """
    report = read_report(path)
    if report is None:
        raise DatasetError(f"There is no dataset at {path}: run `manage.py ingest`.")
    table = pq.read_table(path)
    features = np.column_stack([table[name].to_numpy().astype(np.float64) for name in schema.feature_names])
    return features, table[schema.label].to_numpy(), report
