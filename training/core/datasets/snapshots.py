"""Snapshots of decided transactions: datasets that also have the computed features that decided, and weights.

A snapshot is a Parquet file in `DATASETS_DIR/<schema>/snapshots/`, named by the time whose knowledge it has and by the
beginning of its SHA-256, so the same rows and labels have the same name. `storage.read` reads it like any dataset.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from training.core.datasets import storage
from training.core.datasets.storage import REPORT_KEY, WEIGHT, Report
from training.core.schema import EVENT_TIME, TRANSACTION_ID, Schema

SHA_SHOWN = 12
TEXT = pa.dictionary(pa.int32(), pa.string())
MOMENT = pa.timestamp("us", tz="UTC")
# What a snapshot tells of each decision beyond what is trained on, after the columns of the schema.
EXTRA = {
    "_decided_at": MOMENT,
    "_model_version": TEXT,
    "_decision": TEXT,
    "_fraud_score": pa.float64(),
    "_is_labelled": pa.bool_(),
    "_propensity": pa.float64(),
    WEIGHT: pa.float64(),
}


class Row(NamedTuple):
    """A decided transaction. `values`, `derived` and `tokens` are by name; what is missing is None or left out.

    `is_fraud` is its outcome as known at the snapshot's time; `is_labelled` says whether somebody told it. `propensity`
    is its chance of being let through, if the control group could have it. It stands for `weight` transactions.
    """

    key: str
    event_time: datetime
    values: dict[str, Any]
    derived: dict[str, float | None]
    tokens: dict[str, str]
    decided_at: datetime
    model_version: str
    decision: str
    fraud_score: float
    is_fraud: bool
    is_labelled: bool
    propensity: float | None
    weight: float


def directory_of(datasets_dir: Path, schema: str) -> Path:
    return datasets_dir / schema / "snapshots"


def find(datasets_dir: Path, schema: str, sha256: str) -> Path | None:
    """The snapshot of a schema whose rows have this SHA-256; None if it is not here."""
    found = sorted(directory_of(datasets_dir, schema).glob(f"*-{sha256[:SHA_SHOWN]}.parquet"))
    return next(
        (path for path in found if (report := storage.read_report(path)) and report.source_sha256 == sha256), None
    )


class Writer:
    """Writes a snapshot, page by page: the whole file, or nothing if the block raises. `path` is there at the end."""

    def __init__(self, datasets_dir: Path, schema: Schema, as_of: datetime) -> None:
        self._schema, self._as_of = schema, as_of.astimezone(UTC)
        self._directory = directory_of(datasets_dir, schema.name)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._unfinished = self._directory / f".{self._as_of:%Y%m%dT%H%M%SZ}-{id(self):x}.part"
        self._columns = _columns(schema)
        self._digest = hashlib.sha256(schema.hash.encode())
        self._writer = pq.ParquetWriter(self._unfinished, pa.schema(list(self._columns.items())), compression="zstd")
        self._rows = self._frauds = self._nulls = 0
        self.path = self._unfinished

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._writer.close()
            self._unfinished.unlink(missing_ok=True)

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows, in the order of their decisions."""
        columns = self._values(rows)
        self._digest.update(msgspec.json.encode(list(columns.values())))
        arrays = [
            pa.array(values, pa.string()).dictionary_encode()
            if self._columns[name] == TEXT
            else pa.array(values, self._columns[name])
            for name, values in columns.items()
        ]
        self._writer.write_table(pa.table(arrays, schema=pa.schema(list(self._columns.items()))))
        self._rows += len(rows)
        self._frauds += sum(row.is_fraud for row in rows)
        self._nulls += sum(
            array.null_count for array, name in zip(arrays, columns, strict=True) if name != "_propensity"
        )

    def report(self) -> Report:
        """What was written so far."""
        return Report(
            self._schema.name,
            self._digest.hexdigest(),
            rows=self._rows,
            frauds=self._frauds,
            duplicates=0,
            nulls=self._nulls,
            out_of_range=0,
            as_of=self._as_of.isoformat(),
        )

    def _values(self, rows: Sequence[Row]) -> dict[str, list[Any]]:
        schema = self._schema
        columns: dict[str, list[Any]] = {
            TRANSACTION_ID: [row.key for row in rows],
            EVENT_TIME: [row.event_time for row in rows],
        }
        for name in schema.entity_names:
            columns[name] = [row.tokens.get(name) for row in rows]
        for field in schema.features:
            values = [row.values.get(field.name) for row in rows]
            # JSON has booleans and whole numbers; rounded to the type of the column, NaN becomes null.
            columns[field.name] = _numbers(values, storage.stored_type(field, schema)) if field.is_number else values
        for feature in schema.derived:
            columns[feature.name] = [row.derived.get(feature.name) for row in rows]
        columns[schema.label] = [int(row.is_fraud) for row in rows]
        told = ([row.decided_at for row in rows], [row.model_version for row in rows], [row.decision for row in rows])
        more = ([row.fraud_score for row in rows], [row.is_labelled for row in rows], [row.propensity for row in rows])
        return columns | dict(zip(EXTRA, [*told, *more, [row.weight for row in rows]], strict=True))

    def _finish(self) -> None:
        report = self.report()
        self._writer.add_key_value_metadata({REPORT_KEY: json.dumps(asdict(report)).encode()})
        self._writer.close()
        name = f"{self._as_of:%Y%m%dT%H%M%SZ}-{report.source_sha256[:SHA_SHOWN]}.parquet"
        self.path = self._unfinished.replace(self._directory / name)


def _columns(schema: Schema) -> dict[str, pa.DataType]:
    """The type of each column, by its name."""
    fields = {field.name: storage.stored_type(field, schema) for field in schema.features}
    return {
        TRANSACTION_ID: pa.string(),
        EVENT_TIME: MOMENT,
        **dict.fromkeys(schema.entity_names, TEXT),
        **{name: TEXT if kind == "category" else pa.from_numpy_dtype(kind) for name, kind in fields.items()},
        **{feature.name: pa.float64() for feature in schema.derived},
        schema.label: pa.int8(),
        **EXTRA,
    }


def _numbers(values: list[Any], kind: Any) -> list[float | None]:
    return [None if value is None else float(kind(value)) for value in values]
