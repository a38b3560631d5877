"""The queue of the analysts, and the labels that come of it."""

from typing import Any
from uuid import uuid4

from django.contrib import admin, messages
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from scoring import labelling
from scoring.cells import (
    amount_of,
    at,
    field_table,
    label_badge,
    link,
    money,
    reason_list,
    score_meter,
    state_badge,
    told_badge,
)
from scoring.label_admin import CorrectableAdmin, may_decide, with_undo
from scoring.models import Client, Review, Transaction
from training.exceptions import StaleHistory


class StateFilter(admin.SimpleListFilter):
    """Like a filter on the state, but what an analyst opens the page for comes first: the open reviews."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [*Review.State.choices, ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        for value, title in self.lookup_choices:
            yield {
                "selected": (self.value() or Review.State.OPEN) == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Review]) -> QuerySet[Review]:
        state = self.value() or Review.State.OPEN
        return queryset if state == "all" else queryset.filter(state=state)


@admin.register(Review)
class ReviewAdmin(CorrectableAdmin):
    """The queue of the analysts: highest score first, closed from the list or, one after the other, from the page."""

    list_display = ["score", "badge", "amount", "reasons_shown", "client", "opened", "state_shown", "reviewer"]
    list_filter = [StateFilter, "prediction__decision", "prediction__transaction__client", "opened_at", "reviewer"]
    list_select_related = ["prediction__transaction__client", "prediction__transaction__fallback", "reviewer"]
    search_fields = ["prediction__transaction__id", "prediction__transaction__transaction_id__exact"]
    search_help_text = "Fraudsite's id, or the client's own transaction id."
    ordering = ["-fraud_score"]
    actions = ["confirm_fraud", "mark_legitimate"]
    gone_message = "{} had been closed already and kept their label."
    fields = [
        ("score", "badge"),
        "reasons_shown",
        ("amount", "client"),
        "transaction_link",
        ("opened", "state_shown"),
        ("closed_at", "reviewer_name"),
        "labels_shown",
        "values",
    ]
    save_on_top = True  # the place where the template puts the two buttons
    change_form_template = "admin/scoring/review/change_form.html"

    def transaction_of(self, obj: Review) -> Transaction:
        return obj.prediction.transaction

    @admin.display(description="Score", ordering="fraud_score")
    def score(self, review: Review) -> SafeString:
        return score_meter(review.prediction)

    @admin.display(description="Opened", ordering="opened_at")
    def opened(self, review: Review) -> str:
        return at(review.opened_at)

    @admin.display(description="State", ordering="state")
    def state_shown(self, review: Review) -> SafeString | str:
        return state_badge(review)

    @admin.display(description="Decision", ordering="prediction__decision")
    def badge(self, review: Review) -> SafeString | str:
        return told_badge(review.prediction.transaction)

    @admin.display(description="Amount", ordering="prediction__transaction__amount")
    def amount(self, review: Review) -> str:
        return money(review.prediction.transaction)

    @admin.display(description="Reasons")
    def reasons_shown(self, review: Review) -> SafeString | str:
        return reason_list(review.prediction) or "-"

    @admin.display(description="Client")
    def client(self, review: Review) -> Client:
        return review.prediction.transaction.client

    @admin.display(description="Transaction")
    def transaction_link(self, review: Review) -> SafeString:
        return link(review.prediction.transaction, str(review.prediction.transaction))

    @admin.display(description="Reviewer")
    def reviewer_name(self, review: Review) -> str:
        return str(review.reviewer or "-")  # not a link: analysts may not see accounts

    @admin.display(description="Fields")
    def values(self, review: Review) -> SafeString:
        return field_table(review.prediction.transaction)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """In the queue itself every review is open, and nobody's."""
        shown = request.GET.get(StateFilter.parameter_name, Review.State.OPEN)
        return [
            name for name in self.list_display if shown != Review.State.OPEN or name not in {"state_shown", "reviewer"}
        ]

    def get_fields(self, request: HttpRequest, obj: Review | None = None) -> list[Any]:
        skipped: set[Any] = set()
        if obj and obj.state == Review.State.OPEN:
            skipped.add(("closed_at", "reviewer_name"))
        if obj and not obj.prediction.transaction.labels.exists():
            skipped.add("labels_shown")
        return [field for field in self.fields if field not in skipped]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Review queue"} | (extra_context or {}))

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return may_decide(request)

    @admin.action(description="Confirm fraud", permissions=["decide"])
    def confirm_fraud(self, request: HttpRequest, queryset: QuerySet[Review]) -> HttpResponse | None:
        return self._close_many(request, queryset, is_fraud=True)

    @admin.action(description="Mark legitimate", permissions=["decide"])
    def mark_legitimate(self, request: HttpRequest, queryset: QuerySet[Review]) -> HttpResponse | None:
        return self._close_many(request, queryset, is_fraud=False)

    def _close_many(self, request: HttpRequest, chosen: QuerySet[Review], *, is_fraud: bool) -> HttpResponse | None:
        """Ask once, with what is at stake; what comes back confirmed is closed."""
        keys = list(chosen.filter(state=Review.State.OPEN).values_list("pk", flat=True))
        if "confirmed" in request.POST or not keys:
            self._close(request, chosen, is_fraud=is_fraud)
            return None
        asked = Review.objects.filter(pk__in=keys)
        by_schema = asked.order_by("prediction__transaction__schema").values("prediction__transaction__schema")
        stakes = by_schema.annotate(alerts=Count("pk"), amount=Sum("prediction__transaction__amount"))
        context = self.admin_site.each_context(request) | {
            "title": "Confirm fraud" if is_fraud else "Mark legitimate",
            "opts": self.opts,
            "media": self.media,
            "label": label_badge(is_fraud),
            "action": "confirm_fraud" if is_fraud else "mark_legitimate",
            "keys": keys,
            "stakes": [
                (schema, row["alerts"], amount_of(schema, row["amount"]))
                for row in stakes
                if (schema := row["prediction__transaction__schema"])
            ],
        }
        return TemplateResponse(request, "admin/scoring/review/confirm.html", context)

    def _close(self, request: HttpRequest, reviews: QuerySet[Review] | list[Review], *, is_fraud: bool) -> None:
        word = "fraud" if is_fraud else "legitimate"
        closed, late, act = 0, 0, uuid4()
        for review in reviews:
            try:
                won = labelling.close_review(review=review, is_fraud=is_fraud, reviewer=request.user, act=act)  # type: ignore[arg-type]
            except StaleHistory as error:
                messages.error(request, f"Nothing more was labelled: {error}")
                return
            if won:
                review.refresh_from_db()  # or the history would go on calling it open
                self.log_change(request, review, f"Labelled {word}.")
                closed += 1
            else:
                late += 1
        if closed:
            messages.success(request, with_undo(request, f"{closed} labelled {word}.", act))
        if late:
            messages.warning(request, self.gone_message.format(late))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "POST" and self.has_decide_permission(request) and "decide" in request.POST:
            review = self.get_object(request, object_id)
            if review is not None:
                self._close(request, [review], is_fraud=request.POST["decide"] == "fraud")
                return HttpResponseRedirect(self._next_address())
        context = {"title": "Review", "may_decide": self.has_decide_permission(request)} | (extra_context or {})
        return super().change_view(request, object_id, form_url, context)

    def _next_address(self) -> str:
        """Where the work goes on: the riskiest open review, or the empty queue."""
        following = Review.objects.filter(state=Review.State.OPEN).order_by("-fraud_score").first()
        if following is None:
            return reverse("admin:scoring_review_changelist")
        return reverse("admin:scoring_review_change", args=[following.pk])
