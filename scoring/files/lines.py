"""Splits text into records: lines, or in CSV several of them where a cell has line breaks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from scoring.exceptions import FileUnacceptable

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLOCK = 1 << 20
# Whether a byte may begin a record that is blank.
BLANK = np.isin(np.arange(256), list(b" \t\n\v\f\r"))


@dataclass(frozen=True, eq=False, slots=True)
class Records:
    """Consecutive records that are not blank. `content` is a piece of the text, which begins at its byte `at`. In
    there each record begins at one of `starts` and ends, with its line break where it has one, before one of `ends`.
    `lines` are the numbers of their first lines, from 1. All three are [n] int64."""

    content: bytes
    at: int
    starts: np.ndarray
    ends: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def record(self, place: int) -> bytes:
        return self.content[self.starts[place] : self.ends[place]]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """The number of the first line, and the content, of each."""
        for place, line in enumerate(self.lines.tolist()):
            yield line, self.record(place)

    def those(self, chosen: np.ndarray | slice) -> "Records":
        return Records(self.content, self.at, self.starts[chosen], self.ends[chosen], self.lines[chosen])


def records(file: IO[bytes], *, quotes: bool, limit_bytes: int, at: int = 0, line: int = 1) -> Iterator[Records]:
    """The records of a file that are not blank, some at a time, from its position on, which is the byte `at` and the
    line `line`. With `quotes`, a line break inside of quotation marks belongs to a cell, as in CSV (RFC 4180).

    Raises:
        FileUnacceptable: a record is longer than `limit_bytes`, or a quotation mark is not closed. All records before
            it were given.
    """
    rest = b""
    while True:
        block = file.read(BLOCK)
        content = rest + block
        found, end, fault = _found(content, at, line, quotes=quotes, limit_bytes=limit_bytes, is_last=not block)
        if len(found):
            yield found
        if fault:
            raise fault
        if not block:
            return
        rest = content[end:]
        at += end
        line += content.count(b"\n", 0, end)


def records_of(content: bytes, *, quotes: bool, limit_bytes: int, line: int) -> Records:
    """All records of a text that are not blank.

    Raises:
        FileUnacceptable: see `records`.
    """
    found, _, fault = _found(content, 0, line, quotes=quotes, limit_bytes=limit_bytes, is_last=True)
    if fault:
        raise fault
    return found


def _found(
    content: bytes, at: int, line: int, *, quotes: bool, limit_bytes: int, is_last: bool
) -> tuple[Records, int, FileUnacceptable | None]:
    """The records of a piece of text that are not blank, where the last of all ends, and what is wrong behind them."""
    starts, ends, lines = _split(content, quotes=quotes, is_last=is_last)
    end = int(ends[-1]) if len(ends) else 0
    if len(long := np.flatnonzero(ends - starts > limit_bytes)):
        right, wrong = int(long[0]), int(starts[long[0]])
    else:
        is_wrong = len(content) - end > limit_bytes or (is_last and end < len(content))
        right, wrong = len(ends), end if is_wrong else len(content)
    found = _not_blank(Records(content, at, starts[:right], ends[:right], lines[:right] + line))
    fault = None
    if wrong < len(content):
        fault = _refusal(content[wrong:], line + content.count(b"\n", 0, wrong), quotes, limit_bytes)
    return found, end, fault


def _split(content: bytes, *, quotes: bool, is_last: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the records of a content begin and end, and how many line breaks are before each. What is behind the last
    line break is a record only if the content `is_last`, and no quotation mark is open there."""
    text = np.frombuffer(content, np.uint8)
    breaks = ends = np.flatnonzero(text == ord("\n")) + 1
    marks = np.flatnonzero(text == ord('"')) if quotes and b'"' in content else np.empty(0, np.int64)
    if len(marks):
        ends = breaks[np.searchsorted(marks, breaks) % 2 == 0]
    if is_last and content and len(marks) % 2 == 0 and not content.endswith(b"\n"):
        ends = np.append(ends, len(content))
    starts = np.concatenate([[0], ends])[: len(ends)]
    lines = np.searchsorted(breaks, starts, side="right") if len(marks) else np.arange(len(ends))
    return starts, ends, lines


def _not_blank(found: Records) -> Records:
    doubtful = BLANK[np.frombuffer(found.content, np.uint8)[found.starts]]
    chosen = ~doubtful
    for place in np.flatnonzero(doubtful & (found.ends - found.starts > 1)).tolist():
        chosen[place] = not found.record(place).isspace()
    return found if chosen.all() else found.those(chosen)


def _refusal(content: bytes, line: int, quotes: bool, limit_bytes: int) -> FileUnacceptable:
    """Why the record at the beginning of a content is none."""
    first = content[: limit_bytes + 1].partition(b"\n")[0]
    if quotes and first.count(b'"') % 2:
        return FileUnacceptable(
            f"Line {line:,} opens a quotation mark that is not closed. Inside of quotation marks, double them."
        )
    return FileUnacceptable(f"Line {line:,} is longer than {limit_bytes:,} bytes.")
