"""What the page of a review does besides deciding: claims that are renewed and end, and passing a review on."""

from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scoring.models import Review
from scoring.reviews import passing, queue, snoozing
from scoring.reviews.label_admin import may_decide
from scoring.reviews.list_admin import FILTERS, ReviewListAdmin
from scoring.reviews.notes import PassingRefused
from scoring.tenancy import restriction
from training.core.exceptions import FraudsiteError
from training.core.figures import at

EVENT_COLUMNS = ("Time", "What", "By", "Note")


class PassingAdmin(ReviewListAdmin):
    """The addresses that the page of a review calls, and the table of what was done with it."""

    def events_shown(self, review: Review) -> SafeString | str:
        """What was done with a review, the latest first; empty if nothing was."""
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (at(event.at), _told(event.get_did_display(), event.to), event.by or "Fraudsite", event.note)
                for event in review.events.select_related("by").order_by("-at", "-pk")
            ),
        )
        heads = format_html_join("", '<th scope="col">{}</th>', ((name,) for name in EVENT_COLUMNS))
        table = '<table class="labels"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>'
        return format_html(table, heads, rows) if rows else ""

    def get_urls(self) -> list[URLPattern]:
        views = {"claim": self.claim_view, "leave": self.leave_view, "pass-on": self.pass_on_view}
        paths = [
            path(f"<uuid:key>/{name}/", self.admin_site.admin_view(view), name=f"scoring_review_{name}")
            for name, view in views.items()
        ]
        return [*paths, *super().get_urls()]

    actions = [*ReviewListAdmin.actions, "wake"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Review]:
        return snoozing.with_snoozes(super().get_queryset(request))

    @admin.action(description="Wake", permissions=["decide"])
    def wake(self, request: HttpRequest, queryset: QuerySet[Review]) -> None:
        woken = [review for review in queryset if snoozing.wake(review=review, by=request.user)]  # type: ignore[arg-type]
        for review in woken:
            self.log_change(request, review, "Woken.")
        messages.success(request, f"{len(woken)} woken.")

    def passing_context(self, request: HttpRequest, review: Review, claim: queue.Claim) -> dict[str, Any]:
        """What the template needs to renew the claim of an open review and to pass it on."""
        user: Any = request.user
        return {
            "claim": claim,
            "renew_ms": queue.renewal_ms(),
            "pass_on": reverse("admin:scoring_review_pass-on", args=[review.pk]),
            "may_pass_on": user.has_perm("scoring.escalate_review"),
            "may_supervise": user.has_perm("scoring.supervise_review"),
            "is_snoozed": snoozing.is_snoozed(review),
            "has_card": bool(review.card),
            "colleagues": passing.colleagues_of(user),
        }

    def claim_view(self, request: HttpRequest, key: UUID) -> HttpResponse:
        """Renew the claim of a page that is open and visible, or tell with whom the review is."""
        if (refused := self._refused(request)) is not None:
            return refused
        get_object_or_404(restriction.visible(Review.objects.all(), request.user), pk=key)
        claim = queue.look_at(key, request.user)  # type: ignore[arg-type]
        told = {"mine": claim.is_mine, "until": claim.until and claim.until.isoformat(), "message": claim.message}
        return JsonResponse(told, headers={"Cache-Control": "no-store"})

    def leave_view(self, request: HttpRequest, key: UUID) -> HttpResponse:
        """End the claim of a page that was left, as far as that page knew it."""
        if (refused := self._refused(request)) is not None:
            return refused
        with suppress(ValueError):
            known_until = datetime.fromisoformat(request.POST.get("until", ""))
            if known_until.tzinfo:
                queue.release(key, request.user, known_until)  # type: ignore[arg-type]
        return HttpResponse(status=204)

    def pass_on_view(self, request: HttpRequest, key: UUID) -> HttpResponse:
        """Do what the button says, and go on to the next free review, or back to the page."""
        if (refused := self._refused(request)) is not None:
            return refused
        review = get_object_or_404(restriction.visible(Review.objects.all(), request.user), pk=key)
        filters = request.GET.get(FILTERS, "")
        page = f"{reverse('admin:scoring_review_change', args=[key])}{_query(request)}"
        word = request.POST.get("do", "")
        try:
            done = self.pass_on(request, review, word)
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
            return HttpResponseRedirect(page)
        self.log_change(request, review, done)
        messages.success(request, done)
        if word in ("take_over", "wake"):
            return HttpResponseRedirect(page)
        if word == "release":
            address = reverse("admin:scoring_review_changelist")
            return HttpResponseRedirect(f"{address}?{filters}" if filters else address)
        return self.go_on(request, filters, [key])

    def pass_on(self, request: HttpRequest, review: Review, word: str) -> str:
        """Do what a button says, and tell it.

        Raises:
            PermissionDenied, FraudsiteError: nothing was changed.
        """
        user: Any = request.user
        note, to = request.POST.get("note", "").strip(), request.POST.get("to", "")
        after = f": {note}" if note else "."
        needed = {"hand_over": "escalate_review", "escalate": "escalate_review", "take_over": "supervise_review"}
        if word in needed and not user.has_perm(f"scoring.{needed[word]}"):
            raise PermissionDenied
        match word:
            case "release":
                queue.release(review.pk, user)
                return "Released: others are led to it again."
            case "hand_over":
                passing.hand_over(review=review.pk, by=user, to=to, note=note)
                return f"Handed over to {to}{after}"
            case "escalate":
                target = passing.escalate(review=review.pk, by=user, note=note)
                return f"Escalated to {target}{after}"
            case "take_over":
                passing.take_over(review=review.pk, by=user)
                return "Taken over: it is yours."
            case "snooze":
                until = snoozing.end_of(request.POST.get("until", ""), request.POST.get("date", ""))
                whole_card = "whole_card" in request.POST
                snoozing.snooze(review=review, by=user, until=until, note=note, whole_card=whole_card)
                what = "All alerts of the card are snoozed" if whole_card else "Snoozed"
                return f"{what} until {at(until)}{after}"
            case "wake":
                return "Woken." if snoozing.wake(review=review, by=user) else "It was awake already."
        raise PassingRefused("Nothing was changed: choose one of the buttons.")

    def _refused(self, request: HttpRequest) -> HttpResponse | None:
        if not may_decide(request):
            raise PermissionDenied
        return None if request.method == "POST" else HttpResponseNotAllowed(["POST"])


def _told(did: str, to: str) -> str:
    return f"{did}: {to}" if to else did


def _query(request: HttpRequest) -> str:
    text = request.GET.urlencode()
    return f"?{text}" if text else ""
