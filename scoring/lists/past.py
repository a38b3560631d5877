"""The lists of a schema for backtests: as they were at each decision or as they are now, with drafts of them."""

import logging
import math
from collections.abc import Iterable, Sequence
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
    """The lists as they were at each decision of a period. Entries keep when they were added and removed; what a list
    does is that of today, or of its removal."""
    in_period = Q(created_at__lt=until) & (Q(removed_at=None) | Q(removed_at__gt=since))
    lists = PolicyList.objects.filter(in_period, schema=schema.name, is_draft=False).order_by("pk")
    return _held(schema, lists, ListEntry.objects.filter(in_period), drafts, past=True)


def as_now(schema: Schema, drafts: Sequence[int] = ()) -> HeldLists:
    """The lists as they are now, as if they had been so at all times."""
    lists = PolicyList.objects.filter(schema=schema.name, is_draft=False, removed_at=None).order_by("pk")
    return _held(schema, lists, ListEntry.objects.filter(removed_at=None), drafts, past=False)


def _held(
    schema: Schema, lists: Iterable[PolicyList], entries: QuerySet[ListEntry], drafts: Sequence[int], *, past: bool
) -> HeldLists:
    held: list[PastList] = []
    faulty: dict[str, bool] = {}
    for row in lists:
        _put(schema, row, entries.filter(list=row), held, faulty, past=past)
    for row in PolicyList.objects.filter(pk__in=drafts, schema=schema.name, is_draft=True, removed_at=None):
        drafted: list[PastList] = []
        _put(schema, row, ListEntry.objects.filter(list=row, removed_at=None), drafted, faulty, past=False)
        for draft in drafted:
            if changed := next((each for each in reversed(held) if each.name == draft.name), None):
                held.remove(changed)
                draft.spans = changed.spans | draft.spans
            held.append(draft)
    return HeldLists(schema, held, faulty)


def _put(
    schema: Schema,
    row: PolicyList,
    entries: QuerySet[ListEntry],
    held: list[PastList],
    faulty: dict[str, bool],
    *,
    past: bool,
) -> None:
    """Read a list; one that cannot be used, or an entry that cannot be read, is left out, as workers do."""
    try:
        subject = keys.subject_in(schema, row.about)
        found = PastList(row.name, Decision(row.action) if row.action else None, subject.is_entity, subject.index)
    except (keys.NoSuchSubject, ValueError) as error:
        logger.warning("The list %s is left out: %s", row, error)
        faulty[row.name] = bool(row.action)
        return
    found.max_amount = row.max_amount
    columns = entries.order_by("pk").values_list("key", "created_at", "removed_at", "expires_at")
    for key, created_at, removed_at, expires_at in columns.iterator(chunk_size=CHUNK):
        ends = [moment for moment in (removed_at, row.removed_at) if moment]
        added, removed = (created_at.timestamp(), _seconds(min(ends, default=None))) if past else ALWAYS
        try:
            found.put(subject.held(key), added, removed, _seconds(expires_at))
        except ValueError:
            faulty[row.name] = bool(row.action)
    held.append(found)


def _seconds(moment: datetime | None) -> float:
    return math.inf if moment is None else moment.timestamp()
