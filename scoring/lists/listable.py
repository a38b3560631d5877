"""Adding what a transaction has to lists, from the pages that show it."""

from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from scoring.decisions import Decision
from scoring.lists import changes
from scoring.lists.keys import declared, subject_of
from scoring.lists.lookup import keys_of
from scoring.lists.models import ListEntry, PolicyList
from scoring.models import Transaction
from scoring.pages.personal import may_see_personal
from scoring.pages.read_only import ReadOnlyAdmin
from scoring.reviews import second_opinions
from scoring.tenancy import restriction
from training.core.figures import at

BLOCK_DAYS = 30
MOST_DAYS = 3_650


class ListableAdmin(ReadOnlyAdmin):
    """Pages of a transaction with a form that adds its entities and values to lists."""

    def transaction_of(self, obj: Any) -> Transaction:
        raise NotImplementedError

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        obj = self.get_object(request, object_id) if may_add_entries(request) else None
        context = {"listable": offer(self.transaction_of(obj), viewer=request.user)} if obj else {}
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))


def entries_of(row: PolicyList) -> str:
    """The address of a list's entries."""
    return reverse("admin:scoring_listentry_changelist", query={"list": row.pk})


def may_add_entries(request: HttpRequest) -> bool:
    return request.user.has_perm("scoring.add_listentry") and may_see_personal(request)


def offer(row: Transaction, *, viewer: Any, about: str = "") -> dict[str, Any] | None:
    """What the form offers a viewer, of lists `about` one entity or of all; None if the transaction has nothing for a
    list."""
    keys = {each: key for each, key in keys_of(row).items() if about in ("", each.about)}
    if not keys:
        return None
    there = ListEntry.objects.filter(removed_at=None).exclude(expires_at__lte=timezone.now())
    there = second_opinions.entries_shown_to(viewer, there)
    on = [each.name for each, key in keys.items() if there.filter(list=each, key=key).exists()]
    card = declared(row.schema).card
    block = [each for each in keys if each.about == card and each.action == Decision.BLOCK]
    return {
        "address": reverse("admin:scoring_listentry_of_transaction", args=[row.pk]),
        "choices": [(each, subject_of(each.schema, each.about).shown(key)) for each, key in keys.items()],
        "on": on,
        "block": block[0] if block else None,
        "block_days": BLOCK_DAYS,
    }


def expiry_in(days: str) -> datetime | None:
    """The end of so many days from now; None for an empty text.

    Raises:
        ListRefused: it is no number of days.
    """
    if not days:
        return None
    if not (days.isascii() and days.isdecimal() and 1 <= int(days[:9]) <= MOST_DAYS):
        raise changes.ListRefused(f"An entry counts for 1 to {MOST_DAYS:,} days, or for ever.")
    return timezone.now() + timedelta(days=int(days))


def listing_of(row: Transaction, chosen: str, days: str, note: str, *, by: Any) -> changes.Listing:
    """What a form adds of a transaction: to the list with the key `chosen`, for so many days, for ever if it is empty.

    Raises:
        ListRefused: the transaction has nothing for such a list, it is no number of days, or the entry would count for
            all clients and the user works for some.
    """
    for each, key in keys_of(row).items():
        if str(each.pk) == chosen:
            client = row.client_id if subject_of(each.schema, each.about).is_own else None
            if client is None and restriction.is_restricted(by):
                raise changes.ListRefused(
                    f"Entries of {each.name} count for all clients, and you work for some of them."
                )
            return changes.Listing(each, changes.Addition(key, expiry_in(days), note, client=client))
    raise changes.ListRefused("Nothing was added: choose one of the lists.")


def told_of(listing: changes.Listing) -> str:
    """A listing in words."""
    row, addition = listing
    until = f" until {at(addition.expires_at)}" if addition.expires_at else ""
    return f"{row.about} {subject_of(row.schema, row.about).shown(addition.key)} is on the list {row.name}{until}."
