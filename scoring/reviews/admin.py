"""The page of a review in the admin. Its list is in `scoring.reviews.list_admin`."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from scoring.models import Review
from scoring.pages.personal import shows_personal
from scoring.reviews import queue
from scoring.reviews.attachment_pages import AttachmentsAdmin
from scoring.reviews.case.panels import Case
from scoring.reviews.label_admin import may_decide
from scoring.reviews.list_admin import FILTERS, SKIPPED, SKIPPED_LIMIT, reason_form
from scoring.reviews.marks import marks_with_due
from scoring.reviews.passing_pages import PassingAdmin
from scoring.reviews.quality_pages import QualityAdmin
from scoring.reviews.second_opinion_pages import SecondOpinionAdmin
from scoring.reviews.together import TogetherAdmin, in_common

# What the page of a case shows of each of these.
OF_A_CASE = (
    *("prediction__transaction__client", "prediction__transaction__fallback", "prediction__policy"),
    *("prediction__model_version", "reviewer", "claimed_by"),
)


@admin.register(Review)
class ReviewAdmin(SecondOpinionAdmin, QualityAdmin, PassingAdmin, AttachmentsAdmin, TogetherAdmin):
    """The page of a review: what raised the score, and the buttons that decide. Opening the page claims the review."""

    fields = []  # the template shows the panels of the case
    save_on_top = True  # the place where the template puts the two buttons
    change_form_template = "admin/scoring/review/change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Review]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        return rows.select_related(*OF_A_CASE) if match and match.url_name == "scoring_review_change" else rows

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The review. A page that is only shown reads it once."""
        if request.method != "GET":
            return super().get_object(request, object_id, from_field)
        if not hasattr(request, "case_shown"):
            request.case_shown = super().get_object(request, object_id, from_field)  # type: ignore[attr-defined]
        return request.case_shown  # type: ignore[attr-defined]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        # The panels need the width of the navigation.
        context: dict[str, Any] = {
            "title": "Review",
            "may_decide": may_decide(request),
            "is_nav_sidebar_enabled": False,
        }
        context |= {"filters": request.GET.get(FILTERS, ""), **reason_form(request)}
        case = self.get_object(request, object_id)
        if case and request.method == "GET" and self.has_view_permission(request, case):
            context["case"] = Case(case, viewer=request.user, personal=shows_personal(case))  # type: ignore[arg-type]
            context |= {"marks": marks_with_due(case), "events": self.events_shown(case)}
        review = case if may_decide(request) else None
        if review and "decide" in request.POST:
            if not self._decide(request, review, request.POST["decide"]):
                return HttpResponseRedirect(request.get_full_path())
            return self.go_on(request, request.GET.get(FILTERS, ""), [review.pk])
        if review:
            context["together"] = next(
                iter(in_common(review.prediction.transaction, personal=shows_personal(review))), ""
            )
        if review and request.method == "GET" and review.state == Review.State.OPEN:
            context |= self.passing_context(request, review, queue.look_at(review.pk, request.user))  # type: ignore[arg-type]
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def _decide(self, request: HttpRequest, review: Review, word: str) -> bool:
        """Close or skip a review. Returns False if the reason, the note or the list was refused."""
        if word in ("fraud", "legitimate"):
            return self.decide(request, [review], review.prediction.transaction)
        if word == "skip":
            request.session[SKIPPED] = [*request.session.get(SKIPPED, []), str(review.pk)][-SKIPPED_LIMIT:]
            queue.release(review.pk, request.user)  # type: ignore[arg-type]
        return True
