"""Files of transactions in the admin: sent, watched, cancelled, and their results downloaded."""

from collections.abc import Callable, Iterator
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from scoring import served
from scoring.exceptions import RequestRefused
from scoring.files import formats, intake, results, tasks
from scoring.files.intake import Upload, Wanted
from scoring.files.models import NAME_LIMIT, READABLE, BatchFile, Format, Mode, State
from scoring.files.progress import eta_of, rate_of
from scoring.models import Client
from scoring.pages.read_only import ReadOnlyAdmin
from scoring.tenancy import restriction
from training.core.figures import at

PIECE = 1 << 20


class FileForm(forms.Form):
    """A file, and what is to be done with it."""

    client = forms.ModelChoiceField(queryset=Client.objects.order_by("name"), help_text="Whose transactions they are.")
    schema = forms.ChoiceField(help_text="Of all rows.")
    mode = forms.ChoiceField(
        choices=Mode.choices,
        initial=Mode.SCORE,
        help_text="Traffic is stored, enters the histories and opens reviews, as calls do.",
    )
    ignore = forms.CharField(
        label="Columns to pass over", required=False, max_length=1_000, help_text="Separated by commas."
    )
    file = forms.FileField(help_text="CSV, JSON Lines or Parquet: .csv, .jsonl, .parquet, packed .csv.gz or .csv.zst.")

    def __init__(self, person: Any, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        client: Any = self.fields["client"]
        client.queryset = restriction.visible(client.queryset, person)
        schema: Any = self.fields["schema"]
        schema.choices = [(name, declared.title) for name, declared in served.now().schemas.items()]
        schema.initial = settings.DEFAULT_SCHEMA

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if formats.of_name(file.name) is None:
            raise forms.ValidationError("Name the file with .csv, .jsonl or .parquet, and .gz or .zst if it is packed.")
        if file.size > settings.BATCH_FILE_LIMIT_BYTES:
            raise forms.ValidationError(intake.too_large())
        return file

    def send(self) -> BatchFile:
        """Take the file.

        Raises:
            RequestRefused: it was not taken.
        """
        file, data = self.cleaned_data["file"], self.cleaned_data

        def pour(upload: Upload) -> None:
            for piece in file.chunks(PIECE):
                upload.write(piece)

        wanted = Wanted(
            mode=data["mode"],
            format=formats.of_name(file.name) or Format.CSV,
            schema=data["schema"],
            name=file.name[:NAME_LIMIT],
            ignored=[name.strip() for name in data["ignore"].split(",") if name.strip()],
        )
        with intake.uploading():
            row, _ = intake.receive(data["client"], intake.check(data["client"], wanted), pour)
        tasks.send_file(row)
        return row


@admin.register(BatchFile)
class BatchFileAdmin(ReadOnlyAdmin):
    list_display = ["__str__", "client", "schema", "mode", "state", "rows", "scored", "refused", "sent"]
    list_filter = ["state", "mode", "schema", "client"]
    list_select_related = ["client"]
    ordering = ["-created_at"]
    change_list_template = "admin/scoring/batchfile/change_list.html"

    class Media:
        css = {"all": ["scoring/admin.css", "scoring/policy.css"]}
        js = ["scoring/file.js"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BatchFile]:
        return super().get_queryset(request).exclude(state=State.RECEIVING)

    @admin.display(description="Sent", ordering="created_at")
    def sent(self, file: BatchFile) -> str:
        return at(file.created_at)

    def get_urls(self) -> list[URLPattern]:
        def page(address: str, view: Callable[..., HttpResponseBase], name: str) -> URLPattern:
            return path(address, self.admin_site.admin_view(view), name=f"scoring_batchfile_{name}")

        return [
            page("send/", self.send_view, "send"),
            page("<uuid:pk>/progress.json", self.progress_view, "progress"),
            page("<uuid:pk>/cancel/", self.cancel_view, "cancel"),
            page("<uuid:pk>/<slug:what>.<slug:form>", self.download_view, "download"),
            *super().get_urls(),
        ]

    def send_view(self, request: HttpRequest) -> HttpResponse:
        """A page that takes a file."""
        if not request.user.has_perm("scoring.add_batchfile"):
            raise PermissionDenied
        form = FileForm(request.user, request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            try:
                row = form.send()
            except RequestRefused as refusal:
                form.add_error("file", " ".join(error.detail for error in refusal.errors) or str(refusal))
            else:
                self.log_addition(request, row, f"Sent as {row.get_mode_display()} of {row.client}.")
                return HttpResponseRedirect(reverse("admin:scoring_batchfile_change", args=[row.pk]))
        context = self.admin_site.each_context(request) | {
            "title": "Score a file",
            "form": form,
            "media": self.media,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/scoring/batchfile/send.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        file = self.get_object(request, object_id)
        if file is None:
            return super().change_view(request, object_id, form_url, extra_context)
        if not self.has_view_permission(request, file):
            raise PermissionDenied
        context = self.admin_site.each_context(request) | {
            "title": str(file),
            "file": file,
            "rate": rate_of(file),
            "readable": file.state in READABLE
            and not file.is_active
            and request.user.has_perm("scoring.view_batchfile"),
            "formats": Format.choices,
            "may_cancel": request.user.has_perm("scoring.change_batchfile"),
            "media": self.media,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/scoring/batchfile/file.html", context)

    def progress_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """The progress of a file, which its page polls."""
        file = self._file(request, pk)
        progress = {
            "state": file.state,
            "rows": file.rows,
            "done": file.done,
            "scored": file.scored,
            "refused": file.refused,
            "rate": rate_of(file),
            "eta_s": eta_of(file),
            "detail": file.fault,
        }
        return JsonResponse(progress, headers={"Cache-Control": "no-store"})

    def cancel_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        if not request.user.has_perm("scoring.change_batchfile"):
            raise PermissionDenied
        file = self._file(request, pk)
        if request.method == "POST" and intake.cancel(file):
            self.log_change(request, file, "Cancelled.")
            messages.success(request, "Cancelled. What was scored can be downloaded.")
        return HttpResponseRedirect(reverse("admin:scoring_batchfile_change", args=[file.pk]))

    def download_view(self, request: HttpRequest, pk: Any, what: str, form: str) -> HttpResponseBase:
        """The result or the refused rows. The audit trail records each download. Who only cancels files, as operators
        do, sees no transactions."""
        if not request.user.has_perm("scoring.view_batchfile"):
            raise PermissionDenied
        file = self._file(request, pk)
        contents: dict[str, Callable[[BatchFile, Format], Iterator[bytes]]] = {
            "result": results.result_of,
            "refused": results.report_of,
        }
        if what not in contents or form not in Format.values or file.state not in READABLE or file.is_active:
            raise Http404
        headers = {"Content-Disposition": f'attachment; filename="{file.pk}-{what}.{form}"'}
        media = results.MEDIA_TYPES[Format(form)]
        return StreamingHttpResponse(contents[what](file, Format(form)), content_type=media, headers=headers)

    def _file(self, request: HttpRequest, pk: Any) -> BatchFile:
        if not self.has_view_permission(request):
            raise PermissionDenied
        file = self.get_object(request, str(pk))
        if file is None:
            raise Http404
        return file
