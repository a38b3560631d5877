from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME as CHOSEN
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scoring import services
from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey, Client, Label, Prediction, Review, Transaction


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


def score_meter(fraud_score: float) -> SafeString:
    return format_html(
        '<span class="score"><meter min="0" max="1" low="0.5" high="0.9" optimum="0" value="{}"></meter> {}</span>',
        f"{fraud_score:.4f}",
        f"{fraud_score:.4f}",
    )


def decision_badge(decision: str) -> SafeString:
    return format_html('<span class="badge {}">{}</span>', decision, decision)


def reason_list(prediction: Prediction) -> SafeString:
    reasons = ((reason["feature"], f"{reason['contribution']:+.2f}") for reason in prediction.reasons)
    return format_html_join(" ", '<span class="reason"><b>{}</b> {}</span>', reasons)


def field_table(transaction: Transaction) -> SafeString:
    rows = format_html_join("", "<tr><th>{}</th><td>{}</td></tr>", transaction.fields.items())
    return format_html('<table class="fields">{}</table>', rows)


def link(obj: Model, text: str) -> SafeString:
    return format_html(
        '<a href="{}">{}</a>', reverse(f"admin:scoring_{obj._meta.model_name}_change", args=[obj.pk]), text
    )


@admin.register(Transaction)
class TransactionAdmin(ReadOnlyAdmin):
    list_display = ["received_at", "transaction_id", "client", "amount", "schema", "id"]
    list_filter = ["client", "schema", "received_at"]
    list_select_related = ["client"]
    search_fields = ["id", "transaction_id__exact"]
    search_help_text = "Fraudsite's id, or the client's own transaction id."
    date_hierarchy = "received_at"
    ordering = ["-received_at"]
    fields = ["id", "transaction_id", "client", "amount", "event_time", "received_at", "prediction_link", "values"]

    @admin.display(description="Prediction")
    def prediction_link(self, transaction: Transaction) -> SafeString:
        return link(transaction.prediction, str(transaction.prediction))

    @admin.display(description="Fields")
    def values(self, transaction: Transaction) -> SafeString:
        return field_table(transaction)


@admin.register(Prediction)
class PredictionAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "score", "badge", "amount", "client", "model_version", "latency", "pk"]
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
        "created_at",
        "values",
    ]

    @admin.display(description="Score", ordering="fraud_score")
    def score(self, prediction: Prediction) -> SafeString:
        return score_meter(prediction.fraud_score)

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

    @admin.display(description="Transaction")
    def transaction_link(self, prediction: Prediction) -> SafeString:
        return link(prediction.transaction, str(prediction.transaction))

    @admin.display(description="Reasons")
    def reasons_shown(self, prediction: Prediction) -> SafeString | str:
        return reason_list(prediction) or "-"

    @admin.display(description="Fields")
    def values(self, prediction: Prediction) -> SafeString:
        return field_table(prediction.transaction)


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

    list_display = ["score", "badge", "amount", "reasons_shown", "client", "opened_at", "state", "reviewer"]
    list_filter = [StateFilter, "prediction__decision", "prediction__transaction__client", "opened_at", "reviewer"]
    list_select_related = ["prediction__transaction__client", "reviewer"]
    search_fields = ["prediction__transaction__id", "prediction__transaction__transaction_id__exact"]
    search_help_text = "Fraudsite's id, or the client's own transaction id."
    ordering = ["-fraud_score"]
    actions = ["confirm_fraud", "mark_legitimate"]
    fields = [
        "score",
        "badge",
        "reasons_shown",
        "amount",
        "client",
        "transaction_link",
        "opened_at",
        "state",
        "reviewer",
        "closed_at",
        "values",
    ]
    change_form_template = "admin/scoring/review/change_form.html"

    @admin.display(description="Score", ordering="fraud_score")
    def score(self, review: Review) -> SafeString:
        return score_meter(review.fraud_score)

    @admin.display(description="Decision", ordering="prediction__decision")
    def badge(self, review: Review) -> SafeString:
        return decision_badge(review.prediction.decision)

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
            if services.close_review(review=review, is_fraud=is_fraud, reviewer=request.user):  # type: ignore[arg-type]
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
        context = {"may_decide": self.has_decide_permission(request)} | (extra_context or {})
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
