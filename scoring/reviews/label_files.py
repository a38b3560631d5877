"""Files of labels, CSV or Parquet: each row like a label of the API, with a report of those that were refused."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, BinaryIO

from django.conf import settings
from django.utils import timezone

from scoring.exceptions import FileUnacceptable, InvalidFields, RequestRefused
from scoring.files import tables
from scoring.files.lines import BYTE_ORDER_MARK, records
from scoring.files.sent import number
from scoring.reviews import incoming, receiving
from scoring.reviews.incoming import FIELDS, Incoming
from scoring.reviews.receiving import Receipt
from training.core.exceptions import FraudsiteError, did_you_mean

REFUSALS_SHOWN = 1_000
# Rows that are stored together.
AT_ONCE = 5_000
PARQUET = b"PAR1"


class FileRefused(FraudsiteError):
    """This is no file of labels."""


@dataclass(frozen=True)
class Refusal:
    """A refused row: its line, of which the header is the first; the field, empty if the row itself is at fault."""

    line: int
    field: str
    reason: str


@dataclass
class Report:
    """What became of the rows of a file. `refused` has the first of `refused_count`."""

    stored: int = 0
    waiting: int = 0
    repeated: int = 0
    refused_count: int = 0
    refused: list[Refusal] = field(default_factory=list)

    def refuse(self, line: int, refusal: RequestRefused) -> None:
        self.refused_count += 1
        faults = [(error.pointer.removeprefix("/"), error.detail) for error in refusal.errors] or [("", str(refusal))]
        if len(self.refused) < REFUSALS_SHOWN:
            self.refused += [Refusal(line, *fault) for fault in faults]

    def count(self, receipt: Receipt) -> None:
        if receipt.repeated:
            self.repeated += 1
        elif receipt.until:
            self.waiting += 1
        else:
            self.stored += 1

    @property
    def summary(self) -> str:
        return (
            f"{self.stored:,} stored, {self.waiting:,} wait for their transactions, {self.repeated:,} were known, "
            f"{self.refused_count:,} refused."
        )


def load(file: BinaryIO, client_id: int) -> Report:
    """Store the labels of a file about transactions of a client. Rows that are refused keep no other from being stored;
    a file that is loaded again stores nothing twice.

    Raises:
        FileRefused: it cannot be read; rows long before the place of the fault are stored.
        StaleHistory: a schema's histories have to be rebuilt; likewise.
    """
    file.seek(0)
    is_parquet = file.read(len(PARQUET)) == PARQUET
    file.seek(0)
    rows = _parquet(file) if is_parquet else _csv(file)
    report, received_at = Report(), timezone.now()
    while part := list(islice(rows, AT_ONCE)):
        fine: dict[int, Incoming] = {}
        for line, row in part:
            try:
                if isinstance(row, RequestRefused):
                    raise row
                fine[line] = incoming.read(row, received_at)
            except RequestRefused as refusal:
                report.refuse(line, refusal)
        for line, answer in zip(fine, receiving.receive(client_id, list(fine.values())), strict=True):
            if isinstance(answer, Receipt):
                report.count(answer)
            else:
                report.refuse(line, answer)
    return report


def _csv(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any] | RequestRefused]]:
    if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
        file.seek(0)
    found = chain.from_iterable(records(file, quotes=True, limit_bytes=settings.PREDICT_BODY_LIMIT_BYTES))
    try:
        first = next(found, (0, b""))[1].decode()
        delimiter = ";" if first.count(";") > first.count(",") else ","
        names = _checked([name.strip() for name in next(csv.reader([first], delimiter=delimiter, strict=True), [])])
        for line, content in found:
            if content.strip(b";,\r\n"):
                yield line, _row(content, names, delimiter)
    except UnicodeDecodeError as error:
        raise FileRefused("The first line is not written in UTF-8.") from error
    except csv.Error as error:
        raise FileRefused("The first line is not a line of CSV.") from error
    except FileUnacceptable as error:
        again = "Correct it and import the file again: what is stored is not stored twice."
        raise FileRefused(f"{error} {again}") from error


def _row(content: bytes, names: list[str], delimiter: str) -> dict[str, Any] | RequestRefused:
    """A row of CSV, with its amount as a number; what is none stays, and is refused."""
    try:
        [cells] = csv.reader([content.decode()], delimiter=delimiter, strict=True)
    except UnicodeDecodeError:
        return InvalidFields("The row is not written in UTF-8.")
    except (csv.Error, ValueError):
        return InvalidFields("The row is not CSV: quote cells as a whole, and double quotation marks.")
    if len(cells) > len(names):
        return InvalidFields(f"The row has {len(cells)} cells, more cells than the first line, which has {len(names)}.")
    row: dict[str, Any] = {name: cell for name, cell in zip(names, cells, strict=False) if cell}
    return row | {"amount": number(row["amount"])} if "amount" in row else row


def _parquet(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        _checked(table.schema_arrow.names)
        line = 1
        for batch in table.iter_batches(batch_size=AT_ONCE):
            for row in tables.rows_of(pa.Table.from_batches([batch])):
                line += 1
                yield line, row
    except (pa.ArrowException, OSError) as error:
        raise FileRefused("The file is not Parquet, or is broken.") from error


def _checked(names: list[str]) -> list[str]:
    for name in names:
        if name not in FIELDS:
            raise FileRefused(f"There is no column {name!r}.{did_you_mean(name, FIELDS)} Columns: {', '.join(FIELDS)}.")
    if len(set(names)) < len(names) or not {"kind", "event_time"} <= set(names):
        raise FileRefused("Name each column once, kind and event_time among them.")
    return names
