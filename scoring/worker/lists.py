"""The lists that a worker process holds in memory, and how they follow the database.

A change of entries gives its list the next revision. Every `MODEL_REFRESH_S` a worker reads the few rows of the lists,
and of those with another revision the entries that changed since its own.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from scoring.decisions import Decision
from scoring.lists import changes, keys
from scoring.lists.models import ListEntry, PolicyList
from scoring.policies.lists import HeldList, HeldLists
from training.core.schema import Schema

logger = logging.getLogger(__name__)

CHUNK = 10_000


@dataclass(slots=True, eq=False)
class _Followed:
    """A list as it was read. `held` is None if it cannot be used. Its members are those of `revision`, -1 before they
    are read. `faults` are the keys of entries that cannot be read."""

    row: PolicyList
    subject: keys.Subject | None = None
    held: HeldList | None = None
    revision: int = -1
    faults: set[str] = field(default_factory=set)

    def is_of(self, row: PolicyList) -> bool:
        """Whether the list is the same and does the same."""
        mine, other = (
            (each.created_at, each.name, each.about, each.action, each.max_amount) for each in (self.row, row)
        )
        return mine == other


class FollowedLists(HeldLists):
    """The lists of a schema that follow the database."""

    def __init__(self, schema: Schema, followed: Mapping[int, _Followed]) -> None:
        held = [each.held for each in followed.values() if each.held]
        faulty = {each.row.name: bool(each.row.action) for each in followed.values() if each.faults or not each.held}
        super().__init__(schema, held, faulty)
        self.followed = followed


def current(schema: Schema, before: HeldLists | None) -> HeldLists:
    """The lists of a schema, up to date: `before` itself, with its members changed, if only entries changed.

    A list that cannot be used and entries that cannot be read are left out and logged.
    """
    known = before.followed if isinstance(before, FollowedLists) else {}
    followed = {}
    for row in changes.live(schema.name):
        each = known.get(row.pk)
        if each is None or not each.is_of(row):
            each = _follow(schema, row, each)
        was_faulty = bool(each.faults)
        _update(schema, each, row.revision)
        if was_faulty != bool(each.faults):
            each = replace(each)
        followed[row.pk] = each
    same = followed.keys() == known.keys() and all(known[pk] is each for pk, each in followed.items())
    return before if before is not None and same else FollowedLists(schema, followed)


def _follow(schema: Schema, row: PolicyList, before: _Followed | None) -> _Followed:
    try:
        subject = keys.subject_in(schema, row.about)
        action = Decision(row.action) if row.action else None
    except (keys.NoSuchSubject, ValueError) as error:
        logger.error("The list %s is left out: %s", row, error)
        return _Followed(row)
    held = HeldList(row.name, action, subject.is_entity, subject.index, row.max_amount)
    if before and before.held and (before.row.created_at, before.row.about) == (row.created_at, row.about):
        held.members = before.held.members
        return _Followed(row, subject, held, before.revision, before.faults)
    return _Followed(row, subject, held)


def _update(schema: Schema, each: _Followed, revision: int) -> None:
    """Bring a list's members up to a revision."""
    if each.held is None or each.subject is None or each.revision == revision:
        return
    members, held = each.held.members, each.subject.held
    live = ListEntry.objects.filter(list=each.row.pk, removed_at=None)
    if is_first := each.revision < 0:
        # A transaction may be as old as `past_days`, and counts if the entry had not expired by then.
        oldest = timezone.now() - timedelta(days=schema.past_days)
        changed = live.filter(Q(expires_at=None) | Q(expires_at__gt=oldest))
    else:
        changed = live.filter(revision__gt=each.revision)
    for key, expires_at in changed.values_list("key", "expires_at").iterator(chunk_size=CHUNK):
        try:
            members[held(key)] = math.inf if expires_at is None else expires_at.timestamp()
        except ValueError:
            each.faults.add(key)
            logger.error("An entry of the list %s is left out: no transaction can have its key.", each.row)
    if not is_first:
        # Read after those that are there, so that a key whose entry was replaced is never absent.
        there = Exists(live.filter(key=OuterRef("key")))
        gone = ListEntry.objects.filter(list=each.row.pk, revision__gt=each.revision).exclude(removed_at=None)
        for key in gone.exclude(there).values_list("key", flat=True).iterator(chunk_size=CHUNK):
            if key in each.faults:
                each.faults.remove(key)
            else:
                members.pop(held(key), None)
    each.revision = revision
