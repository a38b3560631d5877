"""Reads files that have come in, one worker each, and hands their chunks out."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from scoring import served
from scoring.exceptions import FileUnacceptable
from scoring.files import quota
from scoring.files.cutting import Cut, cut
from scoring.files.ending import clear, end
from scoring.files.layout import Layout
from scoring.files.models import BatchFile, FileChunk, State
from scoring.messages import request_ids
from training import clock
from training.core.exceptions import StoreUnavailable

logger = logging.getLogger(__name__)

# How often the lease is extended while a file is read.
PULSE_S = 1.0
# A file whose store is away is read again after this time.
RETRY_S = 5.0
STORE_AWAY = "The store of files does not answer."


class _NoLongerOurs(Exception):
    """The file was cancelled."""


def read(file: BatchFile) -> bool:
    """Read a file and store its chunks, unless another worker does. Returns whether it can be scored now."""
    now = clock.now()
    free = Q(leased_until=None) | Q(leased_until__lte=now)
    waiting = BatchFile.objects.filter(pk=file.pk, state=State.WAITING)
    if not waiting.filter(free).update(leased_until=_lease(), attempts=F("attempts") + 1):
        return False
    file.refresh_from_db()
    if file.attempts > settings.BATCH_FILE_ATTEMPTS_LIMIT:
        if end(
            file, State.FAILED, of=(State.WAITING,), fault="The file could not be read. The workers' logs tell more."
        ):
            clear(file)
        return False
    served.look()  # a schema's file may have changed since this worker last looked
    with request_ids.working_for([file.request_id]):
        try:
            layout, found = cut(file, _pulse(file))
            begun = _begin(file, layout, found)
        except FileUnacceptable as refusal:
            if end(file, State.REFUSED, of=(State.WAITING,), fault=str(refusal)):
                clear(file)
            return False
        except StoreUnavailable as error:  # not the file's fault, and not counted as an attempt
            logger.warning("The file %s waits: %s", file.pk, error)
            later = clock.now() + timedelta(seconds=RETRY_S)
            waiting.update(leased_until=later, attempts=F("attempts") - 1, fault=STORE_AWAY)
            return False
        except _NoLongerOurs:
            begun = False
    file.refresh_from_db()
    if not begun and not file.is_active:
        clear(file)  # again, as its rows may have been unpacked meanwhile
    return begun


@transaction.atomic
def _begin(file: BatchFile, layout: Layout, found: Cut) -> bool:
    """Store what was found in a file, unless it was cancelled. Of an earlier attempt nothing is left, as it is stored
    as a whole. Its rows are counted last, so that a file that is read once more is not counted once more.

    Raises:
        FileUnacceptable: its key may not have so many transactions scored today.
    """
    begun = BatchFile.objects.filter(pk=file.pk, state=State.WAITING).update(
        state=State.SCORING,
        layout=msgspec.to_builtins(layout),
        rows=found.rows,
        started_at=clock.now(),
        touched_at=clock.now(),
        leased_until=None,
        fault="",
    )
    if begun:
        FileChunk.objects.bulk_create(found.chunks, batch_size=1_000)
        quota.take(file, found.rows)
    return bool(begun)


def _lease() -> datetime:
    return clock.now() + timedelta(seconds=settings.BATCH_FILE_LEASE_S)


def _pulse(file: BatchFile) -> Callable[[], None]:
    """Keeps the file ours while it is read.

    Raises:
        _NoLongerOurs: when it is called after the file was cancelled.
    """
    last = time.monotonic()

    def pulse() -> None:
        nonlocal last
        if time.monotonic() - last >= PULSE_S:
            last = time.monotonic()
            if not BatchFile.objects.filter(pk=file.pk, state=State.WAITING).update(leased_until=_lease()):
                raise _NoLongerOurs

    return pulse
