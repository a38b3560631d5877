"""Lists and their entries in the admin."""

from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, IntegerField, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scoring.lists import changes, files
from scoring.lists.changes import Addition, Listing
from scoring.lists.filters import ListFilter, StateFilter
from scoring.lists.forms import EntryForm, FileForm, ListForm
from scoring.lists.keys import EntryRefused, NoSuchSubject, subject_of
from scoring.lists.listable import BLOCK_DAYS, entries_of, listing_of, told_of
from scoring.lists.models import ListEntry, PolicyList
from scoring.models import Transaction
from scoring.pages import undo
from scoring.pages.display import decision_badge
from scoring.pages.personal import may_see_personal
from scoring.pages.read_only import ReadOnlyAdmin
from scoring.reviews import second_opinions
from scoring.tenancy import restriction, tenants
from training.core.exceptions import FraudsiteError
from training.core.figures import at


@admin.register(PolicyList)
class PolicyListAdmin(admin.ModelAdmin):
    form = ListForm
    list_display = ["title", "schema", "about", "does", "entries", "note", "author", "created"]
    list_filter = ["schema", "action", "is_draft"]
    change_form_template = "admin/scoring/policylist/change_form.html"

    class Media:
        css = {"all": ["scoring/admin.css", "scoring/policy.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[PolicyList]:
        """The lists; for those who work for some clients with the number of their entries."""
        own: Any = Value(None, IntegerField())
        if restriction.is_restricted(request.user):
            there = restriction.visible(ListEntry.objects.filter(list=OuterRef("pk"), removed_at=None), request.user)
            own = there.order_by().values("list").annotate(count=Count("pk")).values("count")
            own = Coalesce(Subquery(own), 0)
        return super().get_queryset(request).filter(removed_at=None).annotate(own_size=own)

    def get_fields(self, request: HttpRequest, obj: PolicyList | None = None) -> list[Any]:
        if obj is None:
            return ["subject", "name", "action", "max_amount", "note", "is_draft"]
        return ["name", "schema", "about", "action", "max_amount", "note", "author", "created", "entries"]

    def get_readonly_fields(self, request: HttpRequest, obj: PolicyList | None = None) -> list[str]:
        return ["name", "schema", "about", "author", "created", "entries"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: PolicyList | None = None) -> bool:
        return False  # Django would delete the rows, which are kept for the audit

    @admin.display(description="Name", ordering="name")
    def title(self, row: PolicyList) -> SafeString | str:
        if not row.is_draft:
            return row.name
        return format_html('{} <span class="policy-state draft">Draft</span>', row.name)

    @admin.display(description="Action", ordering="action")
    def does(self, row: PolicyList) -> SafeString | str:
        if not row.action:
            return "for rules"
        badge = decision_badge(row.action)
        return badge if row.max_amount is None else format_html("{} up to {}", badge, f"{row.max_amount:,g}")

    @admin.display(description="Entries", ordering="size")
    def entries(self, row: Any) -> SafeString:
        size = row.size if row.own_size is None else row.own_size
        return format_html('<a href="{}">{}</a>', entries_of(row), f"{size:,}")

    @admin.display(description="Created", ordering="created_at")
    def created(self, row: PolicyList) -> str:
        return at(row.created_at)

    def save_model(self, request: HttpRequest, obj: PolicyList, form: Any, change: bool) -> None:
        given: dict[str, Any] = {name: form.cleaned_data[name] for name in ("action", "max_amount", "note")}
        if change:
            changes.change(obj, by=_name(request), **given)
        else:
            given["is_draft"] = obj.is_draft
            new = changes.create(schema=obj.schema, name=obj.name, about=obj.about, by=_name(request), **given)
            obj.pk = new.pk
            obj.refresh_from_db()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        may_remove = request.user.has_perm("scoring.delete_policylist")
        row = self.get_object(request, object_id)
        if row and may_remove and request.method == "POST" and "remove" in request.POST:
            return self._remove(request, row)
        if (
            row
            and self.has_change_permission(request, row)
            and request.method == "POST"
            and "make_live" in request.POST
        ):
            return self._make_live(request, row)
        context = {"may_remove": may_remove, "entries": entries_of(row) if row else ""}
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def _remove(self, request: HttpRequest, row: PolicyList) -> HttpResponse:
        try:
            changes.remove(row)
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
            return HttpResponseRedirect(request.get_full_path())
        self.log_change(request, row, f"Removed: {request.POST.get('reason', '').strip()}")
        messages.success(request, f"The list {row.name} is removed.")
        return HttpResponseRedirect(reverse("admin:scoring_policylist_changelist"))

    def _make_live(self, request: HttpRequest, draft: PolicyList) -> HttpResponse:
        try:
            row = changes.make_live(draft, by=_name(request))
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
            return HttpResponseRedirect(request.get_full_path())
        self.log_change(request, row, f"A draft was made live: {request.POST.get('reason', '').strip()}")
        messages.success(request, f"The list {row.name} counts from now on. Workers take it up within a few seconds.")
        return HttpResponseRedirect(reverse("admin:scoring_policylist_change", args=[row.pk]))

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"scoring_policylist_{name}")
            for name, view in (("entry", self.entry_view), ("import", self.import_view), ("export", self.export_view))
        ]
        return [*own, *super().get_urls()]

    def _listed(self, request: HttpRequest, pk: int, permission: str) -> PolicyList:
        if not (request.user.has_perm(f"scoring.{permission}_listentry") and may_see_personal(request)):
            raise PermissionDenied
        row = get_object_or_404(self.get_queryset(request), pk=pk)
        if permission == "add" and restriction.is_restricted(request.user) and not _is_own(row):
            raise PermissionDenied("Entries of this list count for all clients, and you work for some of them.")
        return row

    def entry_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A page that adds an entry, by what clients send."""
        row = self._listed(request, pk, "add")
        try:
            form = EntryForm(row, request.POST or None, clients=tenants.by_name(request.user))
        except NoSuchSubject as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(entries_of(row))
        if request.method == "POST" and form.is_valid():
            try:
                self._add(request, row, form.additions)
            except FraudsiteError as refusal:
                form.add_error(None, str(refusal))
            else:
                return HttpResponseRedirect(entries_of(row))
        return self._page(request, row, "Add an entry", form)

    def _add(self, request: HttpRequest, row: PolicyList, additions: list[Addition]) -> None:
        if len(additions) == 1:
            entry = changes.add_one(row, additions[0], by=_name(request))
            _tell_added(request, Listing(row, additions[0]), entry, entries_of(row))
        else:
            changes.add(row, [additions], by=_name(request))
            messages.success(request, f"{len(additions)} entries are on the list {row.name}, one for each client.")

    def import_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A page that adds the entries of a CSV file, or shows its refused lines."""
        row = self._listed(request, pk, "add")
        form, report = FileForm(request.POST or None, request.FILES or None), None
        if request.method == "POST" and form.is_valid():
            try:
                clients = tenants.by_name(request.user)
                report = files.load(row, form.cleaned_data["file"].file, by=_name(request), clients=clients)
            except FraudsiteError as refusal:
                form.add_error("file", str(refusal))
            else:
                if not report.refused:
                    added = report.added
                    told = f"{added.new:,} added, {added.replaced:,} replaced, {added.unchanged:,} there already."
                    self.log_change(request, row, f"Imported {form.cleaned_data['file'].name}: {told}")
                    messages.success(request, told)
                    return HttpResponseRedirect(entries_of(row))
        return self._page(request, row, "Import entries", form, report=report)

    def _page(self, request: HttpRequest, row: PolicyList, title: str, form: forms.Form, **more: Any) -> HttpResponse:
        try:
            subject = subject_of(row.schema, row.about)
            columns = [*files.columns_of(subject), *(["client"] if subject.is_own else []), "expires", "note"]
        except NoSuchSubject:
            columns = []
        context = self.admin_site.each_context(request) | {
            "title": title,
            "row": row,
            "form": form,
            "entries": entries_of(row),
            "columns": columns,
            "media": self.media,
            "opts": self.opts,
            **more,
        }
        return TemplateResponse(request, "admin/scoring/policylist/form.html", context)

    def export_view(self, request: HttpRequest, pk: int) -> HttpResponse | StreamingHttpResponse:
        row, user = self._listed(request, pk, "view"), cast(Any, request.user)
        try:
            subject_of(row.schema, row.about)
        except NoSuchSubject as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(entries_of(row))
        return StreamingHttpResponse(
            files.dump(row, second_opinions.entries_shown_to(user, restriction.visible(ListEntry.objects.all(), user))),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{row.schema}-{row.name}.csv"'},
        )


@admin.register(ListEntry)
class ListEntryAdmin(ReadOnlyAdmin):
    list_display = ["shown", "list_name", "whose", "expires", "note", "author", "added", "removed"]
    list_filter = [StateFilter, ListFilter]
    list_select_related = ["list", "client"]
    search_fields = ["key"]
    search_help_text = "What clients send of it, such as the identifier; or the beginning of what the list shows."
    actions = ["remove"]
    fields = ["shown", "list_name", "whose", "key", "expires", "note", "author", "added", "removed", "removed_because"]
    change_list_template = "admin/scoring/listentry/change_list.html"
    change_form_template = "admin/scoring/listentry/change_form.html"

    def has_view_permission(self, request: HttpRequest, obj: ListEntry | None = None) -> bool:
        return may_see_personal(request) and super().has_view_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ListEntry]:
        return second_opinions.entries_shown_to(request.user, super().get_queryset(request))  # type: ignore[arg-type]

    @admin.display(description="Entry", ordering="key")
    def shown(self, entry: ListEntry) -> str:
        try:
            return subject_of(entry.list.schema, entry.list.about).shown(entry.key)
        except NoSuchSubject:
            return entry.key

    @admin.display(description="List", ordering="list")
    def list_name(self, entry: ListEntry) -> str:
        return str(entry.list)

    @admin.display(description="Client", ordering="client__name", empty_value="all")
    def whose(self, entry: ListEntry) -> str | None:
        return entry.client.name if entry.client else None

    @admin.display(description="Expires", ordering="expires_at")
    def expires(self, entry: ListEntry) -> str:
        return at(entry.expires_at) if entry.expires_at else "never"

    @admin.display(description="Added", ordering="created_at")
    def added(self, entry: ListEntry) -> str:
        return at(entry.created_at)

    @admin.display(description="Removed", ordering="removed_at")
    def removed(self, entry: ListEntry) -> str:
        return f"{at(entry.removed_at)} by {entry.removed_by}" if entry.removed_at else "-"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not (term := search_term.strip()):
            return queryset, False
        found, clients = Q(key__startswith=term.removesuffix("…")), tenants.by_name(request.user)
        for row in PolicyList.objects.filter(removed_at=None):
            try:
                subject = subject_of(row.schema, row.about)
                found |= Q(list=row, key__in=subject.keys_of(dict.fromkeys(subject.parts, term), clients.values()))
            except (NoSuchSubject, EntryRefused):
                continue  # nothing on this list can have it
        return queryset.filter(found), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        chosen = request.GET.get("list", "")
        known = chosen.isascii() and chosen.isdecimal() and len(chosen) < 19
        row = PolicyList.objects.filter(pk=chosen, removed_at=None).first() if known else None
        context: dict[str, Any] = {"row": row, "title": f"Entries of {row}" if row else "List entries"}
        context["may_add"] = request.user.has_perm("scoring.add_listentry")
        return super().changelist_view(request, context | (extra_context or {}))

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.change_listentry")

    @admin.action(description="Remove from the list", permissions=["remove"])
    def remove(self, request: HttpRequest, queryset: QuerySet[ListEntry]) -> None:
        self._take_off(request, list(queryset.select_related("list")), "")

    def _take_off(self, request: HttpRequest, entries: list[ListEntry], because: str) -> None:
        count = 0
        try:
            for row in {entry.list for entry in entries}:
                chosen = [entry.pk for entry in entries if entry.list == row]
                count += changes.take_off(row, chosen, by=_name(request), because=because)
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
        if count:
            messages.success(request, f"{count} removed. Workers take it up within a few seconds.")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        may_remove = self.has_remove_permission(request)
        entry = self.get_object(request, object_id)
        if entry and may_remove and request.method == "POST":
            self._take_off(request, [entry], request.POST.get("reason", "").strip())
            return HttpResponseRedirect(request.get_full_path())
        context = {"may_remove": may_remove, "title": "List entry"}
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                "of/<uuid:pk>/",
                self.admin_site.admin_view(self.of_transaction_view),
                name="scoring_listentry_of_transaction",
            ),
            path("<int:pk>/undo/", self.admin_site.admin_view(self.undo_view), name="scoring_listentry_undo"),
        ]
        return [*own, *super().get_urls()]

    def of_transaction_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Add what a transaction has to a list, and redirect to the page of the form."""
        if refused := _refused(request):
            return refused
        row = get_object_or_404(restriction.visible(Transaction.objects.all(), request.user), pk=pk)
        wanted = request.POST.get("block") or request.POST.get("list", "")
        days = str(BLOCK_DAYS) if request.POST.get("block") else request.POST.get("days", "")
        back = undo.back(request, reverse("admin:scoring_transaction_change", args=[row.pk]))
        try:
            listing = listing_of(row, wanted, days, request.POST.get("reason", "").strip(), by=request.user)
            entry = changes.add_one(*listing, by=_name(request))
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
        else:
            _tell_added(request, listing, entry, back.url)
        return back

    def undo_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Undo the addition of an entry, and redirect to the page of the click."""
        if refused := _refused(request):
            return refused
        entry = get_object_or_404(restriction.visible(ListEntry.objects.all(), request.user), pk=pk)
        try:
            changes.undo(entry, by=_name(request))
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
        else:
            messages.success(request, "Undone: as before.")
        return undo.back(request, entries_of(entry.list))


def _refused(request: HttpRequest) -> HttpResponse | None:
    """The answer to a request that may not add entries; None if it may.

    Raises:
        PermissionDenied: the user may not.
    """
    if not request.user.has_perm("scoring.add_listentry"):
        raise PermissionDenied
    return None if request.method == "POST" else HttpResponseNotAllowed(["POST"])


def _tell_added(request: HttpRequest, listing: Listing, entry: ListEntry, back_to: str) -> None:
    address = reverse("admin:scoring_listentry_undo", args=[entry.pk])
    told = told_of(listing)
    if before := changes.replaced_by(entry):
        until = at(before.expires_at) if before.expires_at else "for ever"
        told += f" It took the place of an entry by {before.author}, {until}: {before.note or 'without a note'}."
    messages.success(request, undo.with_undo(request, told, address, back_to))


def _is_own(row: PolicyList) -> bool:
    """Whether each entry of a list is about one client's entity."""
    try:
        return subject_of(row.schema, row.about).is_own
    except NoSuchSubject:
        return False


def _name(request: HttpRequest) -> str:
    return cast(Any, request.user).get_username()
