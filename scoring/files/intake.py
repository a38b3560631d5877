"""Takes files in, and ends them: what clients and people do with a file."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from threading import BoundedSemaphore
from typing import IO

from django.conf import settings
from django.db import IntegrityError, transaction

from scoring import served
from scoring.exceptions import (
    FieldError,
    FileConflict,
    FileTooLarge,
    FileUnacceptable,
    InvalidFields,
    Overloaded,
    SchemaWithoutChampion,
    StorageUnavailable,
)
from scoring.files import formats
from scoring.files.ending import clear, end
from scoring.files.models import ACTIVE, BatchFile, FileChunk, Format, Mode, State
from scoring.models import ApiKey, Client
from training import clock, registry, store
from training.core.card_numbers import holds_card_number
from training.core.exceptions import StoreUnavailable, did_you_mean

logger = logging.getLogger(__name__)

# An upload of which nothing was heard for so long was given up. What is heard is written so often.
UPLOAD_SILENCE = timedelta(hours=1)
PULSE_S = 60.0

_uploads = BoundedSemaphore(settings.BATCH_FILE_UPLOADS_AT_ONCE)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be done with a file. `format` is what it is said to be; `packing` how, if anybody said. `key` is the
    API key that sent it, if one did."""

    mode: str
    format: Format
    schema: str = ""
    packing: str = ""
    name: str = ""
    ignored: list[str] = field(default_factory=list)
    idempotency_key: str | None = None
    request_id: str = ""
    key: ApiKey | None = None


class Upload:
    """A file that comes in piece by piece, and goes on to the store.

    Raises:
        FileTooLarge, FileUnacceptable: see `write`.
    """

    def __init__(self, row: BatchFile, packing: str, file: IO[bytes]) -> None:
        self._row, self._packing, self._file = row, packing, file
        self._beginning, self._checked = b"", False
        self._digest = hashlib.sha256()
        self._heard = time.monotonic()
        self.size = 0

    def write(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > settings.BATCH_FILE_LIMIT_BYTES:
            raise FileTooLarge(too_large())
        if not self._checked:
            self._beginning += piece[: formats.CHECKED]
            self._checked = len(self._beginning) >= formats.CHECKED
            if self._checked:
                formats.check(self._beginning, Format(self._row.format), self._packing)
        self._digest.update(piece)
        self._file.write(piece)
        if time.monotonic() - self._heard >= PULSE_S:
            self._heard = time.monotonic()
            BatchFile.objects.filter(pk=self._row.pk).update(touched_at=clock.now())

    def end(self) -> str:
        """Keep the file. Returns its SHA-256."""
        if not self.size:
            raise FileUnacceptable("The file is empty.")
        formats.check(self._beginning, Format(self._row.format), self._packing)
        store.keep(self._file)
        return self._digest.hexdigest()


def too_large() -> str:
    return f"A file may have at most {settings.BATCH_FILE_LIMIT_BYTES:,} bytes. Pack it, or send it in parts."


def check(client: Client, wanted: Wanted) -> Wanted:
    """Check what is wanted before the file is read. Returns it with its schema.

    Raises:
        InvalidFields: the mode or the schema is unknown.
        FileUnacceptable: its name holds a card number, or what cannot be shown.
        SchemaWithoutChampion: nothing of the schema can be scored.
        Overloaded: the client has as many files under way as it may have.
    """
    errors = []
    if wanted.mode not in Mode.values:
        both = "Send mode=traffic to store the transactions and score them, mode=score to score them only."
        errors.append(FieldError("/mode", "invalid_mode", both))
    schema, known = wanted.schema or settings.DEFAULT_SCHEMA, served.now().schemas
    if schema not in known:
        named = f"There is no such schema.{did_you_mean(schema[:64], known)} Send one of {', '.join(known)}."
        errors.append(FieldError("/schema", "unknown_schema", named))
    if errors:
        raise InvalidFields(errors=errors)
    if not wanted.name.isprintable() or holds_card_number(wanted.name):
        raise FileUnacceptable("Give the file another name.")
    if registry.champion_or_none(schema) is None:
        raise SchemaWithoutChampion
    under_way = BatchFile.objects.filter(client=client, state__in=[State.RECEIVING, *ACTIVE]).count()
    if under_way >= settings.BATCH_FILES_LIMIT:
        raise Overloaded(f"{under_way} files are under way, as many as one client may have. Send it when one is done.")
    return Wanted(**{**vars(wanted), "schema": schema})


@contextmanager
def uploading() -> Iterator[None]:
    """Hold one of the places for uploads of this process.

    Raises:
        Overloaded: none is free.
    """
    if not _uploads.acquire(blocking=False):
        raise Overloaded("As many files are being uploaded as this server takes at once. Send it again later.")
    try:
        yield
    finally:
        _uploads.release()


def receive(client: Client, wanted: Wanted, pour: Callable[[Upload], None]) -> tuple[BatchFile, bool]:
    """Take a file that was checked, which `pour` writes into the upload. Returns its row, and whether it was taken
    before, with the same Idempotency-Key. When it returns, file and row are stored; a worker reads the file then.

    Raises:
        RequestRefused: nothing was taken.
    """
    row = BatchFile(
        client=client,
        name=wanted.name,
        schema=wanted.schema,
        mode=wanted.mode,
        format=wanted.format,
        ignored=wanted.ignored,
        request_id=wanted.request_id,
        key=wanted.key,
    )
    row.save(force_insert=True)
    try:
        with store.open_new(row.upload) as file:
            upload = Upload(row, wanted.packing, file)
            pour(upload)
            row.sha256, row.size_bytes = upload.end(), upload.size
        row.idempotency_key = wanted.idempotency_key
        known = _keep(row)
    except StoreUnavailable as error:
        logger.error("A file was not stored: %s", error)
        _discard(row)
        raise StorageUnavailable from error
    except BaseException:
        _discard(row)
        raise
    if known:
        _discard(row)
    return known or row, known is not None


def _keep(row: BatchFile) -> BatchFile | None:
    """Store that a file has come. Returns the one that came before with its Idempotency-Key, if any.

    Raises:
        FileConflict: that was another file, or something else was wanted of it.
    """
    row.state, row.touched_at = State.WAITING, clock.now()
    try:
        with transaction.atomic():
            row.save()
        return None
    except IntegrityError:
        known = BatchFile.objects.get(client=row.client, idempotency_key=row.idempotency_key)
    same = ("sha256", "mode", "schema", "format", "ignored")
    if any(getattr(known, name) != getattr(row, name) for name in same):
        raise FileConflict
    return known


def _discard(row: BatchFile) -> None:
    """Delete an upload and its row, which stays while the store is away, and is looked for by `expire_old`."""
    try:
        store.delete(row.folder)
    except StoreUnavailable as error:
        logger.warning("What is left of an upload is deleted later: %s", error)
    else:
        BatchFile.objects.filter(pk=row.pk).delete()


def cancel(file: BatchFile) -> bool:
    """End a file that is not done; what is scored stays, and traffic that is stored stays stored. Returns whether it
    was under way. A worker notices within `BATCH_CHUNK` rows, or a chunk of those that are scored at once."""
    cancelled = end(file, State.CANCELLED, of=ACTIVE)
    if cancelled:
        clear(file)
    return cancelled


def expire(file: BatchFile) -> None:
    """Delete all that is kept of a file but its row.

    Raises:
        StoreUnavailable: the store failed. The file can be read no more if a part of it was deleted.
    """
    cancel(file)
    store.delete(file.folder)
    BatchFile.objects.filter(pk=file.pk).update(state=State.EXPIRED, expires_at=clock.now())
    FileChunk.objects.filter(file=file).delete()


def expire_old() -> None:
    """Delete the results whose time is up, and uploads that were given up."""
    now = clock.now()
    for file in BatchFile.objects.filter(expires_at__lte=now).exclude(state=State.EXPIRED):
        expire(file)
    for file in BatchFile.objects.filter(finished_at__lte=now - UPLOAD_SILENCE, has_rows=True):
        clear(file)  # its worker was killed before it could
    for file in BatchFile.objects.filter(state=State.RECEIVING, touched_at__lte=now - UPLOAD_SILENCE):
        _discard(file)
