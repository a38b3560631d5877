"""Labels in the admin: their record, correction and undoing."""

from typing import Any, cast
from uuid import UUID, uuid4

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from scoring.lists.listable import ListableAdmin
from scoring.models import Client, Label, Review, Transaction
from scoring.pages import undo
from scoring.pages.display import label_badge, label_table, link
from scoring.pages.personal import PersonalAdmin
from scoring.pages.read_only import ReadOnlyAdmin
from scoring.pages.search import TransactionSearch
from scoring.reviews import label_files, labelling, second_opinions
from scoring.reviews.incoming import FIELDS
from scoring.tenancy import restriction
from training.core.exceptions import FraudsiteError
from training.core.figures import at


def may_decide(request: HttpRequest) -> bool:
    return request.user.has_perm("scoring.change_review")


def with_undo(request: HttpRequest, message: str, act: UUID) -> str:
    """A message with a button that undoes the act, which is shown for as long as undoing is possible."""
    return undo.with_undo(request, message, reverse("admin:scoring_label_undo", args=[act]))


def review_of(row: Transaction) -> Review | None:
    return Review.objects.filter(pk=row.pk).first()


class FileForm(forms.Form):
    client = forms.ModelChoiceField(Client.objects.none(), help_text="Whose transactions they are.")
    file = forms.FileField(help_text="CSV in UTF-8, or Parquet.")

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request.POST or None, request.FILES or None)
        clients = restriction.visible(Client.objects.order_by("name"), request.user)
        cast(forms.ModelChoiceField, self.fields["client"]).queryset = clients

    def clean_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["file"]
        if file.size and file.size > settings.LABEL_IMPORT_LIMIT_BYTES:
            limit = f"{settings.LABEL_IMPORT_LIMIT_BYTES:,} bytes (LABEL_IMPORT_LIMIT_BYTES)"
            raise forms.ValidationError(f"The file is larger than {limit}. Use manage.py import_labels.")
        return file


class CorrectableAdmin(ListableAdmin):
    """Pages that show all labels of a transaction, and where an analyst corrects the label, with a reason."""

    @admin.display(description="Labels")
    def labels_shown(self, obj: Any) -> SafeString | str:
        return label_table(self.transaction_of(obj)) or "-"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if blind := _blind(request, object_id):
            return blind
        obj = self.get_object(request, object_id) if may_decide(request) else None
        if obj is None or not self.has_view_permission(request, obj):
            return super().change_view(request, object_id, form_url, extra_context)
        row = self.transaction_of(obj)
        if request.method == "POST" and "label" in request.POST:
            self._correct(request, obj, row)
            return HttpResponseRedirect(request.get_full_path())
        held, newest = labelling.latest_label(row), labelling.newest_label(row)
        context = {"corrections": _corrections(held, review_of(row)), "seen": newest.pk if newest else 0}
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return _blind(request, object_id) or super().history_view(request, object_id, extra_context)

    def _correct(self, request: HttpRequest, obj: Model, row: Transaction) -> None:
        wanted, reason, seen = (request.POST.get(name, "") for name in ("label", "reason", "seen"))
        act, review = uuid4(), review_of(row)
        arguments: dict[str, Any] = {"author": request.user, "reason": reason, "act": act}
        if seen.isascii() and seen.isdecimal():
            arguments["seen"] = int(seen)
        if wanted not in ("fraud", "legitimate", *(["reopen"] if review else [])):
            messages.error(request, "Nothing was changed: choose one of the buttons.")
            return
        done = "Reopened" if wanted == "reopen" else f"Labelled {wanted}"
        try:
            labelling.get_histories_ready(row.pk)
            with transaction.atomic():  # what the history of the case tells is part of the correction
                if review and wanted == "reopen":
                    labelling.reopen_review(review=review, **arguments)
                else:
                    source = Label.Source.ANALYST
                    labelling.add_label(transaction_id=row.pk, is_fraud=wanted == "fraud", source=source, **arguments)
                obj.refresh_from_db()  # otherwise the log entry would show its old state
                self.log_change(request, obj, f"{done}: {reason.strip()}")
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
            return
        messages.success(request, with_undo(request, f"{done}.", act))


def _blind(request: HttpRequest, object_id: str) -> HttpResponse | None:
    """Where a page that shows the label leads somebody who may give a second opinion first; None for others."""
    user: Any = request.user
    try:
        asked = second_opinions.asked_instead(user, UUID(object_id))
    except ValueError:
        return None
    return HttpResponseRedirect(reverse("admin:scoring_review_second", args=[asked])) if asked else None


def _corrections(held: Label | None, review: Review | None) -> list[tuple[str, str]]:
    """The corrections that are possible where this label holds: the value and the text of each button."""
    closed = review is not None and review.state != Review.State.OPEN
    found = [("reopen", "Reopen")] if closed else []
    word = held.is_fraud if held else None
    if word is not True:
        found.append(("fraud", "Report fraud" if word is None else "Relabel fraud"))
    if word is True:
        found.append(("legitimate", "Relabel legitimate"))
    return found


@admin.register(Label)
class LabelAdmin(TransactionSearch, PersonalAdmin, ReadOnlyAdmin):
    list_display = ["recorded", "badge", "kind", "source", "author", "code", "reason", "transaction"]
    list_filter = ["is_fraud", "kind", "source", "code", "author", "created_at"]
    list_select_related = ["author", "transaction"]
    date_hierarchy = "created_at"
    ordering = ["-created_at"]
    fields = [
        "transaction_link",
        ("badge", "kind"),
        ("source", "author_name"),
        ("code", "reason"),
        ("amount", "reference"),
        ("said", "recorded"),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Label]:
        return second_opinions.labels_shown_to(request.user, super().get_queryset(request))  # type: ignore[arg-type]

    @admin.display(description="Known since", ordering="created_at")
    def recorded(self, label: Label) -> str:
        return at(label.created_at)

    @admin.display(description="Said", ordering="event_time")
    def said(self, label: Label) -> str:
        return at(label.event_time)

    @admin.display(description="Label", ordering="is_fraud")
    def badge(self, label: Label) -> SafeString | str:
        return label_badge(label)

    @admin.display(description="Transaction")
    def transaction_link(self, label: Label) -> SafeString:
        return link(label.transaction, str(label.transaction))

    @admin.display(description="Author")
    def author_name(self, label: Label) -> str:
        return str(label.author or "-")  # not a link: analysts may not see accounts

    def get_urls(self) -> list[URLPattern]:
        undo = path("undo/<uuid:act>/", self.admin_site.admin_view(self.undo_view), name="scoring_label_undo")
        load = path("import/", self.admin_site.admin_view(self.import_view), name="scoring_label_import")
        return [undo, load, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"may_decide": may_decide(request)}
        return super().changelist_view(request, context | (extra_context or {}))

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """A page that stores the labels of a file, and tells what became of its rows."""
        if not may_decide(request):
            raise PermissionDenied
        form, report = FileForm(request), None
        if request.method == "POST" and form.is_valid():
            client, file = form.cleaned_data["client"], form.cleaned_data["file"]
            try:
                report = label_files.load(file.file, client.pk)
            except FraudsiteError as refusal:
                form.add_error("file", str(refusal))
            else:
                self.log_change(request, client, f"Imported labels from {file.name}: {report.summary}")
        context = self.admin_site.each_context(request) | {
            "title": "Import labels",
            "form": form,
            "report": report,
            "columns": FIELDS,
            "media": self.media,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/scoring/label/import.html", context)

    def undo_view(self, request: HttpRequest, act: UUID) -> HttpResponse:
        """Undo the labels of one click, and redirect to the page of the click."""
        if not may_decide(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])

        def tell(label: Label) -> None:
            self.log_change(request, review_of(label.transaction) or label.transaction, "Undone.")

        try:
            restored, kept = labelling.undo(act=act, author=request.user, tell=tell)  # type: ignore[arg-type]
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
        else:
            if restored:
                messages.success(request, f"{len(restored)} undone: as before.")
            if kept:
                messages.warning(request, f"{kept} had been labelled again since, and kept that label.")
        return undo.back(request, reverse("admin:scoring_review_changelist"))
