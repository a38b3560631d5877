"""Changes of lists and their entries. Workers follow within `MODEL_REFRESH_S`."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from scoring.decisions import Decision
from scoring.lists import keys
from scoring.lists.models import NOTE_LIMIT, ListChange, ListEntry, PolicyList
from scoring.policies import document
from scoring.policies.models import PolicyVersion
from scoring.policies.names import ON, names_of
from training.core.exceptions import FraudsiteError, did_you_mean

NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
REPLACED = "Replaced."
CHUNK = 1_000


class ListRefused(FraudsiteError):
    """The list, or the change of it, is refused."""


class TooManyEntries(ListRefused):
    """A list has no room for that many entries (LIST_ENTRIES_LIMIT)."""


@dataclass(frozen=True, slots=True)
class Addition:
    """An entry to add. `expires_at` is None for never, `act` that of the decision that it belongs to, and `client` the
    key of the client whose entity it is, None if it counts for all."""

    key: str
    expires_at: datetime | None = None
    note: str = ""
    act: UUID | None = None
    client: int | None = None


class Listing(NamedTuple):
    """An entry to add, and the list."""

    list: PolicyList
    addition: Addition


@dataclass(slots=True)
class Added:
    """How many entries were new, took the place of others with the same key, or were there already."""

    new: int = 0
    replaced: int = 0
    unchanged: int = 0


def live(schema: str) -> QuerySet[PolicyList]:
    """The lists of a schema, by name, without drafts."""
    return PolicyList.objects.filter(schema=schema, removed_at=None, is_draft=False).order_by("name")


def drafts(schema: str) -> QuerySet[PolicyList]:
    """The drafts of lists of a schema, by name."""
    return PolicyList.objects.filter(schema=schema, removed_at=None, is_draft=True).order_by("name")


def names(schema: str) -> tuple[str, ...]:
    return tuple(live(schema).values_list("name", flat=True))


def named(schema: str, name: str, *, is_draft: bool = False) -> PolicyList:
    """A list by name, or a draft.

    Raises:
        ListRefused: there is none.
    """
    known = drafts(schema) if is_draft else live(schema)
    found = known.filter(name=name).first()
    if found is None:
        what = "draft of a list" if is_draft else "list"
        raise ListRefused(
            f"{schema} has no {what} {name}.{did_you_mean(name, tuple(known.values_list('name', flat=True)))}"
        )
    return found


@transaction.atomic
def create(
    *,
    schema: str,
    name: str,
    about: str,
    by: str,
    action: str = "",
    max_amount: float | None = None,
    note: str = "",
    is_draft: bool = False,
) -> PolicyList:
    """Make a list, or a draft.

    Raises:
        ListRefused: as `check_new`, or the action or the amount makes no sense.
        NoSuchSubject: the schema has no such entity or field.
    """
    check_new(schema, name, about, is_draft=is_draft)
    check(action, max_amount, note)
    return PolicyList.objects.create(
        schema=schema,
        name=name,
        about=about,
        action=action,
        max_amount=max_amount,
        note=note,
        author=by,
        is_draft=is_draft,
    )


def check_new(schema: str, name: str, about: str, *, is_draft: bool = False) -> None:
    """Check what a list keeps for good.

    Raises:
        ListRefused: its name is not free or not a name, or there are too many lists.
        NoSuchSubject: the schema has no such entity or field.
    """
    subject = keys.subject_of(schema, about)
    if not NAME.fullmatch(name):
        raise ListRefused("A name has lower-case letters, digits and _, begins with a letter, and has at most 60.")
    known = names(schema)
    if is_draft:
        if drafts(schema).filter(name=name).exists():
            raise ListRefused(f"There is a draft {name} already: add to it, or remove it.")
        if name in known:
            if (of := named(schema, name).about) != about:
                raise ListRefused(f"The list {name} is about {of}, and so is a draft of it.")
            return
    policy = PolicyVersion.objects.filter(schema=schema, state=PolicyVersion.State.LIVE).first()
    if name in known or ON + name in names_of(subject.schema, document.read(policy.document if policy else {})):
        raise ListRefused(f"The name {name} is taken.")
    if len(known) >= settings.LISTS_LIMIT:
        raise ListRefused(f"A schema has at most {settings.LISTS_LIMIT:,} lists (LISTS_LIMIT).")


def check(action: str, max_amount: float | None, note: str) -> None:
    """Check what a list does.

    Raises:
        ListRefused: the action or the amount makes no sense, or the note is too long.
    """
    if action and action not in Decision.values:
        raise ListRefused(f"The action is one of {', '.join(Decision.values)}.{did_you_mean(action, Decision.values)}")
    if max_amount is not None and not 0 <= max_amount < float("inf"):
        raise ListRefused("The largest amount is a number from 0 on, or none.")
    _check_note(note)


def _check_note(note: str) -> None:
    if len(note) > NOTE_LIMIT or "\0" in note:
        raise ListRefused(f"A note or a reason has at most {NOTE_LIMIT} characters.")


@transaction.atomic
def change(row: PolicyList, *, action: str, max_amount: float | None, note: str, by: str) -> None:
    """Change what a list does. What it did before is kept.

    Raises:
        ListRefused: the action or the amount makes no sense, or the list is removed.
    """
    check(action, max_amount, note)
    _locked(row)
    if not row.is_draft and (row.action, row.max_amount) != (action, max_amount):
        _keep(row, by)
    row.action, row.max_amount, row.note = action, max_amount, note
    row.save(update_fields=["action", "max_amount", "note"])


def _keep(row: PolicyList, by: str) -> None:
    """Keep what a list does until now. Call it under the lock of the list."""
    ListChange.objects.create(
        list=row, action=row.action, max_amount=row.max_amount, was_draft=row.is_draft, changed_by=by
    )


@transaction.atomic
def make_live(draft: PolicyList, *, by: str) -> PolicyList:
    """Have a draft count. If there is a list of its name, that list does what the draft does, and takes over its
    entries; all others of its entries stay. Returns the list that counts.

    Raises:
        ListRefused: the draft is none any more, or there is no room for its entries.
    """
    _locked(draft)
    if not draft.is_draft:
        raise ListRefused(f"The list {draft.name} counts already.")
    row = live(draft.schema).filter(name=draft.name).first()
    if row is None:
        check_new(draft.schema, draft.name, draft.about)
        _keep(draft, by)
        draft.is_draft = False
        draft.save(update_fields=["is_draft"])
        return draft
    change(row, action=draft.action, max_amount=draft.max_amount, note=draft.note, by=by)
    entries = ListEntry.objects.filter(list=draft, removed_at=None).order_by("pk")
    found = entries.values_list("key", "expires_at", "note", "client").iterator(chunk_size=CHUNK)
    add(row, batched(Addition(key, until, note, client=client) for key, until, note, client in found), by=by)
    remove(draft)
    return row


@transaction.atomic
def remove(row: PolicyList) -> None:
    """Remove a list. It and its entries are kept for the audit.

    Raises:
        ListRefused: the live policy refers to it.
    """
    if not row.is_draft:
        _check_unused(row)
    _locked(row)
    row.removed_at = timezone.now()
    row.save(update_fields=["removed_at"])


def _check_unused(row: PolicyList) -> None:
    policy = PolicyVersion.objects.filter(schema=row.schema, state=PolicyVersion.State.LIVE).first()
    content = document.read(policy.document if policy else {})
    conditions = [(rule.name, rule.when) for rule in content.rules]
    conditions += [(segment.name, segment.when) for segment in content.segments]
    users = [name for name, when in conditions if re.search(rf"\b{ON}{row.name}\b", when)]
    if users:
        raise ListRefused(f"The live policy refers to {ON}{row.name} in {', '.join(users)}: change that first.")


@transaction.atomic
def add(row: PolicyList, additions: Iterable[Sequence[Addition]], *, by: str) -> Added:
    """Add entries, chunk by chunk, in one database transaction: all or none.

    An entry whose key is on the list takes the place of the earlier one; of two with the same key, the later counts.

    Raises:
        TooManyEntries: there is no room for them.
        ListRefused: the list is removed, or a note is too long.
    """
    _locked(row)
    row.revision += 1
    now, done = timezone.now(), Added()
    for chunk in additions:
        _put(row, {each.key: each for each in chunk}, done, by, now)
        if row.size > settings.LIST_ENTRIES_LIMIT:
            raise TooManyEntries(f"A list has at most {settings.LIST_ENTRIES_LIMIT:,} entries (LIST_ENTRIES_LIMIT).")
    if done.new or done.replaced:
        row.save(update_fields=["revision", "size"])
    return done


def batched(additions: Iterable[Addition]) -> Iterator[list[Addition]]:
    """Additions in chunks, as `add` takes them."""
    additions = iter(additions)
    while chunk := list(islice(additions, CHUNK)):
        yield chunk


def add_one(row: PolicyList, addition: Addition, *, by: str) -> ListEntry:
    """Add an entry, and return the one of its key that is on the list then. Raises: as `add`."""
    add(row, [[addition]], by=by)
    return ListEntry.objects.get(list=row, key=addition.key, removed_at=None)


def _put(row: PolicyList, wanted: dict[str, Addition], done: Added, by: str, now: datetime) -> None:
    for addition in wanted.values():
        _check_note(addition.note)
    known = ListEntry.objects.filter(list=row, key__in=wanted, removed_at=None)
    replaced = []
    for entry in known:
        each = wanted[entry.key]
        if (entry.expires_at, entry.note) == (each.expires_at, each.note):
            del wanted[entry.key]
            done.unchanged += 1
        else:
            replaced.append(entry.pk)
    if replaced:
        ListEntry.objects.filter(pk__in=replaced).update(
            removed_at=now, removed_by=by, removed_because=REPLACED, revision=row.revision
        )
    ListEntry.objects.bulk_create(
        ListEntry(
            list=row,
            key=each.key,
            expires_at=each.expires_at,
            note=each.note,
            act=each.act,
            client_id=each.client,
            author=by,
            created_at=now,
            revision=row.revision,
        )
        for each in wanted.values()
    )
    new = len(wanted) - len(replaced)
    done.new += new
    done.replaced += len(replaced)
    row.size += new


@transaction.atomic
def take_off(row: PolicyList, entries: Iterable[int], *, by: str, because: str = "") -> int:
    """Remove entries of a list, by their keys in the database. Returns how many were on it.

    Raises:
        ListRefused: the reason is too long.
    """
    _check_note(because)
    _locked(row)
    row.revision += 1
    there = ListEntry.objects.filter(list=row, pk__in=list(entries), removed_at=None)
    count = there.update(removed_at=timezone.now(), removed_by=by, removed_because=because, revision=row.revision)
    if count:
        row.size -= count
        row.save(update_fields=["revision", "size"])
    return count


def replaced_by(entry: ListEntry) -> ListEntry | None:
    """The entry whose place an entry took."""
    found = ListEntry.objects.filter(list=entry.list, key=entry.key, removed_at=entry.created_at)
    return found.filter(removed_because=REPLACED).first()


@transaction.atomic
def undo(entry: ListEntry, *, by: str) -> None:
    """Take an entry off again that `by` added a moment ago, and put the one back whose place it took.

    Raises:
        ListRefused: somebody else added it, it was removed since, or the time for undoing is over.
    """
    if entry.author != by or entry.created_at < timezone.now() - timedelta(seconds=settings.UNDO_S):
        raise ListRefused("It can be undone no more: remove the entry, with a reason.")
    if not _put_back(entry, by):
        raise ListRefused("The entry was removed since.")


def undo_of(act: UUID, *, by: str) -> None:
    """Take the entries off again that were added with a decision. One that was removed since stays removed."""
    for entry in ListEntry.objects.filter(act=act, removed_at=None, list__removed_at=None).select_related("list"):
        _put_back(entry, by)


def _put_back(entry: ListEntry, by: str) -> bool:
    """Take an entry off, and put the one back whose place it took. Returns False if it was off already."""
    before = replaced_by(entry)
    if not take_off(entry.list, [entry.pk], by=by, because="Undone."):
        return False
    if before:
        add(
            entry.list,
            [[Addition(before.key, before.expires_at, before.note, client=before.client_id)]],
            by=before.author,
        )
    return True


def _locked(row: PolicyList) -> None:
    """Lock a list, so that its changes have one order, and read it again.

    Raises:
        ListRefused: it is removed.
    """
    PolicyList.objects.select_for_update().get(pk=row.pk)
    row.refresh_from_db()
    if row.removed_at:
        raise ListRefused(f"The list {row.name} is removed.")
