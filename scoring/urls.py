from django.urls import path, register_converter
from django.urls.converters import UUIDConverter
from drf_spectacular.utils import extend_schema, extend_schema_view
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from scoring.api.labels import LabelBatchView, LabelView
from scoring.api.stored import ExplanationView, PredictionView
from scoring.api.views import BatchView, PredictView

# The API's document needs no key: developers read it before they have one.
PUBLIC: dict[str, list[type]] = {"authentication_classes": [], "permission_classes": []}

DOCS = {"url_name": "schema", "template_name": "scoring/docs.html", "title": "Fraudsite API"}


@extend_schema_view(post=extend_schema(operation_id="predict_short"))
class ShortPredictView(PredictView):
    """The same endpoint at the seed system's address. OpenAPI needs an operation id of its own for it."""


class AnyUuid(UUIDConverter):
    """A UUID in any spelling: also in capitals, or without dashes."""

    regex = "[0-9a-fA-F-]{32,36}"


register_converter(AnyUuid, "any_uuid")

_addresses = [
    path("predict", ShortPredictView.as_view(), name="predict-short"),
    path("api/v1/predict", PredictView.as_view(), name="predict"),
    path("api/v1/predict/batch", BatchView.as_view(), name="predict-batch"),
    path("api/v1/predictions/<any_uuid:prediction_id>", PredictionView.as_view(), name="prediction"),
    path("api/v1/predictions/<any_uuid:prediction_id>/explanation", ExplanationView.as_view(), name="explanation"),
    path("api/v1/labels", LabelView.as_view(), name="labels"),
    path("api/v1/labels/batch", LabelBatchView.as_view(), name="labels-batch"),
    path("api/v1/schema", SpectacularAPIView.as_view(**PUBLIC), name="schema"),
    path("api/v1/docs", SpectacularSwaggerSplitView.as_view(**DOCS, **PUBLIC), name="docs"),
]
# Each address works with a trailing slash, too: a redirect would lose the body.
urlpatterns = [*_addresses, *(path(f"{address.pattern}/", address.callback) for address in _addresses)]

# fraudsite/wsgi.py uses this URL configuration alone for API calls.
handler400 = "scoring.api.problems.not_understood"
handler403 = "scoring.api.problems.not_allowed"
handler404 = "scoring.api.problems.not_found"
handler500 = "scoring.api.problems.failed"
