"""Checks the chain of the audit trail."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from django.utils import timezone

from fraudsite.audit.models import Entry, Link, next_hash
from training.core.exceptions import FraudsiteError

ROWS = 2_000
# A commit takes less, so that an older entry without a link has lost it.
COMMIT_S = 60


class ChainBroken(FraudsiteError):
    """The audit trail was changed."""


class Verified(NamedTuple):
    entries: int
    head: str  # "number:hash" of the last link, the anchor to keep; empty for an empty trail


def verify(*, anchor: str = "", now: datetime | None = None) -> Verified:
    """Check every entry, its digest and its link, in memory that does not grow with the trail.

    `anchor` is the "number:hash" that an earlier check gave, kept elsewhere. The chain must still have that link, or,
    where older entries were removed, begin right after it.

    Raises:
        ChainBroken: names the first entry that was changed, removed or added.
    """
    anchored, anchored_hash = _anchor(anchor)
    previous, number, entries = "", 0, 0
    for link, entry in _links():
        if not entries and anchored and link.number == anchored + 1:
            previous, number = anchored_hash, anchored
        _check(link, entry, number + 1, previous)
        previous, number, entries = link.hash, link.number, entries + 1
        if number == anchored and previous != anchored_hash:
            raise ChainBroken(f"Link {number} is another than that of the anchor: the trail was written anew.")
    if number < anchored:
        raise ChainBroken(f"The chain ends with link {number}, before the anchor's: the end was removed.")
    before = (now or timezone.now()) - timedelta(seconds=COMMIT_S)
    if lost := Entry.objects.filter(link=None, at__lt=before).order_by("pk").first():
        raise ChainBroken(f"Entry {lost.pk} ({lost}) is not in the chain.")
    return Verified(entries, f"{number}:{previous}" if entries else "")


def _check(link: Link, entry: Entry | None, number: int, previous: str) -> None:
    if link.number != number:
        raise ChainBroken(f"Link {number} is missing: its entry was removed.")
    if entry is None:
        raise ChainBroken(f"Entry {link.entry_id}, number {number} of the chain, was removed.")
    if entry.compute_digest() != entry.digest:
        raise ChainBroken(f"Entry {entry.pk}, number {number} of the chain, was changed: {entry}")
    if next_hash(previous, entry.digest) != link.hash:
        raise ChainBroken(f"Entry {entry.pk}, number {number} of the chain, does not follow the one before: {entry}")


def _links() -> Iterator[tuple[Link, Entry | None]]:
    """All links in their order with their entries, some thousand rows at a time."""
    last = None
    while True:
        rows = Link.objects.order_by("number")
        page = list(rows[:ROWS] if last is None else rows.filter(number__gt=last)[:ROWS])
        entries = Entry.objects.in_bulk([link.entry_id for link in page])
        for link in page:
            yield link, entries.get(link.entry_id)
        if len(page) < ROWS:
            return
        last = page[-1].number


def _anchor(text: str) -> tuple[int, str]:
    number, _, found = text.partition(":")
    if not text:
        return 0, ""
    if not (number.isascii() and number.isdecimal() and len(found) == 64):
        raise FraudsiteError("The anchor is NUMBER:HASH, as an earlier check printed it.")
    return int(number), found
