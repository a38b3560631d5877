from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from scoring import selectors
from scoring.decoding import read_object
from scoring.exceptions import TransactionConflict
from scoring.gateway import gateway
from scoring.models import Prediction
from scoring.serializers import PredictionSerializer, ProblemSerializer, answer, request_document
from scoring.submissions import validate
from training.schema import load_schema

PROBLEMS = {(status, "application/problem+json"): ProblemSerializer for status in (400, 401, 406, 409, 413, 415, 422)}
UNAVAILABLE = {(status, "application/problem+json"): ProblemSerializer for status in (429, 503)}


class PredictView(APIView):
    @extend_schema(
        operation_id="predict",
        summary="Score a transaction",
        description="Stores the transaction, scores it and answers. An answer of 200 means that both are stored. "
        "`Idempotent-Replayed: true` marks the stored answer to a repeated transaction id.",
        request={"application/json": request_document(load_schema(settings.DEFAULT_SCHEMA))},
        responses={200: PredictionSerializer} | PROBLEMS | UNAVAILABLE,
        examples=[
            OpenApiExample(
                "A transaction",
                request_only=True,
                value=dict.fromkeys(load_schema(settings.DEFAULT_SCHEMA).feature_names, 0.0)
                | {"transaction_id": "order-1001"},
            )
        ],
    )
    def post(self, request: Request) -> Response:
        received_at = timezone.now()
        submission = validate(
            read_object(request._request, limit_bytes=settings.PREDICT_BODY_LIMIT_BYTES),
            schema=load_schema(settings.DEFAULT_SCHEMA),
            client_id=request.user.pk,  # type: ignore[arg-type]  # a Client, and saved
            received_at=received_at,
            clock_skew_s=settings.PREDICT_CLOCK_SKEW_S,
        )
        outcome: dict[str, Any] = gateway().ask(submission, timeout_ms=settings.PREDICT_DEADLINE_MS)
        if outcome.get("conflict"):
            raise TransactionConflict
        headers = {"Idempotent-Replayed": "true"} if outcome["replayed"] else None
        return Response(outcome["answer"], headers=headers)


class PredictionView(APIView):
    @extend_schema(
        operation_id="prediction",
        summary="Read a stored prediction",
        responses={200: PredictionSerializer, (404, "application/problem+json"): ProblemSerializer},
    )
    def get(self, request: Request, prediction_id: UUID) -> Response:
        try:
            prediction = selectors.predictions_of(request.user).get(pk=prediction_id)  # type: ignore[arg-type]
        except Prediction.DoesNotExist:
            raise Http404 from None
        return Response(answer(prediction))
