"""The audit trail in the admin, for auditors: filters, and a search by person or object."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Max, Q, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fraudsite.audit.models import Entry
from scoring.pages.read_only import ReadOnlyAdmin
from scoring.reviews import second_opinions
from training.core.figures import at

DETAIL_SHOWN = 160


class KindFilter(admin.SimpleListFilter):
    title = "object"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        models = sorted(admin.site._registry, key=lambda model: str(model._meta.verbose_name))
        return [(model._meta.label_lower, str(model._meta.verbose_name).capitalize()) for model in models]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Entry]) -> QuerySet[Entry]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    list_display = ["time", "who", "action", "what", "origin", "told"]
    list_filter = ["action", KindFilter, "at"]
    date_hierarchy = "at"
    ordering = ["-pk"]
    search_fields = ["pk"]  # without it the page has no search box
    search_help_text = "A person's name, or the whole id of a transaction or another object."
    fields = ["time", "who", "action", "what", "origin", "request_id", "detail", "place", "digest"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Entry]:
        """Without what was done with cases on which the person may give a second opinion, until it is given."""
        user: Any = request.user
        hidden = [str(key) for key in second_opinions.all_hidden_from(user)]
        return super().get_queryset(request).exclude(object_id__in=hidden)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By index; and for the rows that lists showed, in the latest `SEARCH_RECENT_ROWS` entries."""
        term = search_term.strip()
        if not term:
            return queryset, False
        newest = Entry.objects.aggregate(Max("pk"))["pk__max"] or 0
        shown = Q(pk__gt=newest - settings.SEARCH_RECENT_ROWS, action="listed", detail__contains=f'"{term}"')
        return queryset.filter(Q(person=term) | Q(object_id=term) | shown), False

    @admin.display(description="Time", ordering="at")
    def time(self, entry: Entry) -> str:
        return at(entry.at)

    @admin.display(description="Person", ordering="person")
    def who(self, entry: Entry) -> SafeString | str:
        return self._all_of(entry.person) if entry.person else "-"

    @admin.display(description="Object")
    def what(self, entry: Entry) -> SafeString | str:
        if not entry.object_id:
            return entry.kind or "-"
        address = _address(entry)
        named = format_html('<a href="{}">{}</a>', address, entry.kind) if address else entry.kind
        return format_html("{} {}", named, self._all_of(entry.object_id))

    @admin.display(description="Detail")
    def told(self, entry: Entry) -> str:
        return entry.detail if len(entry.detail) <= DETAIL_SHOWN else f"{entry.detail[:DETAIL_SHOWN]}…"

    @admin.display(description="Place in the chain")
    def place(self, entry: Entry) -> str:
        return str(entry.link) if hasattr(entry, "link") else "-"

    def _all_of(self, term: str) -> SafeString:
        """A link to all entries of a person or an object."""
        return format_html('<a href="{}?q={}">{}</a>', reverse("admin:audit_entry_changelist"), term, term)


def _address(entry: Entry) -> str:
    """The page of the object; empty if it has none."""
    try:
        return reverse(f"admin:{entry.kind.replace('.', '_')}_change", args=[entry.object_id])
    except NoReverseMatch:
        return ""
