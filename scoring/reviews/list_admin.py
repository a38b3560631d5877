"""The list of reviews in the admin, which is the analysts' queue."""

from contextlib import suppress
from copy import copy
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scoring.exceptions import ReasonMissing
from scoring.lists.changes import Listing, ListRefused
from scoring.lists.keys import SHOWN_DIGITS
from scoring.lists.listable import told_of
from scoring.models import Review, ReviewQueue, Transaction
from scoring.pages.display import (
    amount_of,
    answer_badge,
    due_time,
    fraud_badge,
    reasons_in_words,
    score_meter,
    span,
    state_badge,
)
from scoring.pages.personal import PersonalAdmin, may_see_personal, shows_personal
from scoring.pages.search import TransactionSearch, beginning, of_card
from scoring.reviews import labelling, passing, queue, reasons
from scoring.reviews.filters import ALL_FILTERS, StateFilter
from scoring.reviews.label_admin import CorrectableAdmin, may_decide, with_undo
from scoring.reviews.marks import marks
from scoring.reviews.saved_view_admin import SavedViewsAdmin
from scoring.reviews.skills import seen_by
from scoring.reviews.standings import standings
from training.core.exceptions import StaleHistory
from training.core.figures import at

# The parameter in which Django's links keep the filters of their list.
FILTERS = "_changelist_filters"
GONE = " (too late: it was closed already)"
# New reviews are counted up to this number.
NEW_LIMIT = 1_000
# The session's key for skipped reviews, and how many of them it keeps.
SKIPPED, SKIPPED_LIMIT = "skipped_reviews", 500


class ReviewListAdmin(SavedViewsAdmin, TransactionSearch, PersonalAdmin, CorrectableAdmin):
    """The list of reviews, largest expected loss first: columns, filters, decisions on several, and the way to the next
    one."""

    list_display = [
        *("loss", "score", "badge", "money", "reasons_shown", "due", "age", "card_shown", "queue", "client"),
        *("state_shown", "reviewer"),
    ]
    list_filter = ALL_FILTERS
    list_select_related = [
        "prediction__transaction__fallback",
        *("client", "queue", "reviewer", "claimed_by", "assigned_to"),
    ]
    show_full_result_count = False
    search_help_text = f"{TransactionSearch.search_help_text} Or a card, as clients send it or as it is shown here."
    transaction_path = "pk"  # which is that of the transaction: no other table is joined
    ordering = ["-expected_loss"]
    actions = ["confirm_fraud", "mark_legitimate"]
    gone_message = "{} had been closed already and kept their label."

    def transaction_of(self, obj: Review) -> Transaction:
        return obj.prediction.transaction

    @admin.display(description="Loss", ordering="expected_loss")
    def loss(self, review: Review) -> SafeString:
        told = amount_of(review.schema, review.expected_loss)
        return format_html('<span title="Expected: the score times the amount">{}</span>', told)

    @admin.display(description="Score", ordering="fraud_score")
    def score(self, review: Review) -> SafeString:
        return score_meter(review.prediction)

    @admin.display(description="Age", ordering="opened_at")
    def age(self, review: Review) -> SafeString:
        told = span(timezone.now() - review.opened_at)
        return format_html('<span title="Since {}">{}</span>', at(review.opened_at), told)

    @admin.display(description="Due", ordering="due_at")
    def due(self, review: Review) -> SafeString | str:
        return due_time(review)

    @admin.display(description="Opened", ordering="opened_at")
    def opened(self, review: Review) -> str:
        return at(review.opened_at)

    @admin.display(description="State", ordering="state")
    def state_shown(self, review: Review) -> SafeString | str:
        return state_badge(review)

    @admin.display(description="Decision")
    def answer(self, review: Review) -> SafeString | str:
        return answer_badge(review.prediction.transaction)

    @admin.display(description="Decision", ordering="decision")
    def badge(self, review: Review) -> SafeString | str:
        """The decision, who has the review, and what else sets it apart."""
        return format_html("{}{}", self.answer(review), marks(review))

    @admin.display(description="Amount", ordering="amount")
    def money(self, review: Review) -> str:
        return amount_of(review.schema, review.amount)

    @admin.display(description="Reasons")
    def reasons_shown(self, review: Review) -> SafeString | str:
        return reasons_in_words(review.prediction, personal=shows_personal(review)) or "-"

    @admin.display(description="Card", ordering="card")
    def card_shown(self, review: Review) -> SafeString | str:
        """The beginning of the card's token, which leads to all its reviews."""
        if not review.card:
            return "-"
        beginning = review.card[:SHOWN_DIGITS]
        address = reverse("admin:scoring_review_changelist", query={"q": beginning, "state": "all"})
        return format_html('<a href="{}" title="All reviews of this card">{}…</a>', address, beginning)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Leave out the state and the reviewer in the list of open reviews, and the queue if there are none."""
        shown = request.GET.get(StateFilter.parameter_name, Review.State.OPEN)
        left_out = {"state_shown", "reviewer"} if shown == Review.State.OPEN else set()
        if not ReviewQueue.objects.exists():
            left_out |= {"queue", "due"}
        return [name for name in self.list_display if name not in left_out]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Review], search_term: str
    ) -> tuple[QuerySet[Review], bool]:
        cards = of_card(search_term, may_see_personal(request)) if search_term else None
        of_cards = _keys(queryset.filter(cards)) if cards else set()
        if not of_cards:
            return super().get_search_results(request, queryset, search_term)
        # By index alone: to look for other parts of ids, too, would take most of a second.
        rows = (queryset.filter(pk__in=found.values("pk")) for found in beginning(search_term.strip()))
        return queryset.filter(pk__in=of_cards.union(*map(_keys, rows))), False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(seen_by(request.user))  # type: ignore[arg-type]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        since = queue.newest_opening()  # read before the rows, so that reviews opened in between count as new
        context: dict[str, Any] = {"title": "Review queue", "may_decide": may_decide(request), "since": since}
        context["handed"] = passing.handed_over(request.user)  # type: ignore[arg-type]
        context |= _tabs(request)
        return super().changelist_view(request, context | (extra_context or {}))

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return may_decide(request)

    @admin.action(description="Confirm fraud", permissions=["decide"])
    def confirm_fraud(self, request: HttpRequest, queryset: QuerySet[Review]) -> HttpResponse | None:
        return self._close_many(request, queryset, is_fraud=True)

    @admin.action(description="Mark legitimate", permissions=["decide"])
    def mark_legitimate(self, request: HttpRequest, queryset: QuerySet[Review]) -> HttpResponse | None:
        return self._close_many(request, queryset, is_fraud=False)

    def _close_many(self, request: HttpRequest, chosen: QuerySet[Review], *, is_fraud: bool) -> HttpResponse | None:
        """Show a page with counts and amounts for confirmation; once confirmed, close the reviews."""
        keys = list(chosen.filter(state=Review.State.OPEN).values_list("pk", flat=True))
        if not keys or ("confirmed" in request.POST and self.close(request, chosen, is_fraud=is_fraud)):
            return None
        asked = Review.objects.filter(pk__in=keys)
        by_schema = asked.order_by("prediction__transaction__schema").values("prediction__transaction__schema")
        stakes = by_schema.annotate(alerts=Count("pk"), amount=Sum("prediction__transaction__amount"))
        context = self.admin_site.each_context(request) | {
            "title": "Confirm fraud" if is_fraud else "Mark legitimate",
            "opts": self.opts,
            "media": self.media,
            "label": fraud_badge(is_fraud),
            "action": "confirm_fraud" if is_fraud else "mark_legitimate",
            "keys": keys,
            **reason_form(request, is_fraud),
            "stakes": [
                (schema, row["alerts"], amount_of(schema, row["amount"]))
                for row in stakes
                if (schema := row["prediction__transaction__schema"])
            ],
        }
        return TemplateResponse(request, "admin/scoring/review/confirm.html", context)

    def close(
        self,
        request: HttpRequest,
        reviews: QuerySet[Review] | list[Review],
        *,
        is_fraud: bool,
        listing: Listing | None = None,
    ) -> bool:
        """Close reviews with the reason and the note that were sent, and add an entry to a list with the first of them
        that was still open. Returns False if this was refused."""
        word = "fraud" if is_fraud else "legitimate"
        code, note = request.POST.get("code", ""), request.POST.get("note", "").strip()
        also = f" and put on the list {listing.list.name}" if listing else ""
        told = ": ".join(part for part in (f"Labelled {word}{also}", code, note) if part)
        closed, late, act = 0, 0, uuid4()
        given: dict[str, Any] = {"reviewer": request.user, "act": act, "code": code, "note": note, "listing": listing}
        for review in reviews:
            try:
                labelling.get_histories_ready(review.pk)
                with transaction.atomic():  # what the history of the case tells is part of the decision
                    won = labelling.close_review(review=review, is_fraud=is_fraud, **given)
                    review.refresh_from_db()  # otherwise the log entry would call it open
                    end = "" if code or note else "."
                    self.log_change(request, review, f"{told}{end if won else GONE}")
            except (ReasonMissing, ListRefused) as refusal:
                messages.error(request, str(refusal))
                return False
            except StaleHistory as error:
                messages.error(request, f"Nothing more was labelled: {error}")
                break
            closed, late = closed + won, late + (not won)
        if closed:
            done = f"{closed} labelled {word}; {told_of(listing)}" if listing else f"{closed} labelled {word}."
            messages.success(request, with_undo(request, done, act))
        if late:
            messages.warning(request, self.gone_message.format(late))
        return True

    def get_urls(self) -> list[URLPattern]:
        following = path("next/", self.admin_site.admin_view(self.next_view), name="scoring_review_next")
        count = path("open.json", self.admin_site.admin_view(self.open_view), name="scoring_review_open")
        return [following, count, *super().get_urls()]

    def open_view(self, request: HttpRequest) -> HttpResponse:
        """The numbers that pages poll: how many reviews are open, and how many were added to a list `since` a time."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        counts = {"open": self.admin_site.each_context(request)["open_reviews"]}
        filters = request.GET.copy()
        if filters.pop("queues", None):
            counts["queues"] = standings(request.user)  # type: ignore[arg-type]
        given = filters.pop("since", [""])[-1]
        with suppress(ValueError, OverflowError):
            reviews = self._list_of(request, filters.urlencode())
            new = reviews.filter(state=Review.State.OPEN, opened_at__gt=datetime.fromisoformat(given).astimezone(UTC))
            counts["new"] = new[:NEW_LIMIT].count()
        return JsonResponse(counts, headers={"Cache-Control": "no-store"})

    def next_view(self, request: HttpRequest) -> HttpResponse:
        """Redirect to the first review of a list that nobody works on."""
        if not may_decide(request):
            raise PermissionDenied
        return self.go_on(request, request.GET.urlencode(), [])

    def go_on(self, request: HttpRequest, filters: str, passed: list[UUID]) -> HttpResponse:
        """Redirect to the next free review of the list that the analyst came from, or to the list if there is none.

        Skipped reviews come back only after the end of the list was reached.
        """
        skipped = request.session.get(SKIPPED, [])
        reviews = self._list_of(request, filters)
        following = queue.claim_next(reviews, request.user, [*passed, *skipped])  # type: ignore[arg-type]
        if following is not None:
            address = reverse("admin:scoring_review_change", args=[following])
            return HttpResponseRedirect(f"{address}?{urlencode({FILTERS: filters})}" if filters else address)
        request.session.pop(SKIPPED, None)
        if left := reviews.filter(state=Review.State.OPEN).count():
            messages.info(request, f"You are through: the {left:,} still open here are skipped, or with others.")
        address = reverse("admin:scoring_review_changelist")
        return HttpResponseRedirect(f"{address}?{filters}" if filters else address)

    def _list_of(self, request: HttpRequest, filters: str) -> QuerySet[Review]:
        """The rows of the list with these filters, in its order."""
        asked = copy(request)
        asked.GET = QueryDict(filters)
        try:
            return self.get_changelist_instance(asked).queryset
        except IncorrectLookupParameters:
            return self.get_queryset(request).order_by(*self.ordering)


def _keys(reviews: QuerySet[Review]) -> set[UUID]:
    return set(reviews.values_list("pk", flat=True)[: settings.SEARCH_RESULTS_LIMIT])


def _tabs(request: HttpRequest) -> dict[str, Any]:
    """The tabs of the queues above the list. A tab keeps the other filters."""
    others = request.GET.copy()
    chosen = others.pop("queue", [""])[-1]
    others.pop("p", None)
    address = reverse("admin:scoring_review_changelist")
    queues = [
        row | {"address": f"{address}?{urlencode([('queue', row['key'])])}&{others.urlencode()}".rstrip("&")}
        for row in standings(request.user)  # type: ignore[arg-type]
    ]
    return {"queues": queues, "chosen_queue": chosen, "all_queues": f"{address}?{others.urlencode()}".rstrip("?")}


def reason_form(request: HttpRequest, is_fraud: bool | None = None) -> dict[str, Any]:
    """What the form of the reason shows: the reasons for a label, or for either."""
    found = reasons.active()
    if is_fraud is not None:
        found = found.exclude(is_fraud=not is_fraud)
    return {
        "reasons": found,
        "reason_required": settings.REVIEW_REASON_REQUIRED,
        "code": request.POST.get("code", ""),
        "note": request.POST.get("note", ""),
    }
