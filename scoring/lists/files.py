"""Lists as CSV: their export, and the import of entries, all of a file or none."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import BinaryIO

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from scoring.lists import changes
from scoring.lists.changes import Added, Addition, ListRefused
from scoring.lists.keys import EntryRefused, Subject, subject_of
from scoring.lists.models import NOTE_LIMIT, ListEntry, PolicyList
from scoring.tenancy import tenants
from training.core.exceptions import did_you_mean

KEY, VALUE, EXPIRES, NOTE, CLIENT = "key", "value", "expires", "note", "client"
# Columns of an export that an import passes over.
FOR_PEOPLE = ("shown", "author", "added")
COLUMNS = (KEY, "shown", CLIENT, EXPIRES, NOTE, "author", "added")
# Spreadsheets take texts that begin so for formulas. We write an apostrophe before them, and take it away again.
FORMULAS = tuple("=+-@\t\r'")
CHUNK = 1_000
REFUSALS_SHOWN = 100


@dataclass(frozen=True)
class Refusal:
    """A refused line of a file; 1 is the header. `column` is empty if the line itself is at fault."""

    line: int
    column: str
    remedy: str


@dataclass
class Report:
    """What became of a file. If any line was refused, nothing was stored; `refused` has the first of them."""

    lines: int = 0
    refused: list[Refusal] = field(default_factory=list)
    refused_count: int = 0
    added: Added = field(default_factory=Added)

    def refuse(self, line: int, column: str, remedy: str) -> None:
        self.refused_count += 1
        if len(self.refused) < REFUSALS_SHOWN:
            self.refused.append(Refusal(line, column, remedy))


def columns_of(subject: Subject) -> dict[str, str]:
    """The columns in which values stand as clients send them, and the part of the subject that each is."""
    if len(subject.parts) == 1:
        return {VALUE: subject.parts[0]}
    return {f"{VALUE}_{part}": part for part in subject.parts}


def load(row: PolicyList, file: BinaryIO, *, by: str, clients: Mapping[str, int] | None = None) -> Report:
    """Add the entries of a CSV file to a list: of each line the key, as an export has it, or else the value as clients
    send it, and if given when it expires, and a note. The file is read twice and never held in memory as a whole.

    An entity that is not shared is added for the client that a line names, or for each of `clients`, by name.

    Raises:
        ListRefused: it is no such file, or the list has no room for it.
        NoSuchSubject: the list is about nothing that the schema has.
    """
    if file.seek(0, io.SEEK_END) > settings.LIST_IMPORT_LIMIT_BYTES:
        raise ListRefused(
            f"The file is larger than {settings.LIST_IMPORT_LIMIT_BYTES:,} bytes (LIST_IMPORT_LIMIT_BYTES)."
        )
    subject, report = subject_of(row.schema, row.about), Report()
    clients = tenants.by_name() if clients is None else clients
    with _lines(file, subject) as lines:
        for line, cells in lines:
            report.lines += 1
            if report.lines > settings.LIST_ENTRIES_LIMIT:
                raise changes.TooManyEntries
            try:
                _additions(subject, cells, row, clients)
            except EntryRefused as refusal:
                report.refuse(line, refusal.part, str(refusal))
    if not report.refused:
        with _lines(file, subject) as lines:
            additions = (each for _, cells in lines for each in _additions(subject, cells, row, clients))
            report.added = changes.add(row, changes.batched(additions), by=by)
    return report


@contextmanager
def _lines(file: BinaryIO, subject: Subject) -> Iterator[Iterator[tuple[int, dict[str, str]]]]:
    """The lines of a file after its header: their numbers, and their cells by column."""
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield _read(text, subject)
    except UnicodeDecodeError as error:
        raise ListRefused("The file is not written in UTF-8.") from error
    except csv.Error as error:
        raise ListRefused(f"The file is not CSV: {error}.") from error
    finally:
        text.detach()  # otherwise it would close the file


def _read(text: io.TextIOWrapper, subject: Subject) -> Iterator[tuple[int, dict[str, str]]]:
    header = text.readline()
    delimiter = ";" if header.count(";") > header.count(",") else ","
    names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), [])]
    values = columns_of(subject)
    known = [*COLUMNS, *values]
    for name in names:
        if name not in known:
            raise ListRefused(f"There is no column {name!r}.{did_you_mean(name, known)} Columns: {', '.join(known)}.")
    if len(set(names)) < len(names) or not (KEY in names or values.keys() <= set(names)):
        raise ListRefused(f"The first line names each column once, {KEY} or {' and '.join(values)} among them.")
    reader = csv.reader(text, delimiter=delimiter)
    for cells in reader:
        if any(cells):
            found = dict(zip(names, map(_plain, cells), strict=False))
            if len(cells) > len(names):
                found[""] = "too many"
            yield reader.line_num + 1, found


def _additions(
    subject: Subject, cells: dict[str, str], row: PolicyList, clients: Mapping[str, int]
) -> Iterable[Addition]:
    if "" in cells:
        raise EntryRefused("", "The line has more cells than the first line.")
    note = cells.get(NOTE, "").strip()
    if len(note) > NOTE_LIMIT or "\0" in note:
        raise EntryRefused(NOTE, f"A note has at most {NOTE_LIMIT} characters.")
    named_client = _client(cells.get(CLIENT, ""), clients) if subject.is_own else None
    if key := cells.get(KEY, ""):
        keys = {subject.checked(key): named_client}
        if named_client is None and len(clients) == 1 and subject.is_own:
            keys = dict.fromkeys(keys, *clients.values())
    else:
        try:
            sent = {part: cells.get(column, "") for column, part in columns_of(subject).items()}
            keys = subject.keys_of(sent, [named_client] if named_client else clients.values())
        except EntryRefused as refusal:
            named = {part: column for column, part in columns_of(subject).items()}
            raise EntryRefused(named[refusal.part], str(refusal)) from refusal
    until = expiry(cells.get(EXPIRES, ""), may_be_past=row.is_draft)
    return [Addition(key, until, note, client=client) for key, client in keys.items()]


def _client(name: str, clients: Mapping[str, int]) -> int | None:
    if not name:
        return None
    if name not in clients:
        raise EntryRefused(CLIENT, f"There is no such client.{did_you_mean(name, list(clients))} Or leave it out.")
    return clients[name]


def expiry(text: str, *, may_be_past: bool = False) -> datetime | None:
    """When an entry expires: a time with its offset, or a day, to whose end in UTC it counts. None for an empty text.
    In a draft, an expiry that has passed takes the list's entry off.

    Raises:
        EntryRefused: it is neither, or has passed.
    """
    if not (text := text.strip()):
        return None
    try:
        moment = datetime.fromisoformat(text)
        if len(text) == len("2026-12-31"):
            moment = datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), UTC)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise EntryRefused(EXPIRES, "Give a day such as 2026-12-31, or a time such as 2026-12-31T12:00:00Z.") from None
    if moment <= timezone.now() and not may_be_past:
        raise EntryRefused(EXPIRES, "It has expired already.")
    return moment


def dump(row: PolicyList, entries: QuerySet[ListEntry] | None = None) -> Iterator[str]:
    """The entries of a list that are neither removed nor expired, as lines of CSV, the earliest first: all, or those
    among `entries`.

    Raises:
        NoSuchSubject: the list is about nothing that the schema has.
    """
    subject = subject_of(row.schema, row.about)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    there = (ListEntry.objects.all() if entries is None else entries).filter(list=row, removed_at=None).order_by("pk")
    found = there.values_list("key", "client__name", "expires_at", "note", "author", "created_at")
    now = timezone.now()
    for number, (key, client, expires_at, note, author, added) in enumerate(found.iterator(chunk_size=CHUNK)):
        if expires_at is None or expires_at > now or row.is_draft:
            expires = expires_at.isoformat() if expires_at else ""
            writer.writerow(
                map(defused, (key, subject.shown(key), client or "", expires, note, author, added.isoformat()))
            )
        if number % CHUNK == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def defused(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULAS) else cell


def _plain(cell: str) -> str:
    """A cell as it was before `defused`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULAS) else cell
