"""What was sent in the rows of a chunk, in each format: row by row, and as columns of the rows whose form is plain."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from django.conf import settings

from scoring.api.decoding import Body, decode_object
from scoring.exceptions import FieldError, InvalidFields, RequestRefused
from scoring.files import tables
from scoring.files.columns import Column, Columns, Numbers
from scoring.files.layout import SCHEMA, Layout
from scoring.files.lines import BYTE_ORDER_MARK, Records, records_of
from scoring.files.models import BatchFile, FileChunk, Format
from training.core.schema import EVENT_TIME, TRANSACTION_ID, Schema

if TYPE_CHECKING:
    import pyarrow as pa

BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class Sent(Protocol):
    """`lines` are the numbers of the rows' lines, in order."""

    @property
    def lines(self) -> Sequence[int]: ...

    def body(self, place: int) -> Body:
        """What a client would send for the row at a place of the chunk, from 0.

        Raises:
            RequestRefused: nothing can be made of it.
        """

    def columns(self) -> Columns:
        """The rows whose form leaves no doubt what was sent."""


def sent_in(file: BatchFile, chunk: FileChunk, layout: Layout, schema: Schema, content: bytes) -> Sent:
    """The rows of a chunk with this content."""
    if file.format == Format.PARQUET:
        return Table(content, chunk.first_line)
    is_csv = file.format == Format.CSV
    limit = settings.PREDICT_BODY_LIMIT_BYTES
    found = records_of(content, quotes=is_csv, limit_bytes=limit, line=chunk.first_line)
    if is_csv:
        return Csv(found, layout, schema, is_last=chunk.first_row + chunk.rows == file.rows)
    return JsonLines(found, schema, file.ignored)


class Csv:
    """`is_last` says that these are the last rows of the file."""

    def __init__(self, found: Records, layout: Layout, schema: Schema, *, is_last: bool) -> None:
        self._records, self._layout, self._schema, self._is_last = found, layout, schema, is_last
        self.lines: list[int] = found.lines.tolist()

    def body(self, place: int) -> Body:
        content, layout = self._records.record(place), self._layout
        if b"\0" in content:
            raise _refused("nul", "The row has a NUL byte.")
        if self._is_last and place == len(self._records) - 1 and not content.endswith(b"\n"):
            raise _refused(
                "cut_off", "The last row has no line break, so it may be cut off. End the file with a line break."
            )
        try:
            [cells] = csv.reader([content.decode()], delimiter=layout.delimiter, strict=True)
        except UnicodeDecodeError:
            raise _refused("not_utf_8", "The row is not written in UTF-8.") from None
        except (csv.Error, ValueError):
            raise _refused(
                "not_csv", "The row is not CSV: quote cells as a whole, and double quotation marks."
            ) from None
        if len(cells) != len(layout.names):
            raise _refused("ragged", f"The row has {len(cells)} cells, and the first line {len(layout.names)}.")
        makers = _makers(self._schema)
        return {
            name: makers[name](cell) if name in makers else cell
            for name, cell in zip(layout.names, cells, strict=True)
            if cell and name is not None
        }

    def columns(self) -> Columns:

        if _is_plain(self._records.content) and (found := self._columns(self._records.content, range(len(self.lines)))):
            return found  # as nearly always
        places = _plain_rows(self._records, len(self._layout.names), self._layout.delimiter)
        content = b"".join(self._records.record(place) for place in places)
        return self._columns(content, places) or Columns([], {})

    def _columns(self, content: bytes, places: Sequence[int]) -> Columns | None:
        """The columns of a content that has the rows at these places; None if it has not, or if it has rows with
        another number of cells."""
        import pyarrow as pa

        numbers = {name for name, field in self._fields.items() if field.of_kind.takes}
        for floats in (numbers, set()):  # the latter if a cell is no number
            with suppress(pa.ArrowException):
                table = self._read(content, floats)
                if table.num_rows == len(places):
                    return Columns(places, {name: self._column(name, table[name]) for name in table.column_names})
        return None

    @cached_property
    def _fields(self) -> dict[str, Any]:
        return {field.name: field for field in self._schema.features}

    def _read(self, content: bytes, floats: set[str]) -> "pa.Table":
        import pyarrow as pa
        from pyarrow import csv as of_arrow

        names = self._layout.names
        wanted = [name for name in names if name is not None]
        return of_arrow.read_csv(
            pa.BufferReader(content),
            # Names that are passed over may stand more than once.
            of_arrow.ReadOptions(
                column_names=[f"\0{place}" if name is None else name for place, name in enumerate(names)],
                block_size=len(content) + 1,
                use_threads=False,
            ),
            of_arrow.ParseOptions(delimiter=self._layout.delimiter),
            of_arrow.ConvertOptions(
                column_types={name: pa.float64() if name in floats else pa.string() for name in wanted},
                include_columns=wanted,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )

    def _column(self, name: str, found: "pa.ChunkedArray") -> Column:
        import pyarrow as pa

        field = self._fields.get(name)
        if field and field.of_kind.takes:
            with suppress(pa.ArrowException):
                return Numbers(found.cast(pa.float64()).to_numpy(), found.is_null().to_numpy())
        cells = found.to_pylist()
        make = _makers(self._schema).get(name)
        return [cell and make(cell) for cell in cells] if make else cells


def _is_plain(content: bytes) -> bool:
    """Whether Python and Arrow make the same of all rows of a content that have the right number of cells."""
    if not content.isascii() or not content.endswith(b"\n") or b'"' in content or b"\0" in content:
        return False
    return b"\r" not in content or content.count(b"\r") == content.count(b"\r\n")


def _plain_rows(found: Records, cells: int, delimiter: str) -> list[int]:
    """The places of the rows of so many cells of which Python and Arrow make the same: in UTF-8, and quoted as a whole
    or not at all."""
    between = delimiter.encode()
    cell = b'(?:"[^"\r\n]*"|[^"\r\n%b]*)' % between
    quoted = re.compile(cell + b"(?:%b%b){%d}\r?\n" % (re.escape(between), cell, cells - 1))

    def is_plain(content: bytes) -> bool:
        if b'"' in content:
            if not quoted.fullmatch(content):
                return False
        elif content.count(between) != cells - 1 or content[-1:] != b"\n" or b"\r" in content[:-2]:
            return False
        if b"\0" in content:
            return False
        return content.isascii() or (_is_utf_8(content) and not content.startswith(BYTE_ORDER_MARK))

    return [place for place in range(len(found)) if is_plain(found.record(place))]


def _is_utf_8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refused(code: str, detail: str) -> InvalidFields:
    return InvalidFields(detail, errors=[FieldError("", code, detail)])


@lru_cache
def _makers(schema: Schema) -> Mapping[str, Callable[[str], Any]]:
    """What makes a value of a cell, by the column: of numbers and booleans; others are texts."""
    return {field.name: _boolean if field.kind == "boolean" else number for field in schema.features if field.is_number}


# What is not of its kind stays a text, and is refused. Python takes more for numbers than others do: 1_000, and digits
# of other scripts.
def number(cell: str) -> Any:
    try:
        return float(cell) if cell.isascii() and "_" not in cell else cell
    except ValueError:
        return cell


def _boolean(cell: str) -> Any:
    return BOOLEANS.get(cell.strip().lower(), cell)


class JsonLines:
    """Of its rows, the fields in `ignored` are passed over."""

    def __init__(self, found: Records, schema: Schema, ignored: Sequence[str]) -> None:
        self.lines: list[int] = found.lines.tolist()
        self._names = {*schema.feature_names, *schema.identifier_names, TRANSACTION_ID, EVENT_TIME, SCHEMA}
        self._ignored = set(ignored)
        self._bodies = [self._decoded(found.record(place)) for place in range(len(found))]

    def _decoded(self, content: bytes) -> Body | RequestRefused:
        try:
            body = decode_object(content)
        except RequestRefused as refusal:
            return refusal
        return {name: value for name, value in body.items() if name not in self._ignored} if self._ignored else body

    def body(self, place: int) -> Body:
        body = self._bodies[place]
        if isinstance(body, RequestRefused):
            raise body
        return body

    def columns(self) -> Columns:
        places = [place for place, body in enumerate(self._bodies) if isinstance(body, dict) and self._is_plain(body)]
        bodies: list[Any] = [self._bodies[place] for place in places]
        return Columns(places, {name: [body.get(name) for body in bodies] for name in self._names})

    def _is_plain(self, body: Body) -> bool:
        """Whether it has no other names, and nothing that is null where that differs from missing."""
        return body.keys() <= self._names and body.get(EVENT_TIME, "") is not None and body.get(SCHEMA, "") is not None


class Table:
    """Rows of Parquet, written as a stream of Arrow. They are numbered from `first` on."""

    def __init__(self, content: bytes, first: int) -> None:
        self._table = tables.table_of(content)
        self.lines = range(first, first + self._table.num_rows)

    @cached_property
    def _bodies(self) -> list[Body]:
        return tables.rows_of(self._table)

    def body(self, place: int) -> Body:
        return self._bodies[place]

    def columns(self) -> Columns:
        by_name = {name: tables.column_of(self._table[name]) for name in self._table.column_names}
        return Columns(range(len(self.lines)), by_name)
