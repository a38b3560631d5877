from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME as CHOSEN
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from scoring import services
from scoring.cells import at, decision_badge, field_table, link, reason_list, score_meter, told_badge, waiting
from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey, Client, Fallback, Label, Pending, Prediction, Review, Transaction
from training.exceptions import StaleHistory


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that are the record of what happened: to look at, never to touch."""

    list_per_page = 50
    # Counting all rows beside the filtered ones would cost a scan of the whole table at each look.
    show_full_result_count = False

    class Media:
        css = {"all": ["scoring/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Transaction)
class TransactionAdmin(ReadOnlyAdmin):
    list_display = ["received", "transaction_id", "client", "money", "decision", "id"]
    list_filter = ["client", "schema", "received_at"]
    list_select_related = ["client", "prediction", "fallback", "pending"]
    search_fields = ["id", "transaction_id__exact"]
    search_help_text = "Fraudsite's id, or the client's own transaction id."
    date_hierarchy = "received_at"
    ordering = ["-received_at"]
    fields = [
        "id",
        "transaction_id",
        "client",
        "money",
        "event_time",
        "received",
        "decision",
        "fallback_link",
        "prediction_link",
        "values",
    ]

    def get_fields(self, request: HttpRequest, obj: Transaction | None = None) -> list[Any]:
        skipped = set() if hasattr(obj, "fallback") else {"fallback_link"}
        return [field for field in self.fields if field not in skipped]

    @admin.display(description="Received", ordering="received_at")
    def received(self, transaction: Transaction) -> str:
        return at(transaction.received_at)

    @admin.display(description="Amount", ordering="amount")
    def money(self, transaction: Transaction) -> str:
        return f"{transaction.amount:,.2f}"

    @admin.display(description="Decision")
    def decision(self, transaction: Transaction) -> SafeString | str:
        if hasattr(transaction, "pending") and not hasattr(transaction, "fallback"):
            return waiting(transaction.pending)
        return told_badge(transaction)

    @admin.display(description="Fallback")
    def fallback_link(self, transaction: Transaction) -> SafeString:
        return link(transaction.fallback, f"{transaction.fallback}: {transaction.fallback.get_reason_display()}")

    @admin.display(description="Prediction")
    def prediction_link(self, transaction: Transaction) -> SafeString | str:
        if hasattr(transaction, "prediction"):
            return link(transaction.prediction, str(transaction.prediction))
        return link(transaction.pending, waiting(transaction.pending)) if hasattr(transaction, "pending") else ""

    @admin.display(description="Fields")
    def values(self, transaction: Transaction) -> SafeString:
        return field_table(transaction)


@admin.register(Prediction)
class PredictionAdmin(ReadOnlyAdmin):
    list_display = ["created", "score", "badge", "amount", "latency", "client", "version"]
    list_filter = ["decision", "model_version", "transaction__client", "created_at"]
    list_select_related = ["transaction__client"]
    search_fields = ["transaction__id", "transaction__transaction_id__exact"]
    search_help_text = "Fraudsite's id, or the client's own transaction id."
    date_hierarchy = "created_at"
    ordering = ["-created_at"]
    fields = [
        "transaction_link",
        "client",
        "amount",
        "score",
        "badge",
        "reasons_shown",
        "threshold",
        "model_version",
        "latency",
        "created",
        "values",
    ]

    @admin.display(description="Score", ordering="fraud_score")
    def score(self, prediction: Prediction) -> SafeString:
        return score_meter(prediction)

    @admin.display(description="Created", ordering="created_at")
    def created(self, prediction: Prediction) -> str:
        return at(prediction.created_at)

    @admin.display(description="Decision", ordering="decision")
    def badge(self, prediction: Prediction) -> SafeString:
        return decision_badge(prediction.decision)

    @admin.display(description="Amount")
    def amount(self, prediction: Prediction) -> str:
        return f"{prediction.transaction.amount:,.2f}"

    @admin.display(description="Client")
    def client(self, prediction: Prediction) -> Client:
        return prediction.transaction.client

    @admin.display(description="Latency (ms)", ordering="latency_ms")
    def latency(self, prediction: Prediction) -> str:
        return f"{prediction.latency_ms:.1f}"

    @admin.display(description="Model version", ordering="model_version")
    def version(self, prediction: Prediction) -> str:
        return prediction.model_version_id

    @admin.display(description="Transaction")
    def transaction_link(self, prediction: Prediction) -> SafeString:
        return link(prediction.transaction, str(prediction.transaction))

    @admin.display(description="Reasons")
    def reasons_shown(self, prediction: Prediction) -> SafeString | str:
        return reason_list(prediction) or "-"

    @admin.display(description="Fields")
    def values(self, prediction: Prediction) -> SafeString:
        return field_table(prediction.transaction)


@admin.register(Fallback)
class FallbackAdmin(ReadOnlyAdmin):
    list_display = ["created", "badge", "reason", "amount", "client", "score"]
    list_filter = ["decision", "reason", "transaction__client", "created_at"]
    list_select_related = ["transaction__client", "transaction__prediction", "transaction__pending"]
    search_fields = ["transaction__id", "transaction__transaction_id__exact"]
    search_help_text = "Fraudsite's id, or the client's own transaction id."
    date_hierarchy = "created_at"
    ordering = ["-created_at"]
    fields = ["transaction_link", "client", "amount", "badge", "reason", "latency", "created", "score"]

    @admin.display(description="Created", ordering="created_at")
    def created(self, fallback: Fallback) -> str:
        return at(fallback.created_at)

    @admin.display(description="Decision", ordering="decision")
    def badge(self, fallback: Fallback) -> SafeString:
        return decision_badge(fallback.decision)

    @admin.display(description="Amount")
    def amount(self, fallback: Fallback) -> str:
        return f"{fallback.transaction.amount:,.2f}"

    @admin.display(description="Client")
    def client(self, fallback: Fallback) -> Client:
        return fallback.transaction.client

    @admin.display(description="Latency (ms)", ordering="latency_ms")
    def latency(self, fallback: Fallback) -> str:
        return f"{fallback.latency_ms:.1f}"

    @admin.display(description="Score since")
    def score(self, fallback: Fallback) -> SafeString | str:
        if hasattr(fallback.transaction, "prediction"):
            return score_meter(fallback.transaction.prediction)
        return waiting(fallback.transaction.pending) if hasattr(fallback.transaction, "pending") else ""

    @admin.display(description="Transaction")
    def transaction_link(self, fallback: Fallback) -> SafeString:
        return link(fallback.transaction, str(fallback.transaction))


@admin.register(Pending)
class PendingAdmin(ReadOnlyAdmin):
    list_display = ["due", "standing", "attempts", "amount", "client", "fault"]
    list_filter = ["attempts", "transaction__client", "due_at"]
    list_select_related = ["transaction__client"]
    search_fields = ["transaction__id", "transaction__transaction_id__exact"]
    search_help_text = "Fraudsite's id, or the client's own transaction id."
    ordering = ["-attempts", "due_at"]
    fields = ["transaction_link", "client", "amount", "standing", "attempts", "due", "fault"]

    @admin.display(description="Amount")
    def amount(self, pending: Pending) -> str:
        return f"{pending.transaction.amount:,.2f}"

    @admin.display(description="Client")
    def client(self, pending: Pending) -> Client:
        return pending.transaction.client

    @admin.display(description="Due", ordering="due_at")
    def due(self, pending: Pending) -> str:
        return at(pending.due_at)

    @admin.display(description="State")
    def standing(self, pending: Pending) -> str:
        return waiting(pending)

    @admin.display(description="Transaction")
    def transaction_link(self, pending: Pending) -> SafeString:
        return link(pending.transaction, str(pending.transaction))


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
class ReviewAdmin(ReadOnlyAdmin):
    """The queue of the analysts: highest score first, closed from the list or, one after the other, from the page."""

    list_display = ["score", "badge", "amount", "reasons_shown", "client", "opened", "state", "reviewer"]
    list_filter = [StateFilter, "prediction__decision", "prediction__transaction__client", "opened_at", "reviewer"]
    list_select_related = ["prediction__transaction__client", "prediction__transaction__fallback", "reviewer"]
    search_fields = ["prediction__transaction__id", "prediction__transaction__transaction_id__exact"]
    search_help_text = "Fraudsite's id, or the client's own transaction id."
    ordering = ["-fraud_score"]
    actions = ["confirm_fraud", "mark_legitimate"]
    fields = [
        ("score", "badge"),
        "reasons_shown",
        ("amount", "client"),
        "transaction_link",
        ("opened", "state"),
        ("closed_at", "reviewer"),
        "values",
    ]
    save_on_top = True  # the place where the template puts the two buttons
    change_form_template = "admin/scoring/review/change_form.html"

    @admin.display(description="Score", ordering="fraud_score")
    def score(self, review: Review) -> SafeString:
        return score_meter(review.prediction)

    @admin.display(description="Opened", ordering="opened_at")
    def opened(self, review: Review) -> str:
        return at(review.opened_at)

    @admin.display(description="Decision", ordering="prediction__decision")
    def badge(self, review: Review) -> SafeString | str:
        return told_badge(review.prediction.transaction)

    @admin.display(description="Amount", ordering="prediction__transaction__amount")
    def amount(self, review: Review) -> str:
        return f"{review.prediction.transaction.amount:,.2f}"

    @admin.display(description="Reasons")
    def reasons_shown(self, review: Review) -> SafeString | str:
        return reason_list(review.prediction) or "-"

    @admin.display(description="Client")
    def client(self, review: Review) -> Client:
        return review.prediction.transaction.client

    @admin.display(description="Transaction")
    def transaction_link(self, review: Review) -> SafeString:
        return link(review.prediction.transaction, str(review.prediction.transaction))

    @admin.display(description="Fields")
    def values(self, review: Review) -> SafeString:
        return field_table(review.prediction.transaction)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """In the queue itself every review is open, and nobody's."""
        shown = request.GET.get(StateFilter.parameter_name, Review.State.OPEN)
        return [name for name in self.list_display if shown != Review.State.OPEN or name not in {"state", "reviewer"}]

    def get_fields(self, request: HttpRequest, obj: Review | None = None) -> list[Any]:
        is_open = obj is not None and obj.state == Review.State.OPEN
        return [field for field in self.fields if not (is_open and field == ("closed_at", "reviewer"))]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Review queue"} | (extra_context or {}))

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.change_review")

    @admin.action(description="Confirm fraud", permissions=["decide"])
    def confirm_fraud(self, request: HttpRequest, queryset: QuerySet[Review]) -> None:
        self._close(request, queryset, is_fraud=True)

    @admin.action(description="Mark legitimate", permissions=["decide"])
    def mark_legitimate(self, request: HttpRequest, queryset: QuerySet[Review]) -> None:
        self._close(request, queryset, is_fraud=False)

    def _close(self, request: HttpRequest, reviews: QuerySet[Review] | list[Review], *, is_fraud: bool) -> None:
        word = "fraud" if is_fraud else "legitimate"
        closed = 0
        for review in reviews:
            try:
                won = services.close_review(review=review, is_fraud=is_fraud, reviewer=request.user)  # type: ignore[arg-type]
            except StaleHistory as error:
                messages.error(request, f"Nothing more was labelled: {error}")
                return
            if won:
                review.refresh_from_db()  # or the history would go on calling it open
                self.log_change(request, review, f"Labelled {word}.")
                closed += 1
        if closed:
            messages.success(request, f"{closed} labelled {word}.")
        # A colleague's label takes a review out of the queue, and so out of what the action gets to see.
        chosen = len(reviews) if request.POST.get("select_across") == "1" else len(request.POST.getlist(CHOSEN)) or 1
        if late := chosen - closed:
            messages.warning(request, f"{late} had been closed already and kept their label.")

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


@admin.register(Label)
class LabelAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "is_fraud", "source", "author", "transaction"]
    list_filter = ["is_fraud", "source", "author", "created_at"]
    list_select_related = ["author", "transaction"]
    date_hierarchy = "created_at"
    ordering = ["-created_at"]


@admin.register(Client)
class ClientAdmin(admin.ModelAdmin):
    list_display = ["name", "is_active", "created_at"]
    actions = ["create_key"]

    def has_delete_permission(self, request: HttpRequest, obj: Client | None = None) -> bool:
        return False

    def has_key_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.add_apikey")

    @admin.action(description="Create an API key", permissions=["key"])
    def create_key(self, request: HttpRequest, queryset: QuerySet[Client]) -> HttpResponse | None:
        if len(queryset) != 1:
            messages.error(request, "Choose one client.")
            return None
        try:
            row, key = services.create_api_key(client=queryset[0])
        except TooManyKeys as refusal:
            messages.error(request, str(refusal))
            return None
        self.log_change(request, queryset[0], f"Created API key {row}.")
        context = self.admin_site.each_context(request) | {"title": "A new API key", "client": queryset[0], "key": key}
        return TemplateResponse(
            request, "admin/scoring/client/key.html", context, headers={"Cache-Control": "no-store"}
        )


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ["prefix", "client", "created_at", "revoked_at"]
    list_filter = ["client"]
    list_select_related = ["client"]
    actions = ["revoke"]

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.change_apikey")

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            if services.revoke_api_key(key=key):
                self.log_change(request, key, "Revoked.")
        messages.success(request, "Revoked. The keys stop working within a second.")
