from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scoring import explanations
from scoring.clients import admin as clients_admin  # noqa: F401  # registered by its import
from scoring.clients import people_admin  # noqa: F401  # likewise
from scoring.exceptions import RequestRefused
from scoring.files import admin as files_admin  # noqa: F401  # likewise
from scoring.lists import admin as lists_admin  # noqa: F401  # likewise
from scoring.models import Fallback, Pending, Prediction, Transaction
from scoring.pages.columns import AnswerColumns, TransactionColumns
from scoring.pages.conversions import sent_amount
from scoring.pages.display import (
    answer_badge,
    decided_by,
    field_table,
    link,
    money,
    score_meter,
    waiting,
)
from scoring.pages.explanation import explanation_table, reason_table
from scoring.pages.filters import SchemaFilter
from scoring.pages.personal import PersonalAdmin, shows_personal
from scoring.pages.read_only import ReadOnlyAdmin
from scoring.pages.search import TransactionSearch
from scoring.policies import admin as policies_admin  # noqa: F401  # likewise
from scoring.privacy import admin as privacy_admin  # noqa: F401  # likewise
from scoring.reviews import admin as reviews_admin  # noqa: F401  # likewise
from scoring.reviews import (
    queue_admin,  # noqa: F401  # likewise
    reason_admin,  # noqa: F401  # likewise
)
from scoring.reviews.case import entity_page
from scoring.reviews.label_admin import CorrectableAdmin
from scoring.webhooks import (
    admin as webhooks_admin,  # noqa: F401  # likewise
)
from scoring.webhooks import (
    delivery_admin,  # noqa: F401  # likewise
)
from scoring.worker import pending
from training.core.figures import at, threshold


@admin.register(Transaction)
class TransactionAdmin(TransactionSearch, PersonalAdmin, CorrectableAdmin):
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
        "sent",
        "event_time",
        "received",
        "request_id",
        "trace",
        "decision",
        "fallback_link",
        "prediction_link",
        "labels_shown",
        "values",
    ]

    def get_fields(self, request: HttpRequest, obj: Transaction | None = None) -> list[Any]:
        skipped = set() if hasattr(obj, "fallback") else {"fallback_link"}
        if obj and not obj.conversion:
            skipped.add("sent")
        if obj and not obj.request_id:
            skipped.add("request_id")
        if obj and not obj.trace_id:
            skipped.add("trace")
        if obj and not obj.labels.exists():
            skipped.add("labels_shown")
        return [field for field in self.fields if field not in skipped]

    save_on_top = True  # the place where the template puts the buttons
    change_form_template = "admin/scoring/transaction/change_form.html"

    def transaction_of(self, obj: Transaction) -> Transaction:
        return obj

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<uuid:key>/explanation/", view(self.explanation_view), name="scoring_transaction_explanation"),
            path(
                "entity/<slug:schema>/<slug:name>/<slug:token>/",
                view(self.entity_view),
                name="scoring_transaction_entity",
            ),
            *super().get_urls(),
        ]

    def entity_view(self, request: HttpRequest, schema: str, name: str, token: str) -> HttpResponse:
        """The page of a card or another entity."""
        return entity_page.view(self.admin_site, request, schema, name, token, opts=self.opts, media=self.media)

    def explanation_view(self, request: HttpRequest, key: UUID) -> HttpResponse:
        """Why a transaction has its score. Of others than alerts a worker finds it out now."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_queryset(request).select_related("prediction__model_version").filter(pk=key).first()
        if row is None or not hasattr(row, "prediction"):
            raise Http404
        context = self.admin_site.each_context(request) | {
            "title": "What raised or lowered the score",
            "opts": self.opts,
            "media": self.media,
            "original": row,
            "prediction": row.prediction,
            "meter": score_meter(row.prediction),
        }
        try:
            explanation = explanations.explanation_of(row.prediction)
            context["table"] = explanation_table(row.prediction, explanation, personal=shows_personal(row))
        except RequestRefused as refusal:
            context["refusal"] = str(refusal)
        return TemplateResponse(request, "admin/scoring/transaction/explanation.html", context)

    @admin.display(description="Received", ordering="received_at")
    def received(self, transaction: Transaction) -> str:
        return at(transaction.received_at)

    @admin.display(description="Amount", ordering="amount")
    def money(self, transaction: Transaction) -> str:
        return money(transaction)

    @admin.display(description="Trace")
    def trace(self, transaction: Transaction) -> str:
        return transaction.trace_id.hex if transaction.trace_id else ""

    @admin.display(description="Sent as")
    def sent(self, transaction: Transaction) -> str:
        return sent_amount(transaction)

    @admin.display(description="Decision")
    def decision(self, transaction: Transaction) -> SafeString | str:
        if hasattr(transaction, "pending") and not hasattr(transaction, "fallback"):
            return waiting(transaction.pending)
        return answer_badge(transaction)

    @admin.display(description="Fallback")
    def fallback_link(self, transaction: Transaction) -> SafeString:
        return link(transaction.fallback, f"{transaction.fallback}: {transaction.fallback.get_reason_display()}")

    @admin.display(description="Prediction")
    def prediction_link(self, transaction: Transaction) -> SafeString | str:
        if hasattr(transaction, "prediction"):
            address = reverse("admin:scoring_transaction_explanation", args=[transaction.pk])
            prediction = link(transaction.prediction, str(transaction.prediction))
            return format_html('{} <a href="{}" class="explain">What raised or lowered it</a>', prediction, address)
        return link(transaction.pending, waiting(transaction.pending)) if hasattr(transaction, "pending") else ""

    @admin.display(description="Fields")
    def values(self, transaction: Transaction) -> SafeString:
        return field_table(transaction, personal=shows_personal(transaction))


@admin.register(Prediction)
class PredictionAdmin(AnswerColumns, TransactionSearch, PersonalAdmin, ReadOnlyAdmin):
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
        "decided_by",
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

    @admin.display(description="Threshold")
    def threshold_shown(self, prediction: Prediction) -> str:
        return threshold(prediction.threshold)

    @admin.display(description="Model version", ordering="model_version")
    def version(self, prediction: Prediction) -> str:
        return prediction.model_version_id

    @admin.display(description="Decided")
    def decided_by(self, prediction: Prediction) -> SafeString:
        return decided_by(prediction, personal=shows_personal(prediction))

    @admin.display(description="Reasons")
    def reasons_shown(self, prediction: Prediction) -> SafeString | str:
        return reason_table(prediction, personal=shows_personal(prediction)) or "-"

    @admin.display(description="Fields")
    def values(self, prediction: Prediction) -> SafeString:
        return field_table(prediction.transaction, personal=shows_personal(prediction))


@admin.register(Fallback)
class FallbackAdmin(AnswerColumns, TransactionSearch, PersonalAdmin, ReadOnlyAdmin):
    list_display = ["created", "badge", "reason", "amount", "client", "score"]
    list_filter = ["decision", "reason", "transaction__client", "created_at"]
    list_select_related = ["transaction__client", "transaction__prediction", "transaction__pending"]
    date_hierarchy = "created_at"
    ordering = ["-created_at"]
    fields = ["transaction_link", "client", "amount", "badge", "by_lists", "reason", "latency", "created", "score"]

    @admin.display(description="Lists that decided")
    def by_lists(self, fallback: Fallback) -> str:
        return ", ".join(fallback.lists) or "-"

    @admin.display(description="Score since")
    def score(self, fallback: Fallback) -> SafeString | str:
        if hasattr(fallback.transaction, "prediction"):
            return score_meter(fallback.transaction.prediction)
        return waiting(fallback.transaction.pending) if hasattr(fallback.transaction, "pending") else ""


@admin.register(Pending)
class PendingAdmin(TransactionColumns, TransactionSearch, PersonalAdmin, ReadOnlyAdmin):
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

    @admin.display(description="Due", ordering="due_at")
    def due(self, pending: Pending) -> str:
        return at(pending.due_at)

    @admin.display(description="State")
    def standing(self, pending: Pending) -> str:
        return waiting(pending)
