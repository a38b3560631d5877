"""Reads the columns of a raw file, of Parquet, JSON Lines or CSV, in the form that its schema declares."""

from collections.abc import Collection, Iterator
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


def is_typed(path: Path) -> bool:
    """Whether the values in a file have types of their own, unlike the texts of a CSV."""
    return path.suffix == ".parquet" or path.suffix in JSON_SUFFIXES


def column_names(path: Path, form: FileForm) -> list[str]:
    """The columns of a file, in its order. Those of JSON Lines are the keys of its rows.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            return [name for name in pq.read_schema(path).names if not name.startswith(INDEX)]
        if path.suffix in JSON_SUFFIXES:
            return list(_read_json(path).column_names)
        return list(pd.read_csv(path, sep=form.separator, encoding=form.encoding, nrows=0).columns)
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path} is no Parquet, JSON Lines or CSV file: {error}") from error


def read(path: Path, form: FileForm, columns: list[str], *, texts: Collection[str]) -> pd.DataFrame:
    """Read columns of a file. Those in `texts` are texts as they stand, if the file has no types of its own; in others
    numbers are found. Missing values are null.

    Raises:
        DatasetError: the file cannot be read, or lacks a column; names them.
    """
    try:
        if path.suffix == ".parquet":
            return _with_whole_texts(pd.read_parquet(path, columns=columns, engine="pyarrow"), texts)
        if path.suffix in JSON_SUFFIXES:
            return _with_whole_texts(_read_json(path).select(columns).to_pandas(), texts)
        return pd.read_csv(
            path,
            usecols=columns,
            dtype=dict.fromkeys(texts, "str"),
            keep_default_na=False,
            na_values=["", *form.missing],
            sep=form.separator,
            encoding=form.encoding,
            decimal=form.decimal,
            thousands=form.thousands or None,
        )[columns]
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise DatasetError(
            f"{path} is no Parquet, JSON Lines or CSV file with the columns {columns}: {error}. `[file]` of the schema "
            "says how it is written."
        ) from error


def columns_of(path: Path, form: FileForm, columns: list[str], *, texts: Collection[str]) -> Iterator[pd.Series]:
    """The same columns one after the other. Each can be forgotten before the next one comes; of a Parquet file, which
    has its values by column, no more than one is in memory.

    Raises:
        DatasetError: as `read`.
    """
    if path.suffix == ".parquet":
        for name in columns:
            yield read(path, form, [name], texts=[name] if name in texts else [])[name].reset_index(drop=True)
            pa.default_memory_pool().release_unused()  # which it would keep
    else:
        frame = read(path, form, columns, texts=texts).set_axis(range(len(columns)), axis=1)
        for place, name in enumerate(columns):
            yield frame.pop(place).rename(name)


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
            with path.open("rb") as lines:
                while block := b"".join(islice(lines, rows)):
                    yield _read_json(BytesIO(block))
        else:
            options = {"dtype": "str", "keep_default_na": False, "na_values": [""], "chunksize": rows}
            with pd.read_csv(path, sep=form.separator, encoding=form.encoding, **options) as frames:
                yield from (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path} is no Parquet, JSON Lines or CSV file: {error}") from error


def _read_json(path: Path | BytesIO) -> pa.Table:
    return pyarrow.json.read_json(path, read_options=pyarrow.json.ReadOptions(block_size=JSON_BLOCK_BYTES))


def _with_whole_texts(frame: pd.DataFrame, texts: Collection[str]) -> pd.DataFrame:
    """Whole numbers among texts are whole, also where missing values have made floats of them."""
    for name in texts:
        column = frame[name]
        if pd.api.types.is_float_dtype(column) and (column.isna() | (column % 1 == 0)).all():
            frame[name] = column.astype("Int64")
    return frame
