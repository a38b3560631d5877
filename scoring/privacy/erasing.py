"""Counts and erases an entity step by step. A step is one database transaction of at most `ERASURE_STEP_ROWS`.

Each step goes on from what the one before committed, under the lock of the erasure's row. So it goes on after it was
killed, and several processes that work on one erasure only take turns.

First the entity is taken off lists, and its history is emptied under its lock: from then on a transaction of it begins
anew, and its place in the order of arrival tells it from the earlier ones, which are blanked then. Some that came
before are stored only meanwhile, behind the place at which the erasure looks: calls in flight, and rows of files, which
have the time of their file. Once the files are done, what has keys of that time is looked at again. At the end goes
what else has the token.
"""

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import transaction
from django.db.models import Min, Q

from scoring.acts import acted
from scoring.files.models import ACTIVE as FILE_ACTIVE
from scoring.files.models import Mode
from scoring.files.models import State as FileState
from scoring.lists import changes
from scoring.lists.keys import declared
from scoring.models import (
    BatchFile,
    CardSnooze,
    Client,
    Erasure,
    FileHistory,
    History,
    ListEntry,
    ReviewLink,
    SavedView,
    Transaction,
)
from scoring.privacy import blanking, finding
from scoring.privacy.finding import Held
from scoring.privacy.models import REFERENCE_LIMIT
from scoring.retention import partitions
from training import clock
from training.core.exceptions import FraudsiteError, SchemaNotFound

State = Erasure.State
BECAUSE = "Erased."
# How often workers have looked at lists before an entry's key is forgotten.
LOOKS = 3
MILLISECOND = timedelta(milliseconds=1)
# After so many of the longest deadlines a call that was taken is stored, or never will be.
IN_FLIGHT = 2
# How often what is waited for is looked at.
WAIT_S = 1.0


class NotToConfirm(FraudsiteError):
    """Only what was counted, and was not cancelled, can be erased."""


class ReferenceRefused(FraudsiteError):
    """No receipt has room for the reference."""


def begin(*, schema: str, entity: str, values: list[str], client: Client | None, reference: str, by: str) -> Erasure:
    """Begin with counting what is held on an entity. Nothing is erased before `confirm`.

    Raises:
        SchemaNotFound, NoSuchEntity, EntryRefused: as `finding.held_on`.
        ReferenceRefused: it is too long.
    """
    if len(reference) > REFERENCE_LIMIT:
        raise ReferenceRefused(f"--reference: Give at most {REFERENCE_LIMIT} characters.")
    held = finding.held_on(schema, entity, values, client)
    with transaction.atomic():
        row = Erasure.objects.create(
            schema=schema, entity=entity, client=client, reference=reference, held=msgspec.to_builtins(held), by=by
        )
        acted.send(Erasure, action="added", key=row.pk, detail=f"Counts {schema} {entity}.", person=by)
    return row


@transaction.atomic
def confirm(erasure: Erasure, *, by: str) -> None:
    """Have what was counted erased.

    Raises:
        NotToConfirm: it is not counted, or was cancelled.
    """
    counted = Erasure.objects.filter(pk=erasure.pk, state=State.COUNTED)
    if not counted.update(state=State.ERASING, stage="", cursor=None, looked_at=0, counts={}, confirmed_by=by):
        raise NotToConfirm
    acted.send(Erasure, action="changed", key=erasure.pk, detail="Confirmed: it is erased.", person=by)
    erasure.refresh_from_db()


@transaction.atomic
def cancel(erasure: Erasure, *, by: str) -> bool:
    """Cancel an erasure that was not confirmed. Returns whether it was one."""
    waiting = Erasure.objects.filter(pk=erasure.pk, state__in=(State.COUNTING, State.COUNTED))
    done = bool(waiting.update(state=State.CANCELLED, held=None, finished_at=clock.now()))
    if done:
        acted.send(Erasure, action="changed", key=erasure.pk, detail="Cancelled.", person=by)
        erasure.refresh_from_db()
    return done


def forget_unconfirmed() -> int:
    """Cancel what was counted and nobody confirmed within `ERASURE_CONFIRM_H`: it holds tokens. Returns how many."""
    before = clock.now() - timedelta(hours=settings.ERASURE_CONFIRM_H)
    old = Erasure.objects.filter(finished_at=None, state__in=(State.COUNTING, State.COUNTED), created_at__lt=before)
    return sum(cancel(row, by="") for row in old)


def work(
    erasure: Erasure, *, seconds: float | None = None, on_step: Callable[[Erasure], object] = lambda _: None
) -> bool:
    """Do steps until nothing is left to do, or for so many seconds, with a pause between them for the traffic. Returns
    whether it has to wait now, which it does itself only if it may take any time."""
    began, waits = time.monotonic(), False
    while erasure.is_active and (seconds is None or time.monotonic() < began + seconds):
        waits = step(erasure.pk)
        erasure.refresh_from_db()
        on_step(erasure)
        if waits and seconds is not None:
            break
        time.sleep(WAIT_S if waits else settings.ERASURE_PAUSE_MS / 1000)
    return waits


@transaction.atomic
def step(key: UUID) -> bool:
    """Do the next step of an erasure; nothing if it has none. Returns whether it has to wait for others."""
    row = Erasure.objects.select_for_update().get(pk=key)
    if not row.is_active:
        return False
    held = msgspec.convert(row.held, Held)
    if row.state == State.COUNTING:
        _count(row, held)
        waits = False
    else:
        waits = bool(_STAGES[row.stage](row, held))
    row.save()
    return waits


def _count(row: Erasure, held: Held) -> None:
    if row.cursor is None:
        _add(row, _found_elsewhere(row, held))
    if not _look(row, held, blanking.found):
        row.state = State.COUNTED


def _begin_anew(row: Erasure, held: Held) -> None:
    """Take the entity off lists, and have its history begin anew."""
    listed = [each for each in finding.entries_of(row.schema, row.entity, held) if each.removed_at is None]
    for lst in {each.list for each in listed}:
        entries = [each.pk for each in listed if each.list == lst]
        if lst.removed_at is None:
            changes.take_off(lst, entries, by=row.confirmed_by, because=BECAUSE)
        else:  # nobody follows it any more
            off = {"removed_at": clock.now(), "removed_by": row.confirmed_by, "removed_because": BECAUSE}
            ListEntry.objects.filter(pk__in=entries).update(**off)
    _add(row, _found_elsewhere(row, held))
    length = _version_length(row)
    for history in History.objects.select_for_update().filter(token__in=held.tokens).order_by("token"):
        held.sequences[history.token] = history.last_sequence
        # Without the events, and with the version that workers expect of it. They wait for the lock meanwhile.
        history.events = bytes(history.events)[:length]
        history.save(update_fields=["events"])
    row.held, row.until, row.stage = msgspec.to_builtins(held), clock.now(), "rows"


def _blank(row: Erasure, held: Held) -> None:
    if not _look(row, held, lambda rows: _blanked(rows, row, held)):
        row.stage = "late"


def _blanked(rows: list[Transaction], row: Erasure, held: Held) -> Counter[str]:
    return blanking.blank([each for each in rows if _is_before(each, row, held)])


def _await_late(row: Erasure, held: Held) -> bool:
    """Wait until all that came before the entity began anew is stored, and go back to the oldest of it."""
    now, until = clock.now(), row.until or row.created_at
    in_flight = timedelta(milliseconds=IN_FLIGHT * max(settings.PREDICT_DEADLINE_MS, settings.BATCH_DEADLINE_MS))
    files = BatchFile.objects.filter(schema=row.schema, mode=Mode.TRAFFIC, created_at__lte=until)
    if row.client_id:
        files = files.filter(client=row.client_id)
    # Of one that was cancelled, a worker may be just about to store rows.
    under_way = Q(state__in=(FileState.RECEIVING, *FILE_ACTIVE)) | Q(chunks__leased_until__gt=now)
    if now < until + in_flight or files.filter(under_way).exists():
        return True
    # Those that have ended longer ago than a lease had no row stored since.
    since = until - timedelta(seconds=settings.BATCH_FILE_LEASE_S)
    first = files.filter(finished_at__gte=since).aggregate(first=Min("created_at"))["first"]
    row.cursor, row.stage = partitions.lowest_key(min(until - in_flight, first or until)), "again"
    return False


def _blank_late(row: Erasure, held: Held) -> None:
    """Look again at transactions whose keys are of a time before the entity began anew."""
    last, _ = finding.window(row.cursor)
    if last is not None and row.cursor is not None:
        _add(row, _blanked(finding.transactions(row.schema, row.entity, held.tokens, row.cursor, last), row, held))
    row.cursor = last
    if last is None or last > partitions.lowest_key((row.until or row.created_at) + MILLISECOND):
        row.cursor, row.stage = None, "rest"


def _is_before(each: Transaction, row: Erasure, held: Held) -> bool:
    """Whether a transaction came before its entity began anew."""
    last = held.sequences.get((each.tokens or {})[row.entity])
    if each.sequence is not None and last is not None:
        return each.sequence <= last
    return row.until is not None and each.received_at <= row.until


def _finish(row: Erasure, held: Held) -> bool:
    """Forget what else has the token, once workers have heard that lists have changed."""
    latest = ListEntry.objects.filter(finding.entries(row.schema, row.entity, held), removed_because=BECAUSE)
    heard = clock.now() - timedelta(seconds=LOOKS * settings.MODEL_REFRESH_S)
    if latest.filter(removed_at__gt=heard).exists():
        return True
    # Entries that were added after the erasure began are those of an entity that begins anew.
    ListEntry.objects.filter(finding.entries(row.schema, row.entity, held)).exclude(removed_at=None).delete()
    length = _version_length(row)
    for history in History.objects.select_for_update().filter(token__in=held.tokens):
        if len(history.events) <= length:  # nothing of it came since
            history.delete()
    CardSnooze.objects.filter(card__in=held.tokens, until__isnull=False).delete()
    FileHistory.objects.filter(token__in=held.tokens).delete()
    SavedView.objects.filter(_mentions(held)).delete()
    row.held, row.cursor, row.stage = None, None, ""
    row.state, row.finished_at = State.DONE, clock.now()
    told = ", ".join(f"{count:,} {kind}" for kind, count in row.found)
    acted.send(Erasure, action="deleted", key=row.pk, detail=f"Erased: {told or 'nothing'}.", person=row.confirmed_by)
    return False


_STAGES: dict[str, Callable[[Erasure, Held], bool | None]] = {
    "": _begin_anew,
    "rows": _blank,
    "late": _await_late,
    "again": _blank_late,
    "rest": _finish,
}


def _look(row: Erasure, held: Held, do: Callable[[list[Transaction]], Counter[str]]) -> bool:
    """Look through the next transactions. Returns whether there were any."""
    last, count = finding.window(row.cursor)
    if last is None:
        row.cursor = None
        return False
    rows = finding.transactions(row.schema, row.entity, held.tokens, row.cursor, last)
    if rows:
        _add(row, do(rows))
    row.cursor, row.looked_at = last, row.looked_at + count
    return True


def _found_elsewhere(row: Erasure, held: Held) -> Counter[str]:
    """What there is besides transactions."""
    return Counter(
        {
            "histories": History.objects.filter(token__in=held.tokens).count(),
            "list entries": ListEntry.objects.filter(finding.entries(row.schema, row.entity, held)).count(),
            "snoozes of the card": CardSnooze.objects.filter(card__in=held.tokens).count(),
            "histories of files": FileHistory.objects.filter(token__in=held.tokens).count(),
            "saved views": SavedView.objects.filter(_mentions(held)).count(),
            "links of alerts": ReviewLink.objects.filter(key__in=held.tokens).count(),
        }
    )


def _mentions(held: Held) -> Q:
    condition = Q(pk__in=[])
    for token in held.tokens:
        condition |= Q(query__contains=token)
    return condition


def _version_length(row: Erasure) -> int:
    """How many bytes of a history are its version; 0 if the schema keeps none."""
    from training.core.features.replay import version  # numba takes a second to load

    try:
        return len(version(declared(row.schema), row.entity))
    except SchemaNotFound:
        return 0


def _add(row: Erasure, counts: Counter[str]) -> None:
    row.counts = {kind: row.counts.get(kind, 0) + counts.get(kind, 0) for kind in {**row.counts, **counts}}
