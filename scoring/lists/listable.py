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
from scoring.lists.models import ListEntry
from scoring.models import Transaction
from scoring.pages.personal import may_see_personal
from scoring.pages.read_only import ReadOnlyAdmin

BLOCK_DAYS = 30
MOST_DAYS = 3_650


class ListableAdmin(ReadOnlyAdmin):
    """Pages of a transaction with a form that adds its entities and values to lists."""

    def transaction_of(self, obj: Any) -> Transaction:
        raise NotImplementedError

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        may_add = request.user.has_perm("scoring.add_listentry") and may_see_personal(request)
        obj = self.get_object(request, object_id) if may_add else None
        context = {"listable": _offer(self.transaction_of(obj))} if obj else {}
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))


def _offer(row: Transaction) -> dict[str, Any] | None:
    """What the form offers; None if the transaction has nothing that a list is about."""
    keys = keys_of(row)
    if not keys:
        return None
    now = timezone.now()
    on = [
        each.name
        for each, key in keys.items()
        if ListEntry.objects.filter(list=each, key=key, removed_at=None).exclude(expires_at__lte=now).exists()
    ]
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
