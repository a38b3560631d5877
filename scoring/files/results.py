"""The results of a file: each chunk has a part in the store, and a download puts the parts together."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from scoring.exceptions import FieldError, RequestRefused
from scoring.files.models import BatchFile, FileChunk, Format
from scoring.messages.answers import Answer
from training import store

if TYPE_CHECKING:
    import pyarrow as pa

SCORED, REPEATED, REFUSED = "scored", "repeated", "refused"
# The columns of a result, and the types that Arrow has for them. Those in JSON are texts in CSV and Parquet.
COLUMNS = {
    "line": "int64",
    "status": "string",
    "id": "string",
    "transaction_id": "string",
    "fraud_score": "double",
    "decision": "string",
    "alert": "bool",
    "threshold": "double",
    "basis": "string",
    "reasons": "string",
    "rules": "string",
    "lists": "string",
    "model_version": "string",
    "policy_version": "int64",
    "degraded": "string",
    "errors": "string",
}
IN_JSON = ("reasons", "rules", "lists", "errors")
REPORT = {"line": "int64", "transaction_id": "string", "field": "string", "code": "string", "reason": "string"}
MEDIA_TYPES = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.JSONL: "application/x-ndjson",
    Format.PARQUET: "application/vnd.apache.parquet",
}
MEDIA_TYPES_SENT = [media.partition(";")[0] for media in MEDIA_TYPES.values()]
# Spreadsheets take texts that begin so for formulas: an apostrophe goes before them, in CSV alone.
FORMULA, FORMULAS = r"^([=+\-@\t\r'])", frozenset("=+-@\t\r'")

Rows = list[dict[str, Any]]


def scored(line: int, answer: Answer, *, repeated: bool = False, stored: bool = True) -> dict[str, Any]:
    """The row of a result about a row that has an answer."""
    return {
        "line": line,
        "status": REPEATED if repeated else SCORED,
        "id": answer.id if stored else None,
        "transaction_id": answer.transaction_id,
        "fraud_score": answer.fraud_score,
        "decision": answer.decision,
        "alert": answer.alert,
        "threshold": answer.threshold,
        "basis": answer.basis,
        "reasons": _json(answer.reasons),
        "rules": _json(answer.rules),
        "lists": _json(answer.lists),
        "model_version": answer.model_version,
        "policy_version": answer.policy_version,
        "degraded": answer.degraded,
    }


def refused(line: int, transaction_id: str | None, refusal: RequestRefused) -> dict[str, Any]:
    """The row of a result about a row that was refused."""
    faults = refusal.errors or [FieldError("", refusal.title.lower().replace(" ", "_"), str(refusal))]
    errors = [{"field": each.pointer.removeprefix("/"), "code": each.code, "reason": each.detail} for each in faults]
    return {"line": line, "status": REFUSED, "transaction_id": transaction_id, "errors": _json(errors)}


def write(chunk: FileChunk, rows: Rows, further: Mapping[str, Any]) -> None:
    """Write the part of a chunk, in place of what an earlier attempt wrote. `further` are columns of rows that come on
    top; what is one value is that of all of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = _table(rows, COLUMNS)
    if further:
        table = pa.concat_tables([table, _table_of(further, COLUMNS)]).sort_by("line")
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    store.write(chunk.result, content.getvalue())


def result_of(file: BatchFile, form: Format) -> Iterator[bytes]:
    """The result of a file, as far as it is scored: one row per row, in order. It is made piece by piece."""
    return _written(_parts(file.chunks.exclude(done_at=None)), COLUMNS, form)


def report_of(file: BatchFile, form: Format) -> Iterator[bytes]:
    """The rows that were refused: one row per fault."""
    return _written(map(_faults, _parts(file.chunks.filter(refused__gt=0))), REPORT, form)


def _parts(chunks: Any) -> "Iterator[pa.Table]":
    import pyarrow.parquet as pq

    # The database is asked before the first byte is sent.
    names = [chunk.result for chunk in chunks.order_by("number")]
    return (pq.read_table(io.BytesIO(store.read(name))) for name in names)


def _faults(part: "pa.Table") -> "pa.Table":
    import pyarrow.compute as pc

    of_refused = part.filter(pc.equal(part["status"], REFUSED)).select(["line", "transaction_id", "errors"]).to_pylist()
    rows = [
        {"line": row["line"], "transaction_id": row["transaction_id"]} | fault
        for row in of_refused
        for fault in msgspec.json.decode(row["errors"])
    ]
    return _table(rows, REPORT)


def _written(parts: "Iterator[pa.Table]", columns: dict[str, str], form: Format) -> Iterator[bytes]:
    write: Callable[..., Iterator[bytes]] = {Format.CSV: _csv, Format.JSONL: _jsonl, Format.PARQUET: _parquet}[form]
    return write(parts, _table([], columns))


def _csv(parts: "Iterable[pa.Table]", empty: "pa.Table") -> Iterator[bytes]:
    from pyarrow import csv

    yield (",".join(empty.column_names) + "\n").encode()
    for part in parts:
        sink = io.BytesIO()
        csv.write_csv(_defused(part), sink, csv.WriteOptions(include_header=False, quoting_style="needed"))
        yield sink.getvalue()


def _defused(part: "pa.Table") -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, column in enumerate(part.schema):
        # Nearly all columns have none, which is seen soon: few characters are the first of any text.
        if column.type == pa.string() and not FORMULAS.isdisjoint(_firsts(part[place])):
            part = part.set_column(place, column, pc.replace_substring_regex(part[place], FORMULA, r"'\1"))
    return part


def _firsts(column: "pa.ChunkedArray") -> list[str | None]:
    """The characters that texts of a column begin with."""
    import pyarrow.compute as pc

    firsts: list[str | None] = pc.unique(pc.utf8_slice_codeunits(column, 0, 1)).to_pylist()
    return firsts


def _jsonl(parts: "Iterable[pa.Table]", empty: "pa.Table") -> Iterator[bytes]:
    raw = [name for name in IN_JSON if name in empty.column_names]
    encoder = msgspec.json.Encoder()
    for part in parts:
        rows = part.to_pylist()
        for row in rows:
            for name in raw:
                if row[name] is not None:
                    row[name] = msgspec.Raw(row[name].encode())
        yield encoder.encode_lines(rows)


def _parquet(parts: "Iterable[pa.Table]", empty: "pa.Table") -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = _Sink()
    with pq.ParquetWriter(pa.PythonFile(sink, "w"), empty.schema, compression="zstd") as writer:
        for part in parts:
            writer.write_table(part)
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """Keeps what was written until it is taken."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._written.append(bytes(content))
        return len(self._written[-1])

    def take(self) -> bytes:
        taken = b"".join(self._written)
        self._written.clear()
        return taken


def _table(rows: Rows, columns: dict[str, str]) -> "pa.Table":
    return _table_of({name: [row.get(name) for row in rows] for name in columns}, columns)


def _table_of(values: Mapping[str, Any], columns: dict[str, str]) -> "pa.Table":
    """A table of columns, lists or arrays; what is one value, or missing, is the same in all rows."""
    import pyarrow as pa

    types = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    arrays = []
    for column in types:
        value = values.get(column.name)
        if not isinstance(value, (list, np.ndarray)):
            value = pa.repeat(pa.scalar(value, column.type), len(values["line"]))
        arrays.append(pa.array(value, column.type))
    return pa.Table.from_arrays(arrays, schema=types)


def _json(content: Sequence[Any]) -> str | None:
    return msgspec.json.encode(content).decode() if content else None
