"""Labels from clients: what became of a transaction, one by one or many at once."""

from typing import Any

import msgspec
from django.conf import settings
from django.db import Error
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from scoring.api import declaring, problems, refusals
from scoring.api.decoding import read_object
from scoring.api.limiting import count_rows
from scoring.api.permissions import key_of
from scoring.api.serializers import (
    LabelBatchAnswerSerializer,
    LabelBatchSerializer,
    LabelReceiptSerializer,
    LabelSerializer,
)
from scoring.api.validation import refuse_card_data
from scoring.clients.models import Scope
from scoring.exceptions import DatabaseUnavailable, FieldError, HistoriesUnavailable, InvalidFields, RequestRefused
from scoring.reviews import incoming, receiving
from scoring.reviews.incoming import Incoming
from scoring.reviews.receiving import Receipt
from training.core.exceptions import StaleHistory

UNAVAILABLE = "histories-unavailable"


class LabelView(APIView):
    scope = Scope.LABELS
    parser_classes = ()

    @extend_schema(
        operation_id="label",
        summary="Label a transaction",
        description="Stores what somebody says of a transaction: that it was fraud, is disputed, and so on. 201: it is "
        "stored. 202: the transaction has not arrived, and the label waits for it. 200 with `Idempotent-Replayed: true`"
        ": it was known. A reversal is one more label.",
        request={"application/json": LabelSerializer},
        responses={200: LabelReceiptSerializer, 201: LabelReceiptSerializer, 202: LabelReceiptSerializer}
        | declaring.problems(*declaring.OF_BODIES, "schema-not-allowed", "label-reference-already-used", UNAVAILABLE),
    )
    def post(self, request: Request) -> HttpResponse:
        refuse_card_data({}, {"X-Request-ID": request.META.get("HTTP_X_REQUEST_ID")})
        body = read_object(request._request, limit_bytes=settings.PREDICT_BODY_LIMIT_BYTES)
        [answer] = _receive(request, [incoming.read(body, timezone.now())])
        if isinstance(answer, RequestRefused):
            raise answer
        headers = {"Idempotent-Replayed": "true"} if answer.repeated else {}
        content = msgspec.json.encode(_told(answer))
        return HttpResponse(content, status=_status(answer), content_type="application/json", headers=headers)


class LabelBatchView(APIView):
    scope = Scope.LABELS
    parser_classes = ()

    @extend_schema(
        operation_id="label_batch",
        summary="Label many transactions",
        description=f"Stores up to {settings.LABEL_BATCH_LIMIT:,} labels, in order, and answers for each. A label that "
        "is refused does not keep the others from being stored: its result has the problem document.",
        request={"application/json": LabelBatchSerializer},
        responses={200: LabelBatchAnswerSerializer} | declaring.problems(*declaring.OF_BODIES, UNAVAILABLE),
    )
    def post(self, request: Request) -> HttpResponse:
        received_at = timezone.now()
        refuse_card_data({}, {"X-Request-ID": request.META.get("HTTP_X_REQUEST_ID")})
        body = read_object(request._request, limit_bytes=settings.BATCH_BODY_LIMIT_BYTES, has_rows=True)
        rows = body.get("labels")
        if not isinstance(rows, list) or len(body) > 1 or not 1 <= len(rows) <= settings.LABEL_BATCH_LIMIT:
            wanted = f"Send one field, a list of 1 to {settings.LABEL_BATCH_LIMIT:,} labels."
            raise InvalidFields(errors=[FieldError("/labels", "invalid_list", wanted)])
        count_rows(self, request, len(rows))
        results: dict[int, Any] = {}
        fine: dict[int, Incoming] = {}
        for place, row in enumerate(rows):
            try:
                fine[place] = incoming.read(row, received_at)
            except RequestRefused as refusal:
                results[place] = refusal
        results |= zip(fine, _receive(request, list(fine.values())), strict=True)
        told = [_result(results[place], request) for place in range(len(rows))]
        return HttpResponse(msgspec.json.encode({"results": told}), content_type="application/json")


def _receive(request: Request, labels: list[Incoming]) -> list[Receipt | RequestRefused]:
    try:
        key = key_of(request)
        return receiving.receive(key.client_id, labels, schemas=key.schemas)
    except StaleHistory as error:
        raise HistoriesUnavailable from error
    except Error as error:
        raise DatabaseUnavailable from error


def _status(receipt: Receipt) -> int:
    return 200 if receipt.repeated else 202 if receipt.until else 201


def _told(receipt: Receipt) -> dict[str, Any]:
    return {"status": "waiting" if receipt.until else "stored", "id": receipt.transaction, "until": receipt.until}


def _result(answer: Receipt | RequestRefused, request: Request) -> dict[str, Any]:
    if isinstance(answer, Receipt):
        return {"status": _status(answer), "label": _told(answer)}
    refusals.count(answer.status, answer.title, client=key_of(request).client_id)
    return {"status": answer.status, "problem": problems.document_of(request._request, answer)}
