"""The page of a review in the admin. Its list is in `scoring.reviews.list_admin`."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.safestring import SafeString

from scoring.models import Review
from scoring.pages.display import (
    decided_by,
    field_table,
    link,
)
from scoring.pages.explanation import reason_table
from scoring.pages.personal import shows_personal
from scoring.reviews import queue
from scoring.reviews.attachment_pages import AttachmentsAdmin
from scoring.reviews.label_admin import may_decide
from scoring.reviews.list_admin import FILTERS, SKIPPED, SKIPPED_LIMIT, reason_form
from scoring.reviews.together import TogetherAdmin, entities_of
from training.core.figures import at


@admin.register(Review)
class ReviewAdmin(AttachmentsAdmin, TogetherAdmin):
    """The page of a review: what raised the score, and the buttons that decide. Opening the page claims the review."""

    fields = [
        ("score", "decision"),
        "decided_by",
        "reasons_told",
        ("amount", "client"),
        "transaction_link",
        ("opened", "state_shown"),
        ("closed_at", "reviewer_name"),
        "labels_shown",
        "values",
    ]
    save_on_top = True  # the place where the template puts the two buttons
    change_form_template = "admin/scoring/review/change_form.html"

    @admin.display(description="Reasons")
    def reasons_told(self, review: Review) -> SafeString | str:
        return reason_table(review.prediction, personal=shows_personal(review)) or "-"

    @admin.display(description="Decided")
    def decided_by(self, review: Review) -> SafeString:
        return decided_by(review.prediction, personal=shows_personal(review))

    @admin.display(description="Transaction")
    def transaction_link(self, review: Review) -> SafeString:
        return link(review.prediction.transaction, str(review.prediction.transaction))

    @admin.display(description="Reviewer")
    def reviewer_name(self, review: Review) -> str:
        return str(review.reviewer or "-")  # not a link: analysts may not see accounts

    @admin.display(description="Fields")
    def values(self, review: Review) -> SafeString:
        return field_table(review.prediction.transaction, personal=shows_personal(review))

    def get_fields(self, request: HttpRequest, obj: Review | None = None) -> list[Any]:
        skipped: set[Any] = set()
        if obj and obj.state == Review.State.OPEN:
            skipped.add(("closed_at", "reviewer_name"))
        if obj and not obj.prediction.transaction.labels.exists():
            skipped.add("labels_shown")
        return [field for field in self.fields if field not in skipped]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context: dict[str, Any] = {"title": "Review", "may_decide": may_decide(request)}
        context |= {"filters": request.GET.get(FILTERS, ""), **reason_form(request)}
        review = self.get_object(request, object_id) if may_decide(request) else None
        if review and "decide" in request.POST:
            if not self._decide(request, review, request.POST["decide"]):
                return HttpResponseRedirect(request.get_full_path())
            return self.go_on(request, request.GET.get(FILTERS, ""), [review.pk])
        if review:
            context["together"] = entities_of(review.prediction.transaction)
        if review and request.method == "GET" and not queue.claim(review.pk, request.user) and review.is_claimed:  # type: ignore[arg-type]
            context |= {"claimed_by": review.claimed_by, "claimed_until": at(review.claimed_until)}
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def _decide(self, request: HttpRequest, review: Review, word: str) -> bool:
        """Close or skip a review. Returns False if the reason, the note or the list was refused."""
        if word in ("fraud", "legitimate"):
            return self.decide(request, [review], review.prediction.transaction)
        if word == "skip":
            request.session[SKIPPED] = [*request.session.get(SKIPPED, []), str(review.pk)][-SKIPPED_LIMIT:]
            queue.release(review.pk, request.user)  # type: ignore[arg-type]
        return True
