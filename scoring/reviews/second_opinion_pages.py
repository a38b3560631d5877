"""Pages of second opinions: giving them without seeing what was decided, and settling disagreements."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from scoring.models import Review, SecondOpinion
from scoring.pages.display import fraud_badge, money
from scoring.pages.personal import may_see_personal
from scoring.reviews import attachments, second_opinions, settling
from scoring.reviews.case.panels import Case
from scoring.reviews.list_admin import ReviewListAdmin, reason_form
from training.core.exceptions import FraudsiteError

# The session's key for second opinions that an analyst has skipped.
SKIPPED, SKIPPED_LIMIT = "skipped_opinions", 500
# How many are counted in the list of reviews, and how many disagreements are on a page.
LIMIT, SHOWN = 1_000, 25


class SecondOpinionAdmin(ReviewListAdmin):
    """Second opinions. Whoever could give one on a review sees neither its label nor its history before."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Review]:
        user: Any = request.user
        reviews = super().get_queryset(request)
        if not hasattr(user, "reviews_hidden"):  # asked once for each request
            user.reviews_hidden = second_opinions.all_hidden_from(user)
        # By their keys: a subquery would be looked at for each of up to 10,000 rows that are counted.
        return reviews.filter(Q(state=Review.State.OPEN) | ~Q(pk__in=user.reviews_hidden))

    def get_urls(self) -> list[URLPattern]:
        site = self.admin_site
        own = [
            path("second/", site.admin_view(self.second_next_view), name="scoring_review_second_next"),
            path("second/<uuid:pk>/", site.admin_view(self.second_view), name="scoring_review_second"),
            path("disagreements/", site.admin_view(self.disagreements_view), name="scoring_review_disagreements"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list of reviews, with links to the second opinions and disagreements that wait for this user."""
        user: Any = request.user
        context: dict[str, Any] = {"may_see_quality": user.has_perm("scoring.view_quality")}
        if user.has_perm("scoring.second_review"):
            context["opinions"] = second_opinions.waiting_for(user)[:LIMIT].count()
        if user.has_perm("scoring.supervise_review"):
            context["disagreements"] = second_opinions.disagreements(user)[:LIMIT].count()
        return super().changelist_view(request, context | (extra_context or {}))

    def second_next_view(self, request: HttpRequest) -> HttpResponse:
        """Redirect to the next review that waits for a second opinion, or to the queue if there is none."""
        _require(request, "second_review")
        return self._go_on(request)

    def _go_on(self, request: HttpRequest) -> HttpResponse:
        user: Any = request.user
        following = second_opinions.claim_next(user, request.session.get(SKIPPED, []))
        if following is not None:
            return HttpResponseRedirect(reverse("admin:scoring_review_second", args=[following]))
        request.session.pop(SKIPPED, None)
        messages.info(request, "No review waits for a second opinion of yours.")
        return HttpResponseRedirect(reverse("admin:scoring_review_changelist"))

    def second_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """The page of a review as it was before it was decided, with the buttons that give a second opinion."""
        _require(request, "second_review")
        user: Any = request.user
        if not second_opinions.waiting_for(user).filter(pk=pk).exists():
            messages.warning(request, "That review waits for no second opinion of yours.")
            return HttpResponseRedirect(reverse("admin:scoring_review_changelist"))
        if request.method == "POST" and self._answer(request, pk):
            return self._go_on(request)
        review = Review.objects.select_related(*self.list_select_related).get(pk=pk)
        personal = may_see_personal(request)
        context = self.admin_site.each_context(request) | {
            **reason_form(request),
            "title": "Second opinion",
            "opts": self.opts,
            "media": self.media,
            "original": review,
            "case": Case(review, viewer=user, personal=personal),
            "files": attachments.before_the_decision(review) if personal else (),
            "is_nav_sidebar_enabled": False,
        }
        return TemplateResponse(request, "admin/scoring/review/second.html", context)

    def _answer(self, request: HttpRequest, pk: UUID) -> bool:
        """Give the opinion that was sent, or skip the review. Returns False if it was refused."""
        word, user = request.POST.get("decide", ""), request.user
        if word == "skip":
            request.session[SKIPPED] = [*request.session.get(SKIPPED, []), str(pk)][-SKIPPED_LIMIT:]
            return True
        if word not in ("fraud", "legitimate"):
            messages.error(request, "Nothing was changed: choose one of the buttons.")
            return False
        sent = {name: request.POST.get(name, "") for name in ("code", "note")}
        try:
            settling.give(review=pk, is_fraud=word == "fraud", by=user, **sent)  # type: ignore[arg-type]
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
            return False
        self.log_change(request, Review.objects.get(pk=pk), f"Second opinion: {word}.")
        messages.success(request, f"Second opinion: {word}.")
        return True

    def disagreements_view(self, request: HttpRequest) -> HttpResponse:
        """The reviews on which two analysts disagree, with a form that settles each."""
        _require(request, "supervise_review")
        if request.method == "POST":
            self._settle(request)
            return HttpResponseRedirect(request.get_full_path())
        user: Any = request.user
        found = list(second_opinions.disagreements(user)[:SHOWN])
        context = self.admin_site.each_context(request) | {
            "title": "Disagreements",
            "opts": self.opts,
            "media": self.media,
            "rows": [self._disagreement(each) for each in found],
            "many": len(found) == SHOWN,
        }
        return TemplateResponse(request, "admin/scoring/review/disagreements.html", context)

    def _disagreement(self, opinion: SecondOpinion) -> dict[str, Any]:
        row = self.transaction_of(opinion.review)
        with_it = row.labels.filter(
            author=opinion.first, is_fraud=opinion.first_is_fraud, created_at__lte=opinion.asked_at
        )
        first = with_it.order_by("-created_at").first()
        code, note = (first.code, first.reason) if first else ("", "")
        return {
            "review": opinion.review,
            "score": self.score(opinion.review),
            "amount": money(row),
            "sides": [
                (opinion.first, fraud_badge(opinion.first_is_fraud), code, note),
                (opinion.second, fraud_badge(opinion.is_fraud), opinion.code, opinion.note),
            ],
        }

    def _settle(self, request: HttpRequest) -> None:
        word = request.POST.get("decide", "")
        try:
            key = UUID(request.POST.get("review", ""))
        except ValueError:
            key = None
        if key is None or word not in ("fraud", "legitimate"):
            messages.error(request, "Nothing was changed: choose one of the buttons.")
            return
        because = request.POST.get("reason", "")
        try:
            settling.settle(review=key, is_fraud=word == "fraud", by=request.user, because=because)  # type: ignore[arg-type]
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
            return
        self.log_change(request, Review.objects.get(pk=key), f"Settled as {word}: {because.strip()}")
        messages.success(request, f"Settled as {word}.")


def _require(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(f"scoring.{permission}"):
        raise PermissionDenied
