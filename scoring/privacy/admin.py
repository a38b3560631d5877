"""Erasures in the admin: counted, confirmed, watched, and their receipts."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from scoring import served
from scoring.lists.keys import EntryRefused
from scoring.models import Client, Erasure
from scoring.pages.read_only import ReadOnlyAdmin
from scoring.privacy import erasing, tasks
from scoring.privacy.erasing import NotToConfirm
from scoring.privacy.finding import parts_of
from scoring.privacy.models import REFERENCE_LIMIT
from training.core.exceptions import FraudsiteError
from training.core.figures import at

VALUE_LIMIT = 2_000


class ErasureForm(forms.Form):
    """What is to be erased."""

    entity = forms.ChoiceField(help_text="Of all that a person is known by, one at a time.")
    value = forms.CharField(
        max_length=VALUE_LIMIT,
        help_text="What clients send of it. Of an entity that is made of several values, each in a line of its own. It "
        "is not stored.",
        widget=forms.Textarea(attrs={"rows": 2, "autocomplete": "off", "spellcheck": "false"}),
    )
    client = forms.ModelChoiceField(
        queryset=Client.objects.order_by("name"), required=False, empty_label="All clients", help_text="Whose it is."
    )
    reference = forms.CharField(
        max_length=REFERENCE_LIMIT, required=False, help_text="What the request is known by elsewhere, not by a name."
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        entity: Any = self.fields["entity"]
        entity.choices = [
            (
                schema.title,
                [(f"{name}/{each}", f"{each} ({', '.join(parts_of(schema, each))})") for each in schema.entity_names],
            )
            for name, schema in served.now().schemas.items()
            if schema.entities
        ]

    def begin(self, *, by: str) -> Erasure:
        """Have it counted.

        Raises:
            FraudsiteError: the value is refused.
        """
        data = self.cleaned_data
        schema, _, entity = data["entity"].partition("/")
        return erasing.begin(
            schema=schema,
            entity=entity,
            values=data["value"].splitlines(),
            client=data["client"],
            reference=data["reference"],
            by=by,
        )


@admin.register(Erasure)
class ErasureAdmin(ReadOnlyAdmin):
    list_display = ["__str__", "schema", "entity", "client", "state", "transactions", "by", "began"]
    list_filter = ["state", "schema"]
    list_select_related = ["client"]
    ordering = ["-created_at"]
    change_list_template = "admin/scoring/erasure/change_list.html"

    class Media:
        css = {"all": ["scoring/admin.css", "scoring/policy.css"]}
        js = ["scoring/erasure.js"]

    @admin.display(description="Began", ordering="created_at")
    def began(self, row: Erasure) -> str:
        return at(row.created_at)

    @admin.display(description="Transactions")
    def transactions(self, row: Erasure) -> str:
        return f"{row.counts.get('transactions', 0):,}"

    def get_urls(self) -> list[URLPattern]:
        def page(address: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(address, self.admin_site.admin_view(view), name=f"scoring_erasure_{name}")

        return [
            page("begin/", self.begin_view, "begin"),
            page("<uuid:pk>/progress.json", self.progress_view, "progress"),
            page("<uuid:pk>/confirm/", self.confirm_view, "confirm"),
            page("<uuid:pk>/cancel/", self.cancel_view, "cancel"),
            *super().get_urls(),
        ]

    def begin_view(self, request: HttpRequest) -> HttpResponse:
        """A page that asks what is to be erased, and has it counted."""
        _check_may_erase(request)
        form = ErasureForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                row = form.begin(by=request.user.get_username())
            except EntryRefused as error:
                form.add_error("value", f"{error.part}: {error}")
            except FraudsiteError as error:
                form.add_error("value", str(error))
            else:
                tasks.send(row)
                return HttpResponseRedirect(_address(row))
        context = self._context(request) | {"title": "Erase an entity", "form": form}
        return TemplateResponse(request, "admin/scoring/erasure/begin.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None:
            return super().change_view(request, object_id, form_url, extra_context)
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        context = self._context(request) | {
            "title": str(row),
            "erasure": row,
            "may_erase": request.user.has_perm("scoring.add_erasure"),
            "files_days": settings.BATCH_FILE_KEEP_DAYS,
            "webhooks_days": settings.WEBHOOK_RETENTION_DAYS,
            "snapshots": settings.RETRAINING_SNAPSHOTS_KEPT,
            "confirm_h": settings.ERASURE_CONFIRM_H,
        }
        return TemplateResponse(request, "admin/scoring/erasure/erasure.html", context)

    def progress_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """The progress of an erasure, which its page polls."""
        row = self._row(request, pk)
        progress = {"state": row.state, "looked_at": row.looked_at, "found": row.counts.get("transactions", 0)}
        return JsonResponse(progress, headers={"Cache-Control": "no-store"})

    def confirm_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        _check_may_erase(request)
        row = self._row(request, pk)
        if request.method == "POST":
            try:
                erasing.confirm(row, by=request.user.get_username())
                tasks.send(row)
            except NotToConfirm as error:
                messages.error(request, str(error))
        return HttpResponseRedirect(_address(row))

    def cancel_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        _check_may_erase(request)
        row = self._row(request, pk)
        if request.method == "POST" and erasing.cancel(row, by=request.user.get_username()):
            messages.success(request, "Cancelled. Nothing was erased.")
        return HttpResponseRedirect(_address(row))

    def _context(self, request: HttpRequest) -> dict[str, Any]:
        return self.admin_site.each_context(request) | {"media": self.media, "opts": self.opts}

    def _row(self, request: HttpRequest, pk: Any) -> Erasure:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, str(pk))
        if row is None:
            raise Http404
        return row


def _check_may_erase(request: HttpRequest) -> None:
    if not request.user.has_perm("scoring.add_erasure"):
        raise PermissionDenied


def _address(row: Erasure) -> str:
    return reverse("admin:scoring_erasure_change", args=[row.pk])
