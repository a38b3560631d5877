"""Reads a file that was sent, and cuts it into chunks: ranges of bytes that workers read by themselves.

A file is read as a whole before its first row is scored, so that one that is cut off, broken or too large is refused
and nothing of it is stored. It is never held in memory. Rows themselves are checked when they are scored.
"""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import numpy as np
from django.conf import settings

from scoring.exceptions import FileUnacceptable
from scoring.files import formats
from scoring.files.layout import Layout, is_light, layout_of, schema_of
from scoring.files.lines import BLOCK, BYTE_ORDER_MARK, Records, records
from scoring.files.models import BatchFile, FileChunk, Format, Mode
from scoring.files.tables import cut_table
from training import store

# The end of a chunk, if rows are long.
CHUNK_BYTES = 4 << 20
# Chunks of rows that are scored at once have so many times as many: otherwise what each chunk costs would count.
LIGHT = 4


class Cut:
    """The chunks of a file, as its rows are found one after the other. A chunk gets at most `of_chunk` rows."""

    def __init__(self, file: BatchFile) -> None:
        self._file = file
        self.rows = 0
        self.chunks: list[FileChunk] = []
        self._most = settings.BATCH_FILE_ROWS_LIMIT
        light = file.mode == Mode.SCORE and is_light(schema_of(file))
        self.of_chunk = settings.BATCH_FILE_CHUNK * (LIGHT if light else 1)

    def add_chunk(self, *, line: int, start: int, size: int, rows: int) -> None:
        """Add a chunk.

        Raises:
            FileUnacceptable: the file has too many rows.
        """
        self._begin(line, start)
        self._extend(rows, start + size)

    def add(self, found: Records) -> None:
        """Add rows.

        Raises:
            FileUnacceptable: the file has too many rows.
        """
        starts, ends = found.starts + found.at, found.ends + found.at
        place = 0
        while place < len(found):
            last = self.chunks[-1] if self.chunks else None
            if last is None or last.rows >= self.of_chunk or last.size >= CHUNK_BYTES:
                last = self._begin(int(found.lines[place]), int(starts[place]))
            is_full = int(np.searchsorted(ends, last.start + CHUNK_BYTES)) + 1
            stop = min(len(found), place + self.of_chunk - last.rows, is_full)
            self._extend(stop - place, int(ends[stop - 1]))
            place = stop

    def _begin(self, line: int, start: int) -> FileChunk:
        number = len(self.chunks)
        chunk = FileChunk(
            file=self._file, number=number, first_row=self.rows, first_line=line, rows=0, start=start, size=0
        )
        self.chunks.append(chunk)
        return chunk

    def _extend(self, rows: int, end: int) -> None:
        chunk = self.chunks[-1]
        chunk.rows += rows
        chunk.size = end - chunk.start
        self.rows += rows
        if self.rows > self._most:
            raise FileUnacceptable(
                f"The file has more than {self._most:,} rows (BATCH_FILE_ROWS_LIMIT). Send it in parts."
            )


def cut(file: BatchFile, on_progress: Callable[[], None]) -> tuple[Layout, Cut]:
    """Read a file, and write its rows unpacked where they are packed. `on_progress` is called again and again.

    Raises:
        FileUnacceptable: it cannot be taken; says why.
    """
    found = Cut(file)
    with store.open_stored(file.upload) as upload:
        beginning = upload.read(formats.CHECKED)
        upload.seek(0)
        formats.check(beginning, Format(file.format), "")
        if file.format == Format.PARQUET:
            layout = cut_table(file, upload, found, on_progress)
        elif packing := formats.unpacking_of(beginning):
            with _unpacked(upload, packing) as rows, store.open_new(file.unpacked) as copy:
                tee = cast(IO[bytes], io.BufferedReader(_Tee(rows, copy, on_progress), BLOCK))
                layout = _cut_text(file, tee, found, file.unpacked)
                store.keep(copy)
        else:
            text = cast(IO[bytes], io.BufferedReader(_Tee(upload, None, on_progress), BLOCK))
            layout = _cut_text(file, text, found, file.upload)
    if not found.rows:
        raise FileUnacceptable("The file has no rows.")
    return layout, found


def _cut_text(file: BatchFile, text: IO[bytes], found: Cut, source: str) -> Layout:
    start = len(BYTE_ORDER_MARK)
    if cast(io.BufferedReader, text).peek(start)[:start] == BYTE_ORDER_MARK:
        text.read(start)
    else:
        start = 0
    is_csv = file.format == Format.CSV
    layout = Layout(source=source)
    for rows in records(text, quotes=is_csv, limit_bytes=settings.PREDICT_BODY_LIMIT_BYTES, at=start):
        if is_csv and not layout.names:
            layout = layout_of(file, rows.record(0), source)
            rows = rows.those(slice(1, None))
        elif not is_csv and not found.rows and not rows.record(0).lstrip().startswith(b"{"):
            raise FileUnacceptable(f"This is not JSON Lines: line {rows.lines[0]:,} does not begin with a brace.")
        found.add(rows)
    return layout


@contextmanager
def _unpacked(upload: IO[bytes], packing: str) -> Iterator[IO[bytes]]:
    """The content of a packed file.

    Raises:
        FileUnacceptable: it is cut off or broken.
    """
    import pyarrow as pa

    try:
        if packing == "gz":
            with gzip.GzipFile(fileobj=upload) as file:
                yield cast(IO[bytes], file)
        else:
            with pa.CompressedInputStream(pa.PythonFile(upload), "zstd") as file:
                yield cast(IO[bytes], file)
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException, pa.lib.ArrowIOError) as error:
        raise FileUnacceptable("The packed file is cut off or broken. Pack it again, and send it again.") from error


class _Tee(io.RawIOBase):
    """Reads from a file, and writes what it read into another.

    Raises:
        FileUnacceptable: there is more than `BATCH_FILE_UNPACKED_LIMIT_BYTES`.
    """

    def __init__(self, file: IO[bytes], copy: IO[bytes] | None, on_progress: Callable[[], None]) -> None:
        self._file, self._copy, self._on_progress, self._read = file, copy, on_progress, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._read += len(content)
        if self._read > settings.BATCH_FILE_UNPACKED_LIMIT_BYTES:
            limit = f"{settings.BATCH_FILE_UNPACKED_LIMIT_BYTES:,} bytes (BATCH_FILE_UNPACKED_LIMIT_BYTES)"
            raise FileUnacceptable(f"Unpacked, the file has more than {limit}. Send it in parts.")
        if self._copy:
            self._copy.write(content)
        self._on_progress()
        return len(content)
