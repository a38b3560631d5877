"""The lists that a transaction is on, by the database: for pages, and for decisions while no worker answers."""

from functools import reduce
from operator import or_

from django.db.models import Q

from scoring.decisions import Decision
from scoring.lists import changes
from scoring.lists.keys import NoSuchSubject, subject_of
from scoring.lists.models import ListEntry, PolicyList
from scoring.models import Transaction
from scoring.policies.evidence import Hit


def keys_of(row: Transaction) -> dict[PolicyList, str]:
    """The lists that a transaction could be on, and the key that it would have there."""
    found = {}
    for each in changes.live(row.schema):
        try:
            key = subject_of(row.schema, each.about).key_in(row.fields, row.tokens or {})
        except NoSuchSubject:
            continue
        if key:
            found[each] = key
    return found


def hits(row: Transaction) -> list[Hit]:
    """The lists that decide about a transaction, as `HeldLists.hits` in a worker. Two queries."""
    keys = {each: key for each, key in keys_of(row).items() if each.action and not _is_too_large(row, each)}
    if not keys:
        return []
    entries = reduce(or_, (Q(list=each, key=key) for each, key in keys.items()))
    counts = Q(expires_at=None) | Q(expires_at__gt=row.event_time)
    on = set(ListEntry.objects.filter(entries, counts, removed_at=None).values_list("list", flat=True))
    return [Hit(list=each.name, action=Decision(each.action)) for each in keys if each.pk in on]


def _is_too_large(row: Transaction, each: PolicyList) -> bool:
    return each.max_amount is not None and float(row.amount or 0.0) > each.max_amount
