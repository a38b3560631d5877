"""Finds out how a file is written: encoding, separator, decimal comma."""

import codecs
import csv
import re
from collections import Counter
from itertools import islice
from pathlib import Path

from training.core.datasets.tables import is_typed
from training.core.drafts.columns import MISSING, grouped
from training.core.exceptions import DatasetError
from training.core.schema.files import FileForm

SEPARATORS = ",;\t|"
SAMPLE_ROWS = 1_000
BLOCK_BYTES = 2**20
PACKED = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # xlsx and zip, xls, gzip, zstd
# The point of numbers and what stands between thousands, the likelier first.
FORMS = ((",", "."), (",", " "), (".", ","), (".", "'"), (".", " "))
WITH_POINT = re.compile(r"[+-]?\d+\.\d+")


def find_out(path: Path) -> FileForm:
    """The form of a file. Parquet and JSON Lines have no choice in it.

    Raises:
        DatasetError: the file cannot be read, or is no table.
    """
    if is_typed(path):
        return FileForm()
    try:
        encoding = _encoding_of(path)
        with path.open(encoding=encoding, newline="") as file:
            lines = list(islice(file, SAMPLE_ROWS))
        if not lines:
            raise DatasetError(f"{path} is empty.")
        separator = _separator_of(lines)
        rows = [row for row in csv.reader(lines[1:], delimiter=separator) if row]
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from error
    except csv.Error as error:
        raise DatasetError(
            f"{path} is no CSV: {error}. A quotation mark without its second may be the reason."
        ) from error
    decimal, thousands = _numbers(rows, separator)
    return FileForm(separator=separator, encoding=encoding, decimal=decimal, thousands=thousands)


def _encoding_of(path: Path) -> str:
    """UTF-8, with a byte-order mark or without, or UTF-16 with one; else that of Windows, or Latin-1."""
    with path.open("rb") as file:
        begin = file.read(4)
    if begin.startswith(PACKED):
        raise DatasetError(f"{path} is packed, or a spreadsheet: unpack it, or save it as CSV.")
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    candidates = ["utf-8-sig" if begin.startswith(codecs.BOM_UTF8) else "utf-8", "cp1252", "latin-1"]
    return next(encoding for encoding in candidates if _decodes(path, encoding))


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _separator_of(lines: list[str]) -> str:
    """The separator by which the most rows have as many fields as the head, and more than one."""
    fits: Counter[str] = Counter()
    for separator in SEPARATORS:
        counts = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        if counts and counts[0] > 1:
            fits[separator] = sum(count == counts[0] for count in counts) * counts[0]
    if not fits:
        raise DatasetError(
            "The file has one column: no comma, semicolon, tab or bar separates fields. Give a CSV with a line of "
            "column names, JSON Lines (.jsonl) or Parquet (.parquet)."
        )
    return fits.most_common(1)[0][0]


def _numbers(rows: list[list[str]], separator: str) -> tuple[str, str]:
    """The point of numbers, and what stands between thousands; empty if nothing does."""
    columns = [[text.strip() for text in column] for column in zip(*rows, strict=False)]
    columns = [[text for text in column if text and text not in MISSING] for column in columns]
    has_points = any(column and all(map(WITH_POINT.fullmatch, column)) for column in columns)
    found: list[tuple[str, str]] = []
    # Among commas that separate fields, 1,234 is rather a thousand than one with three decimals.
    for decimal, thousands in sorted(FORMS, key=lambda form: form[0] == separator):
        if decimal == separator and has_points:
            continue
        mark, pattern = (thousands if decimal == "." else decimal), grouped(decimal, thousands)
        telling = [one for one in columns if any(mark in text for text in one) and all(map(pattern.fullmatch, one))]
        if telling:
            found.append((decimal, thousands if any(thousands in text for one in telling for text in one) else ""))
    if not found:
        return ".", ""
    decimal = found[0][0]
    return decimal, next((thousands for other, thousands in found if other == decimal and thousands), "")
