"""Attachments on the page of a review: the list, upload, download and removal."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse

from scoring.models import Attachment
from scoring.pages import undo
from scoring.pages.personal import may_see_personal
from scoring.reviews import attachments, second_opinions
from scoring.reviews.attachments import AttachmentRefused
from scoring.reviews.label_admin import may_decide
from scoring.reviews.list_admin import ReviewListAdmin

# Never shown as a page, by whichever browser, as what was uploaded may hold scripts.
DOWNLOAD_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "no-store",
}


class AttachmentsAdmin(ReviewListAdmin):
    """The files of a review. As they may hold anything personal, only those who see personal values see them."""

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("<uuid:pk>/attach/", self.admin_site.admin_view(self.attach_view), name="scoring_review_attach"),
            path("attachments/<int:pk>/", self.admin_site.admin_view(self.file_view), name="scoring_attachment"),
            path(
                "attachments/<int:pk>/remove/",
                self.admin_site.admin_view(self.remove_view),
                name="scoring_attachment_remove",
            ),
        ]
        return [*own, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        review = self.get_object(request, object_id) if may_see_personal(request) else None
        context: dict[str, Any] = {}
        if review:
            found = Attachment.objects.filter(review=review).select_related("author", "removed_by")
            context["attachments"] = [(each, may_remove(request, each)) for each in found]
            context |= {"may_attach": may_decide(request), "taken": attachments.TAKEN}
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def attach_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Attach the files of a form, and redirect to the review."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        review = self.get_object(request, str(pk))
        if not (may_decide(request) and may_see_personal(request)):
            raise PermissionDenied
        if review is None:
            raise Http404
        files = request.FILES.getlist("file")
        if not files:
            messages.error(request, "Nothing was attached: choose a file.")
        for file in files:
            try:
                attached = attachments.add(review=review, file=file, author=request.user)  # type: ignore[arg-type]
            except AttachmentRefused as refusal:
                messages.error(request, str(refusal))
            else:
                self._record(request, attached, "Attached")
                messages.success(request, f"{attached.name} is attached.")
        return undo.back(request, reverse("admin:scoring_review_change", args=[pk]))

    def file_view(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        attachment = self._seen(request, pk)
        try:
            content = attachments.store().open(attachment.stored)
        except OSError:
            messages.error(request, f"{attachment.name} is not in the store of attachments (ATTACHMENTS_DIR).")
            return HttpResponseRedirect(reverse("admin:scoring_review_change", args=[attachment.review_id]))
        self._record(request, attachment, "Downloaded")
        response = FileResponse(
            content, as_attachment=True, filename=attachment.name, content_type="application/octet-stream"
        )
        for name, value in DOWNLOAD_HEADERS.items():
            response[name] = value
        return response

    def remove_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Remove an attachment, and redirect to its review."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        attachment = self._seen(request, pk)
        if not may_remove(request, attachment):
            raise PermissionDenied
        because = request.POST.get("reason", "")
        try:
            attachments.remove(attachment, by=request.user, because=because)  # type: ignore[arg-type]
        except AttachmentRefused as refusal:
            messages.error(request, str(refusal))
        else:
            self._record(request, attachment, "Removed", because.strip())
            messages.success(request, f"{attachment.name} is removed.")
        return undo.back(request, reverse("admin:scoring_review_change", args=[attachment.review_id]))

    def _seen(self, request: HttpRequest, pk: int) -> Attachment:
        """An attachment that is there, of a review that the user may see."""
        if not (self.has_view_permission(request) and may_see_personal(request)):
            raise PermissionDenied
        attachment = get_object_or_404(Attachment.objects.select_related("review"), pk=pk, removed_at=None)
        if self.get_object(request, str(attachment.review_id)) is None and not _is_shown_blind(request, attachment):
            raise Http404
        return attachment

    def _record(self, request: HttpRequest, attachment: Attachment, what: str, because: str = "") -> None:
        """Record what was done with an attachment: the one place for it."""
        # Without the name, which may be personal: the row keeps it.
        told = f"{what} file {attachment.pk} ({attachment.size:,} bytes, SHA-256 {attachment.sha256[:16]}…)"
        self.log_change(request, attachment.review, f"{told}: {because}" if because else f"{told}.")


def _is_shown_blind(request: HttpRequest, attachment: Attachment) -> bool:
    """Whether the page of the second opinion, which this user may give, has the attachment."""
    review: Any = attachment.review
    asked = second_opinions.asked_instead(request.user, review.pk)  # type: ignore[arg-type]
    return asked == review.pk and attachments.before_the_decision(review).filter(pk=attachment.pk).exists()


def may_remove(request: HttpRequest, attachment: Attachment) -> bool:
    """Whoever attached a file may remove it, and so may supervisors."""
    own = attachment.author_id == request.user.pk and may_decide(request)
    return attachment.removed_at is None and (own or request.user.has_perm("scoring.supervise_review"))
