"""The lists of a schema for backtests: as they were at each decision or as they are now, with drafts of them."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from django.db.models import Q, QuerySet

from scoring.decisions import Decision
from scoring.lists import keys
from scoring.lists.models import ListEntry, PolicyList
from scoring.policies.lists import HeldLists, PastList
from training.core.schema import Schema

logger = logging.getLogger(__name__)

CHUNK = 10_000
ALWAYS = (-math.inf, math.inf)


def as_then(schema: Schema, since: datetime, until: datetime, drafts: Sequence[int] = ()) -> HeldLists:
    """The lists as they were at each decision of a period: their entries, and what they did."""
    in_period = Q(created_at__lt=until) & (Q(removed_at=None) | Q(removed_at__gt=since))
    lists = PolicyList.objects.filter(in_period, schema=schema.name, is_draft=False).order_by("pk")
    held: list[PastList] = []
    faulty: dict[str, bool] = {}
    for row in lists.prefetch_related("changes"):
        found = _read(schema, row, ListEntry.objects.filter(in_period, list=row), faulty, past=True)
        held += _as_it_was(row, found) if found else []
    return _with_drafts(schema, held, faulty, drafts)


def as_now(schema: Schema, drafts: Sequence[int] = ()) -> HeldLists:
    """The lists as they are now, as if they had been so at all times."""
    lists = PolicyList.objects.filter(schema=schema.name, is_draft=False, removed_at=None).order_by("pk")
    faulty: dict[str, bool] = {}
    read = [
        _read(schema, row, ListEntry.objects.filter(list=row, removed_at=None), faulty, past=False) for row in lists
    ]
    return _with_drafts(schema, [found for found in read if found], faulty, drafts)


def _as_it_was(row: PolicyList, found: PastList) -> list[PastList]:
    """A list in the periods between its changes, which share its entries, without those in which it was a draft."""
    periods, since = [], -math.inf
    for change in row.changes.all():
        until = change.changed_at.timestamp()
        if not change.was_draft:
            before = replace(found, action=_action(change.action), max_amount=change.max_amount)
            periods.append(replace(before, since=since, until=until))
        since = until
    return [*periods, replace(found, since=since, until=_seconds(row.removed_at))]


def _with_drafts(schema: Schema, held: list[PastList], faulty: dict[str, bool], drafts: Sequence[int]) -> HeldLists:
    """The lists, and these drafts: one with the name of a list takes its place at all times."""
    for row in PolicyList.objects.filter(pk__in=drafts, schema=schema.name, is_draft=True, removed_at=None):
        entries = ListEntry.objects.filter(list=row, removed_at=None)
        if draft := _read(schema, row, entries, faulty, past=False):
            if changed := next((each for each in held if each.name == draft.name and each.until == math.inf), None):
                held = [each for each in held if each.spans is not changed.spans]
                draft.spans = changed.spans | draft.spans
            held.append(draft)
    return HeldLists(schema, held, faulty)


def _read(
    schema: Schema, row: PolicyList, entries: QuerySet[ListEntry], faulty: dict[str, bool], *, past: bool
) -> PastList | None:
    """Read a list; one that cannot be used, or an entry that cannot be read, is left out, as workers do."""
    try:
        subject = keys.subject_in(schema, row.about)
        found = PastList(row.name, _action(row.action), subject.is_entity, subject.index, row.max_amount)
    except (keys.NoSuchSubject, ValueError) as error:
        logger.warning("The list %s is left out: %s", row, error)
        faulty[row.name] = bool(row.action)
        return None
    columns = entries.order_by("pk").values_list("key", "created_at", "removed_at", "expires_at")
    for key, created_at, removed_at, expires_at in columns.iterator(chunk_size=CHUNK):
        added, removed = (created_at.timestamp(), _seconds(removed_at)) if past else ALWAYS
        try:
            found.put(subject.held(key), added, removed, _seconds(expires_at))
        except ValueError:
            faulty[row.name] = bool(row.action)
    return found


def _action(name: str) -> Decision | None:
    return Decision(name) if name else None


def _seconds(moment: datetime | None) -> float:
    return math.inf if moment is None else moment.timestamp()
