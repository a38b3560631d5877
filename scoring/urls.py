from django.urls import path, register_converter
from django.urls.converters import UUIDConverter
from drf_spectacular.utils import extend_schema, extend_schema_view
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from scoring.api.views import BatchView, PredictionView, PredictView

# The interface is no secret, and whoever writes a client reads it before having a key.
PUBLIC: dict[str, list[type]] = {"authentication_classes": [], "permission_classes": []}

DOCS = {"url_name": "schema", "template_name": "scoring/docs.html", "title": "Fraudsite API"}


@extend_schema_view(post=extend_schema(operation_id="predict_short"))
class ShortPredictView(PredictView):
    """The same endpoint under the seed system's address; OpenAPI wants no name twice."""


class AnyUuid(UUIDConverter):
    """A UUID as people and programs write it: in capitals, too, and without its dashes."""

    regex = "[0-9a-fA-F-]{32,36}"


register_converter(AnyUuid, "any_uuid")

_addresses = [
    path("predict", ShortPredictView.as_view(), name="predict-short"),
    path("api/v1/predict", PredictView.as_view(), name="predict"),
    path("api/v1/predict/batch", BatchView.as_view(), name="predict-batch"),
    path("api/v1/predictions/<any_uuid:prediction_id>", PredictionView.as_view(), name="prediction"),
    path("api/v1/schema", SpectacularAPIView.as_view(**PUBLIC), name="schema"),
    path("api/v1/docs", SpectacularSwaggerSplitView.as_view(**DOCS, **PUBLIC), name="docs"),
]
# Each is answered with a slash at its end, too: a redirect would lose the body.
urlpatterns = [*_addresses, *(path(f"{address.pattern}/", address.callback) for address in _addresses)]

# fraudsite/wsgi.py serves calls by these addresses alone.
handler400 = "scoring.api.problems.not_understood"
handler403 = "scoring.api.problems.not_allowed"
handler404 = "scoring.api.problems.not_found"
handler500 = "scoring.api.problems.failed"
