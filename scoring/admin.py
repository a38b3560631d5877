from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from scoring import keys, pending, review_admin  # noqa: F401  # its admin is registered by its import
from scoring.cells import (
    decision_badge,
    field_table,
    link,
    money,
    reason_list,
    score_meter,
    told_badge,
    waiting,
)
from scoring.exceptions import TooManyKeys
from scoring.label_admin import CorrectableAdmin
from scoring.models import ApiKey, Client, Fallback, Pending, Prediction, Transaction
from scoring.read_only import ReadOnlyAdmin
from scoring.search import TransactionSearch
from training.figures import at, milliseconds, threshold
from training.schema import schema_names


class SchemaFilter(admin.SimpleListFilter):
    """Offers the schemas that there are: to look for those of the rows, Django would read the whole table."""

    title = parameter_name = "schema"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [(name, name) for name in schema_names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Transaction]) -> QuerySet[Transaction]:
        return queryset.filter(schema=self.value()) if self.value() else queryset


@admin.register(Transaction)
class TransactionAdmin(TransactionSearch, CorrectableAdmin):
    list_display = ["received", "transaction_id", "client", "money", "decision", "id"]
    list_filter = ["client", SchemaFilter, "received_at"]
    list_select_related = ["client", "prediction", "fallback", "pending"]
    transaction_path = "pk"
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
        "labels_shown",
        "values",
    ]

    def get_fields(self, request: HttpRequest, obj: Transaction | None = None) -> list[Any]:
        skipped = set() if hasattr(obj, "fallback") else {"fallback_link"}
        if obj and not obj.labels.exists():
            skipped.add("labels_shown")
        return [field for field in self.fields if field not in skipped]

    save_on_top = True  # the place where the template puts the buttons
    change_form_template = "admin/scoring/transaction/change_form.html"

    def transaction_of(self, obj: Transaction) -> Transaction:
        return obj

    @admin.display(description="Received", ordering="received_at")
    def received(self, transaction: Transaction) -> str:
        return at(transaction.received_at)

    @admin.display(description="Amount", ordering="amount")
    def money(self, transaction: Transaction) -> str:
        return money(transaction)

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
class PredictionAdmin(TransactionSearch, ReadOnlyAdmin):
    list_display = ["created", "score", "badge", "amount", "latency", "client", "version"]
    list_filter = ["decision", "model_version", "transaction__client", "created_at"]
    list_select_related = ["transaction__client"]
    date_hierarchy = "created_at"
    ordering = ["-created_at"]
    fields = [
        "transaction_link",
        "client",
        "amount",
        "score",
        "badge",
        "reasons_shown",
        "threshold_shown",
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
        return money(prediction.transaction)

    @admin.display(description="Client")
    def client(self, prediction: Prediction) -> Client:
        return prediction.transaction.client

    @admin.display(description="Latency (ms)", ordering="latency_ms")
    def latency(self, prediction: Prediction) -> str:
        return milliseconds(prediction.latency_ms)

    @admin.display(description="Threshold")
    def threshold_shown(self, prediction: Prediction) -> str:
        return threshold(prediction.threshold)

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
class FallbackAdmin(TransactionSearch, ReadOnlyAdmin):
    list_display = ["created", "badge", "reason", "amount", "client", "score"]
    list_filter = ["decision", "reason", "transaction__client", "created_at"]
    list_select_related = ["transaction__client", "transaction__prediction", "transaction__pending"]
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
        return money(fallback.transaction)

    @admin.display(description="Client")
    def client(self, fallback: Fallback) -> Client:
        return fallback.transaction.client

    @admin.display(description="Latency (ms)", ordering="latency_ms")
    def latency(self, fallback: Fallback) -> str:
        return milliseconds(fallback.latency_ms)

    @admin.display(description="Score since")
    def score(self, fallback: Fallback) -> SafeString | str:
        if hasattr(fallback.transaction, "prediction"):
            return score_meter(fallback.transaction.prediction)
        return waiting(fallback.transaction.pending) if hasattr(fallback.transaction, "pending") else ""

    @admin.display(description="Transaction")
    def transaction_link(self, fallback: Fallback) -> SafeString:
        return link(fallback.transaction, str(fallback.transaction))


@admin.register(Pending)
class PendingAdmin(TransactionSearch, ReadOnlyAdmin):
    list_display = ["due", "standing", "attempts", "amount", "client", "fault"]
    list_filter = ["attempts", "transaction__client", "due_at"]
    list_select_related = ["transaction__client"]
    ordering = ["-attempts", "due_at"]
    fields = ["transaction_link", "client", "amount", "standing", "attempts", "sent", "due", "fault", "request_id"]
    actions = ["retry"]
    gone_message = "{} had their score already."

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.change_pending")

    @admin.action(description="Try again", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Pending]) -> None:
        tried = pending.retry(queryset)
        messages.success(request, f"{tried} will be tried again within {settings.PENDING_SWEEP_S:g} s.")

    @admin.display(description="Amount")
    def amount(self, pending: Pending) -> str:
        return money(pending.transaction)

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
            row, key = keys.create(client=queryset[0])
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
            if keys.revoke(key=key):
                self.log_change(request, key, "Revoked.")
        messages.success(request, "Revoked. The keys stop working within a second.")
