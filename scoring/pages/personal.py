"""Who sees personal values in the admin: those with the permission `scoring.view_personal`."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet, Value
from django.http import HttpRequest

# The columns that hold values of requests. Without the permission nobody may filter by them either, as each answer
# would tell something of a value.
OF_VALUES = {"fields", "tokens", "derived", "reasons", "evidence", "explanation"}


def may_see_personal(request: HttpRequest) -> bool:
    return request.user.has_perm("scoring.view_personal")


class PersonalAdmin(admin.ModelAdmin):
    """The admin of rows that show values of requests: each row says whether its reader sees the personal ones."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(shows_personal=Value(may_see_personal(request)))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        if OF_VALUES & set(lookup.split("__")) and not (request and may_see_personal(request)):
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]


def shows_personal(row: Model) -> bool:
    """Whether a row of a `PersonalAdmin` is for somebody who sees personal values."""
    return bool(getattr(row, "shows_personal", False))
