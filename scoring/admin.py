from datetime import datetime
from functools import cache
from math import floor, log10
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME as CHOSEN
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scoring import selectors, services
from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey, Client, Fallback, Label, Pending, Prediction, Review, Transaction
from training.exceptions import StaleHistory
from training.schema import load_schema, schema_names


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


def score_meter(prediction: Prediction) -> SafeString:
    return format_html(
        '<span class="score"><meter class="{}" value="{}"></meter> {}</span>',
        prediction.decision,
        f"{prediction.fraud_score:.4f}",
        f"{prediction.fraud_score:.4f}",
    )


def at(time: datetime) -> str:
    """A time to the second, in UTC: in a live list, the minute alone tells no two rows apart."""
    return f"{timezone.localtime(time):%Y-%m-%d %H:%M:%S}"


def decision_badge(decision: str) -> SafeString:
    return format_html('<span class="badge {}">{}</span>', decision, decision)


def told_badge(transaction: Transaction) -> SafeString | str:
    """The decision that the client was told, and whether it was one without a score; empty while it was told none."""
    given = selectors.answer(transaction)
    if given is None:
        return ""
    note = format_html(' <span class="quiet">{}</span>', "without a score") if hasattr(transaction, "fallback") else ""
    return format_html("{}{}", decision_badge(given.decision), note)


def waiting(pending: Pending) -> str:
    if pending.attempts >= settings.PENDING_ATTEMPTS_LIMIT:
        return f"has no score after {pending.attempts} attempts" + (f": {pending.fault}" if pending.fault else "")
    return "waits for its score"


def reason_list(prediction: Prediction) -> SafeString:
    reasons = ((reason["feature"], f"{reason['contribution']:+.2f}") for reason in prediction.reasons)
    return format_html_join(" ", '<span class="reason"><b>{}</b> {}</span>', reasons)


def field_table(transaction: Transaction) -> SafeString:
    """What was sent, then what was computed of it; what raised the score most stands out.

    Of a token the first digits are enough to recognise it in another transaction by.
    """
    prediction = transaction.prediction if hasattr(transaction, "prediction") else None
    raised = {reason["feature"] for reason in prediction.reasons} if prediction else set()
    sent = transaction.fields | {name: f"{token[:8]}…" for name, token in (transaction.tokens or {}).items()}
    derived = (prediction.derived if prediction else None) or {}
    declared = _declared(transaction.schema)
    tables = [(kind, values) for kind, values in (("", sent), ("derived", derived)) if values]
    return format_html_join(
        "", '<dl class="fields {}">{}</dl>', ((kind, _cells(it, raised, declared)) for kind, it in tables)
    )


@cache
def _declared(schema: str) -> dict[str, tuple[str, str]]:
    """Unit and description of everything that a schema declares, by name, in its order; nothing of an old one."""
    if schema not in schema_names():
        return {}
    declared = load_schema(schema)
    parts = (*declared.features, *declared.entities, *declared.derived)
    return {part.name: (getattr(part, "unit", ""), part.description) for part in parts}


def _cells(values: dict[str, Any], raised: set[str], declared: dict[str, tuple[str, str]]) -> SafeString:
    cells = []
    in_order = {name: values[name] for name in declared if name in values} | values  # PostgreSQL keeps no order
    for name, value in in_order.items():
        unit, description = declared.get(name, ("", ""))
        title = f"{description} ({unit})" if unit not in ("", "1") else description
        cells.append(("raised" if name in raised else "", title, name, number(value)))
    return format_html_join("", '<div class="{}" title="{}"><dt>{}</dt><dd>{}</dd></div>', cells)


def number(value: Any) -> str:
    """A number to about six digits, as people write it: with separators, and never with an exponent.

    >>> number(5184000.0), number(85.54712345), number(0.0123456789), number(-1e-9)
    ('5,184,000', '85.5471', '0.012346', '0')
    """
    if not isinstance(value, float):
        return str(value)
    decimals = min(6, max(0, 5 - floor(log10(abs(value))))) if value else 0
    text = f"{value:,.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if decimals else text
    return "0" if text == "-0" else text


def link(obj: Model, text: str) -> SafeString:
    return format_html(
        '<a href="{}">{}</a>', reverse(f"admin:scoring_{obj._meta.model_name}_change", args=[obj.pk]), text
    )


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
