from datetime import date
from typing import Any

from django.http import HttpRequest
from django.urls import path, register_converter
from django.urls.converters import UUIDConverter
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.permissions import SAFE_METHODS

from scoring.api import deprecation
from scoring.api.files import FileCancelView, FileRefusedView, FileResultView, FilesView, FileView
from scoring.api.hooks.views import (
    WebhookDeliveriesView,
    WebhookReplayView,
    WebhookSecretsView,
    WebhooksView,
    WebhookTestView,
    WebhookView,
)
from scoring.api.labels import LabelBatchView, LabelView
from scoring.api.problem_pages import problem_page, problems_page
from scoring.api.reads.views import (
    LabelsView,
    PredictionsView,
    ReviewsView,
    ReviewView,
    TransactionsView,
    TransactionView,
)
from scoring.api.stored import ExplanationView, PredictionView
from scoring.api.views import BatchView, PredictView
from scoring.clients.models import Scope

# The API's document needs no key: developers read it before they have one.
PUBLIC: dict[str, list[type]] = {"authentication_classes": [], "permission_classes": [], "throttle_classes": []}

DOCS = {"url_name": "schema", "template_name": "scoring/docs.html", "title": "Fraudsite API"}


@deprecation.described(post="predict_short")
class ShortPredictView(deprecation.Deprecated, PredictView):
    """The same endpoint at the seed system's address. OpenAPI needs an operation id of its own for it."""

    deprecation = deprecation.Deprecation(date(2026, 11, 29), "/api/v1/predict", "/api/v1/docs")


class LabelsOfClientView(LabelsView, LabelView):
    """What a client sent, and the way to send more, at one address."""

    scope = Scope.LABELS
    reading_scope = Scope.READ

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.scope = self.reading_scope if request.method in SAFE_METHODS else self.scope


class AnyUuid(UUIDConverter):
    """A UUID in any spelling: also in capitals, or without dashes."""

    regex = "[0-9a-fA-F-]{32,36}"


register_converter(AnyUuid, "any_uuid")

_addresses = [
    path("predict", ShortPredictView.as_view(), name="predict-short"),
    path("api/v1/predict", PredictView.as_view(), name="predict"),
    path("api/v1/predict/batch", BatchView.as_view(), name="predict-batch"),
    path("api/v1/transactions", TransactionsView.as_view(), name="transactions"),
    path("api/v1/transactions/<any_uuid:key>", TransactionView.as_view(), name="transaction"),
    path("api/v1/predictions", PredictionsView.as_view(), name="predictions"),
    path("api/v1/predictions/<any_uuid:prediction_id>", PredictionView.as_view(), name="prediction"),
    path("api/v1/predictions/<any_uuid:prediction_id>/explanation", ExplanationView.as_view(), name="explanation"),
    path("api/v1/reviews", ReviewsView.as_view(), name="reviews"),
    path("api/v1/reviews/<any_uuid:key>", ReviewView.as_view(), name="review"),
    path("api/v1/labels", LabelsOfClientView.as_view(), name="labels"),
    path("api/v1/labels/batch", LabelBatchView.as_view(), name="labels-batch"),
    path("api/v1/webhooks", WebhooksView.as_view(), name="webhooks"),
    path("api/v1/webhooks/<any_uuid:key>", WebhookView.as_view(), name="webhook"),
    path("api/v1/webhooks/<any_uuid:key>/secrets", WebhookSecretsView.as_view(), name="webhook-secrets"),
    path("api/v1/webhooks/<any_uuid:key>/test", WebhookTestView.as_view(), name="webhook-test"),
    path("api/v1/webhooks/<any_uuid:key>/deliveries", WebhookDeliveriesView.as_view(), name="webhook-deliveries"),
    path("api/v1/webhooks/<any_uuid:key>/replay", WebhookReplayView.as_view(), name="webhook-replay"),
    path("api/v1/batches", FilesView.as_view(), name="files"),
    path("api/v1/batches/<any_uuid:file_id>", FileView.as_view(), name="file"),
    path("api/v1/batches/<any_uuid:file_id>/cancel", FileCancelView.as_view(), name="file-cancel"),
    path("api/v1/batches/<any_uuid:file_id>/result", FileResultView.as_view(), name="file-result"),
    path("api/v1/batches/<any_uuid:file_id>/refused", FileRefusedView.as_view(), name="file-refused"),
    path("api/v1/schema", SpectacularAPIView.as_view(**PUBLIC), name="schema"),
    path("api/v1/docs", SpectacularSwaggerSplitView.as_view(**DOCS, **PUBLIC), name="docs"),
]
# Each address works with a trailing slash, too: a redirect would lose the body.
urlpatterns = [
    *_addresses,
    *(path(f"{address.pattern}/", address.callback) for address in _addresses),
    path("problems/", problems_page, name="problems"),
    path("problems/<slug:name>", problem_page, name="problem"),
]

# fraudsite/wsgi.py uses this URL configuration alone for API calls.
handler400 = "scoring.api.problems.not_understood"
handler403 = "scoring.api.problems.not_allowed"
handler404 = "scoring.api.problems.not_found"
handler500 = "scoring.api.problems.failed"
