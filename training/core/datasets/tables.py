"""Reads the columns of a raw file, of Parquet, JSON Lines or CSV, in the form that its schema declares."""

from collections.abc import Collection, Iterator, Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from training.core.exceptions import DatasetError
from training.core.schema.files import FileForm

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
INDEX = "__index_level_"  # what pandas calls the numbers of its rows
JSON_BLOCK_BYTES = 2**24  # a line is shorter than that
PAGE_BYTES = 2**20


def is_typed(path: Path) -> bool:
    """Whether the values in a file have types of their own, unlike the texts of a CSV."""
    return path.suffix == ".parquet" or path.suffix in JSON_SUFFIXES


def chunks(
    path: Path, form: FileForm, columns: Sequence[str], *, texts: Collection[str], rows: int
) -> Iterator[pd.DataFrame]:
    """Read columns of a file by so many rows at a time, or fewer. The index are the numbers of the rows, from 0.

    Columns in `texts` are texts as they stand, if the file has no types of its own; in others numbers are found.
    Missing values are null. A value does not depend on how many rows are read at a time.

    Raises:
        DatasetError: the file cannot be read, or lacks a column; names them.
    """
    read = _of_csv
    if is_typed(path):
        read = _of_parquet if path.suffix == ".parquet" else _of_json
    start = 0
    try:
        for frame in read(path, form, list(dict.fromkeys(columns)), texts, rows):
            frame.index = pd.RangeIndex(start, start := start + len(frame))
            yield frame
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise DatasetError(
            f"{path} is no Parquet, JSON Lines or CSV file with the columns {list(columns)}: {error}. `[file]` of the "
            "schema says how it is written."
        ) from error


def _of_csv(
    path: Path, form: FileForm, columns: list[str], texts: Collection[str], rows: int
) -> Iterator[pd.DataFrame]:
    with pd.read_csv(
        path,
        usecols=columns,
        dtype=dict.fromkeys(texts, "str"),
        keep_default_na=False,
        na_values=["", *form.missing],
        sep=form.separator,
        encoding=form.encoding,
        decimal=form.decimal,
        thousands=form.thousands or None,
        chunksize=rows,
    ) as frames:
        yield from frames


def _of_parquet(
    path: Path, form: FileForm, columns: list[str], texts: Collection[str], rows: int
) -> Iterator[pd.DataFrame]:
    # Pages come one after the other, so that a large group of rows is never in memory.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=PAGE_BYTES) as file:
        if lacking := set(columns) - set(file.schema_arrow.names):
            raise KeyError(*sorted(lacking))
        floats = [name for name in columns if name in texts and _is_float(file.schema_arrow.field(name).type)]
        broken: set[str] = set()
        for batch in file.iter_batches(rows, columns=floats) if floats else ():
            broken |= _broken(batch)
        for batch in file.iter_batches(rows, columns=columns):
            yield _frame(batch, columns, set(texts) - broken)


def _of_json(
    path: Path, form: FileForm, columns: list[str], texts: Collection[str], rows: int
) -> Iterator[pd.DataFrame]:
    schemas: list[pa.Schema] = []
    broken: set[str] = set()
    for block in _json_blocks(path, rows):
        schemas.append(block.schema)
        broken |= _broken(block)
    types = pa.schema([(name, _common_type(name, schemas)) for name in columns])
    for block in _json_blocks(path, rows, types):
        yield _frame(block, columns, set(texts) - broken)


def blocks(path: Path, form: FileForm, rows: int) -> Iterator[pa.Table]:
    """Read a file by so many rows at a time. Values of a CSV are texts as they stand; missing ones are null.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                names = [name for name in file.schema_arrow.names if not name.startswith(INDEX)]
                yield from (pa.Table.from_batches([batch]) for batch in file.iter_batches(rows, columns=names))
        elif path.suffix in JSON_SUFFIXES:
            yield from (_read_json(BytesIO(block)) for block in _json_lines(path, rows))
        else:
            options = {"dtype": "str", "keep_default_na": False, "na_values": [""], "chunksize": rows}
            with pd.read_csv(path, sep=form.separator, encoding=form.encoding, **options) as frames:
                yield from (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path} is no Parquet, JSON Lines or CSV file: {error}") from error


def _read_json(source: Path | BytesIO, types: pa.Schema | None = None) -> pa.Table:
    try:
        return pyarrow.json.read_json(
            source,
            read_options=pyarrow.json.ReadOptions(block_size=JSON_BLOCK_BYTES),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=types, unexpected_field_behavior="ignore" if types else "infer"
            ),
        )
    except pa.ArrowInvalid as error:
        if "changed from" in str(error):
            raise ValueError(f"{error}. Write a column's values as one type, such as all of them as texts") from error
        raise


def _json_blocks(path: Path, rows: int, types: pa.Schema | None = None) -> Iterator[pa.Table]:
    return (_read_json(BytesIO(block), types) for block in _json_lines(path, rows) if not block.isspace())


def _json_lines(path: Path, rows: int) -> Iterator[bytes]:
    """So many lines of a file at a time.

    Raises:
        ValueError: the file is one array.
    """
    with path.open("rb") as lines:
        while block := b"".join(islice(lines, rows)):
            if block.lstrip().startswith(b"["):
                raise ValueError(f"it is an array. Write each row on a line of its own: jq -c '.[]' {path.name}")
            yield block


def _common_type(name: str, schemas: Sequence[pa.Schema]) -> pa.DataType:
    """The type of a column that has these types in parts of a file.

    Raises:
        KeyError: no part has it.
        ValueError: it has types that have nothing in common.
    """
    types = {schema.field(name).type for schema in schemas if name in schema.names}
    if not types:
        raise KeyError(name)
    if pa.string() in types and all(map(_is_written, types)):
        return pa.string()  # which looked like times in some parts
    parts = [pa.schema([(name, found)]) for found in types]
    return pa.unify_schemas(parts, promote_options="permissive").field(name).type


def _is_written(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_timestamp(kind) or pa.types.is_null(kind)


def _broken(table: pa.Table | pa.RecordBatch) -> set[str]:
    """The columns of floats that are not all whole."""
    names = [field.name for field in table.schema if _is_float(field.type)]
    return {name for name in names if (table[name].drop_null().to_numpy(zero_copy_only=False) % 1 != 0).any()}


def _is_float(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind))


def _frame(table: pa.Table | pa.RecordBatch, columns: list[str], whole: Collection[str]) -> pd.DataFrame:
    """The columns. Numbers in `whole` are texts of whole numbers, also where missing values would make floats of
    them."""
    made = {}
    for name in columns:
        column = table[name]
        if name in whole and _is_float(column.type):
            column = column.cast(pa.int64())
        if name in whole and pa.types.is_integer(column.type):
            column = column.cast(pa.string())
        made[name] = column.to_pandas()
    return pd.DataFrame(made, copy=False)
