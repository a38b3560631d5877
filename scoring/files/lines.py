"""Splits text into records: lines, or in CSV several of them where a cell has line breaks."""

from collections.abc import Iterator
from typing import IO, NamedTuple

from scoring.exceptions import FileUnacceptable

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Record(NamedTuple):
    """A record with its line break, where it has one. `line` is the number of its first line, from 1."""

    line: int
    start: int
    content: bytes


def records(file: IO[bytes], *, quotes: bool, limit_bytes: int, start: int = 0, line: int = 1) -> Iterator[Record]:
    """The records of a file that are not blank, from its position on, which is the byte `start` and the line `line`.
    With `quotes`, a line break inside of quotation marks belongs to a cell, as in CSV (RFC 4180).

    Raises:
        FileUnacceptable: a record is longer than `limit_bytes`, or a quotation mark is not closed.
    """
    while found := file.readline(limit_bytes + 1):
        lines = 1
        if quotes and found.count(b'"') % 2:
            found, lines = _closed(file, found, line, limit_bytes)
        if len(found) > limit_bytes:
            raise FileUnacceptable(f"Line {line:,} is longer than {limit_bytes:,} bytes.")
        if not found.isspace():
            yield Record(line, start, found)
        line += lines
        start += len(found)


def _closed(file: IO[bytes], found: bytes, line: int, limit_bytes: int) -> tuple[bytes, int]:
    lines, parts, size, marks = 1, [found], len(found), found.count(b'"')
    while marks % 2:
        more = file.readline(limit_bytes + 1)
        size += len(more)
        if not more or size > limit_bytes:
            raise FileUnacceptable(
                f"Line {line:,} opens a quotation mark that is not closed. Inside of quotation marks, double them."
            )
        parts.append(more)
        marks += more.count(b'"')
        lines += 1
    return b"".join(parts), lines
