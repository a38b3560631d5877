"""Reading what is stored about a transaction: its prediction, and why it has its score."""

from uuid import UUID

import msgspec
from django.conf import settings
from django.http import Http404, HttpResponse
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from scoring import explanations
from scoring.api.caching import revalidated
from scoring.api.declaring import NOT_CHANGED, problems
from scoring.api.permissions import key_of, refuse_other_schemas
from scoring.api.serializers import ExplanationSerializer, PendingSerializer, PredictionSerializer
from scoring.clients.models import Scope
from scoring.exceptions import Unscorable
from scoring.messages.answers import ANSWER_PARTS, json_answer_of
from scoring.models import Transaction
from scoring.sandbox import answering


class PredictionView(APIView):
    scope = Scope.READ
    takes_test_keys = True

    @extend_schema(
        operation_id="prediction",
        parameters=[OpenApiParameter("prediction_id", UUID, OpenApiParameter.PATH)],
        summary="Read a stored prediction",
        description="The answer that was given. In a degraded answer, `rescored` is the prediction that followed.",
        responses={200: PredictionSerializer, 202: PendingSerializer}
        | NOT_CHANGED
        | problems("not-found", "schema-not-allowed", "unscorable-transaction"),
    )
    def get(self, request: Request, prediction_id: UUID) -> HttpResponse:
        if key_of(request).is_test:
            if (kept := answering.find(key_of(request).client_id, prediction_id)) is None:
                raise Http404
            return HttpResponse(kept, content_type="application/json")
        row = _own_transaction(request, prediction_id)
        if answer := json_answer_of(row):
            return revalidated(request, HttpResponse(answer, content_type="application/json"))
        return _waiting(row)


class ExplanationView(APIView):
    scope = Scope.READ

    @extend_schema(
        operation_id="explanation",
        parameters=[OpenApiParameter("prediction_id", UUID, OpenApiParameter.PATH)],
        summary="Explain a score",
        description="What each input of the model added to the score, of an alert or of any other transaction. Base, "
        "contributions and residual add up to the logit of the score. That of an alert is stored; others are computed "
        "by a worker with the model version that scored the transaction.",
        responses={200: ExplanationSerializer, 202: PendingSerializer}
        | NOT_CHANGED
        | problems(
            "not-found",
            "schema-not-allowed",
            "unscorable-transaction",
            "score-not-explained",
            "scorer-unavailable",
        ),
    )
    def get(self, request: Request, prediction_id: UUID) -> HttpResponse:
        row = _own_transaction(request, prediction_id)
        if not hasattr(row, "prediction"):
            return _waiting(row)
        prediction = row.prediction
        explanation = explanations.explanation_of(prediction)
        body = {
            "id": str(row.pk),
            "model_version": prediction.model_version_id,
            "fraud_score": prediction.fraud_score,
            "base": explanation.base,
            "contributions": explanations.told(prediction, explanation),
            "residual": explanation.residual,
        }
        return revalidated(request, HttpResponse(msgspec.json.encode(body), content_type="application/json"))


def _own_transaction(request: Request, key: UUID) -> Transaction:
    """The client's own transaction; others' are answered with 404."""
    try:
        row = Transaction.objects.filter(client=request.user.pk).select_related(*ANSWER_PARTS).get(pk=key)
    except Transaction.DoesNotExist:
        raise Http404 from None
    refuse_other_schemas(key_of(request), row.schema)
    return row


def _waiting(row: Transaction) -> HttpResponse:
    """The answer while a transaction has no score. Past traffic that was imported never has one."""
    if not hasattr(row, "pending"):
        raise Http404
    if row.pending.attempts >= settings.PENDING_ATTEMPTS_LIMIT:
        raise Unscorable(row.pending.fault or None)
    return pending_answer(str(row.pk), detail=row.pending.fault)


def pending_answer(key: str, *, respond_async: bool = False, detail: str = "") -> HttpResponse:
    """The answer about a transaction that is stored and has no score yet."""
    address = reverse("prediction", args=[key])
    headers = {"Location": address, "Retry-After": str(settings.RETRY_AFTER_S)}
    if respond_async:
        headers["Preference-Applied"] = "respond-async"
    body = {"id": key, "status": "pending", "location": address} | ({"detail": detail} if detail else {})
    return HttpResponse(msgspec.json.encode(body), status=202, content_type="application/json", headers=headers)
