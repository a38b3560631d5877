"""What the page of list entries is filtered by."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from scoring.lists.models import ListEntry, PolicyList


class ListFilter(admin.SimpleListFilter):
    title = parameter_name = "list"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [(str(row.pk), str(row)) for row in PolicyList.objects.filter(removed_at=None)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ListEntry]) -> QuerySet[ListEntry]:
        chosen = self.value()
        return queryset.filter(list=int(chosen)) if chosen else queryset


class StateFilter(admin.SimpleListFilter):
    """Shows the entries that count, unless others are chosen."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("expired", "Expired"), ("removed", "Removed"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        for value, title in [(None, "On the list"), *self.lookup_choices]:
            changed = {self.parameter_name: value} if value else {}
            address = changelist.get_query_string(changed, [] if value else [self.parameter_name])
            yield {"selected": self.value() == value, "query_string": address, "display": title}

    def queryset(self, request: HttpRequest, queryset: QuerySet[ListEntry]) -> QuerySet[ListEntry]:
        now, there = timezone.now(), queryset.filter(removed_at=None)
        match self.value():
            case "expired":
                return there.filter(expires_at__lte=now)
            case "removed":
                return queryset.exclude(removed_at=None)
            case "all":
                return queryset
        return there.filter(Q(expires_at=None) | Q(expires_at__gt=now))
