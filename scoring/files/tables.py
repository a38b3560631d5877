"""Parquet files. Their chunks are written as streams of Arrow, one after the other: each is a range of bytes."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

from django.conf import settings

from scoring.exceptions import FileUnacceptable
from scoring.files.columns import OTHER, Column, Numbers
from scoring.files.layout import Layout, columns_of
from scoring.files.models import BatchFile
from training import store

if TYPE_CHECKING:
    import pyarrow as pa

    from scoring.files.cutting import Cut


def cut_table(file: BatchFile, upload: IO[bytes], found: "Cut", on_progress: Callable[[], None]) -> Layout:
    """Cut a Parquet file into chunks.

    Raises:
        FileUnacceptable: it is not Parquet, is too large, or has columns that no transaction has.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    limit = settings.BATCH_FILE_UNPACKED_LIMIT_BYTES
    try:
        table = pq.ParquetFile(upload, thrift_string_size_limit=1 << 24, thrift_container_size_limit=1 << 20)
        names = columns_of(file, table.schema_arrow.names)
        for column in table.schema_arrow:
            if column.name in names and not _is_taken(column.type):
                raise FileUnacceptable(
                    f"The column {column.name} has values of the type {column.type}. Numbers, texts, times, dates and "
                    "booleans are taken."
                )
        groups = [table.metadata.row_group(number) for number in range(table.metadata.num_row_groups)]
        if sum(group.total_byte_size for group in groups) > limit:
            raise FileUnacceptable(
                f"Unpacked, the file has more than {limit:,} bytes (BATCH_FILE_UNPACKED_LIMIT_BYTES). Send it in parts."
            )
        wanted = [name for name in names if name is not None]
        batches = table.iter_batches(batch_size=found.of_chunk, columns=wanted)
        _write(file, batches, found, limit, on_progress)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileUnacceptable):
            raise
        raise FileUnacceptable("The file is not Parquet, or is broken.") from error
    return Layout(source=file.unpacked, names=names)


def _write(
    file: BatchFile, batches: "Iterator[pa.RecordBatch]", found: "Cut", limit: int, on_progress: Callable[[], None]
) -> None:
    import pyarrow as pa

    start = 0
    with store.open_new(file.unpacked) as copy:
        for batch in batches:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
            content = sink.getvalue()
            copy.write(content)
            if batch.num_rows:
                found.add_chunk(line=found.rows + 1, start=start, size=content.size, rows=batch.num_rows)
            start += content.size
            if start > limit:
                raise FileUnacceptable(
                    f"Unpacked, the file has more than {limit:,} bytes (BATCH_FILE_UNPACKED_LIMIT_BYTES)."
                )
            on_progress()
        store.keep(copy)


def _is_taken(kind: "pa.DataType") -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    is_taken = (
        *(types.is_floating, types.is_integer, types.is_decimal, types.is_boolean, types.is_string),
        *(types.is_large_string, types.is_timestamp, types.is_date, types.is_null),
    )
    return any(check(kind) for check in is_taken)


def table_of(content: bytes) -> "pa.Table":
    """The rows of a chunk."""
    import pyarrow as pa

    with pa.ipc.open_stream(content) as stream:
        return stream.read_all()


def rows_of(table: "pa.Table") -> list[dict[str, Any]]:
    """The rows of a table as a client would send them, without what is missing."""
    names, columns = table.column_names, map(_values_of, table.columns)
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*columns, strict=True)
    ]


def column_of(column: "pa.ChunkedArray") -> Column:
    """A column of a chunk, with the values that a client would send."""
    import pyarrow as pa
    import pyarrow.types as types

    kind = column.type
    if types.is_float32(kind) or types.is_float64(kind) or types.is_integer(kind):
        return Numbers(column.cast(pa.float64(), safe=False).to_numpy(), column.is_null().to_numpy())
    return _values_of(column)


def _values_of(column: "pa.ChunkedArray") -> list[Any]:
    try:
        found = column.to_pylist()
    except (OverflowError, ValueError):
        found = [_value_of(one) for one in column]
    return [_plain(value) for value in found]


def _value_of(one: "pa.Scalar") -> Any:
    """A value of a column that has some of which Python can make nothing: times beyond its calendar or in an unknown
    zone, and texts that are not UTF-8. Those become a value of no field, so their rows are refused."""
    try:
        return one.as_py()
    except (OverflowError, ValueError):
        return OTHER


def _plain(value: Any) -> Any:
    match value:
        case datetime():  # a time without a zone is UTC, as in every Parquet file here
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
        case date():
            return value.isoformat()
        case Decimal():
            return float(value)
    return value
