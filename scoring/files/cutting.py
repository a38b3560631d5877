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

from django.conf import settings

from scoring.exceptions import FileUnacceptable
from scoring.files import formats
from scoring.files.layout import Layout, layout_of
from scoring.files.lines import BYTE_ORDER_MARK, records
from scoring.files.models import BatchFile, FileChunk, Format
from scoring.files.tables import cut_table
from training import store

# The end of a chunk, if rows are long.
CHUNK_BYTES = 4 << 20
BLOCK = 1 << 20


class Cut:
    """The chunks of a file, as its rows are found one after the other."""

    def __init__(self, file: BatchFile) -> None:
        self._file = file
        self.rows = 0
        self.chunks: list[FileChunk] = []
        self._is_full = True
        self._most, self._of_chunk = settings.BATCH_FILE_ROWS_LIMIT, settings.BATCH_FILE_CHUNK

    def add(self, *, line: int, start: int, size: int, rows: int = 1, ends: bool = False) -> None:
        """Add rows that follow those before. `ends` closes the chunk behind them.

        Raises:
            FileUnacceptable: the file has too many rows.
        """
        chunk = self._begin(line, start) if self._is_full else self.chunks[-1]
        chunk.rows += rows
        chunk.size = start + size - chunk.start
        self.rows += rows
        self._is_full = ends or chunk.rows >= self._of_chunk or chunk.size >= CHUNK_BYTES
        if self.rows > self._most:
            raise FileUnacceptable(
                f"The file has more than {self._most:,} rows (BATCH_FILE_ROWS_LIMIT). Send it in parts."
            )

    def _begin(self, line: int, start: int) -> FileChunk:
        number = len(self.chunks)
        chunk = FileChunk(
            file=self._file, number=number, first_row=self.rows, first_line=line, rows=0, start=start, size=0
        )
        self.chunks.append(chunk)
        return chunk


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
    found_records = records(text, quotes=is_csv, limit_bytes=settings.PREDICT_BODY_LIMIT_BYTES, start=start)
    layout = Layout(source=source)
    if is_csv:
        header = next(found_records, None)
        if header is None:
            raise FileUnacceptable("The file has no rows.")
        layout = layout_of(file, header.content, source)
    last = None
    for last in found_records:
        if not is_csv and not found.rows and not last.content.lstrip().startswith(b"{"):
            raise FileUnacceptable(f"This is not JSON Lines: line {last.line:,} does not begin with a brace.")
        found.add(line=last.line, start=last.start, size=len(last.content))
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
