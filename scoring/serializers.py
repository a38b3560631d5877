"""The shapes of the API: what a prediction looks like to a client, and the documents that describe it."""

from collections.abc import Sequence
from typing import Any, Self

import msgspec
from django.conf import settings
from rest_framework import serializers

from scoring.models import Decision, Fallback, Prediction
from scoring.submissions import ENTITY_LIMIT, TRANSACTION_ID_LIMIT
from training.schema import Schema


class Answer(msgspec.Struct):
    """The answer to a predict call. Made of stored values only, so that a repeat reads the same to the byte.

    A degraded answer was given without a model: it says why, and has no score, threshold or version.
    """

    id: str
    transaction_id: str | None
    fraud_score: float | None
    is_fraud: bool | None
    alert: bool
    decision: str
    reasons: list[dict[str, Any]]
    threshold: float | None
    model_version: str | None
    latency_ms: float
    created_at: str
    degraded: str | None = None

    @classmethod
    def of(cls, prediction: Prediction) -> Self:
        return cls(
            id=str(prediction.pk),
            transaction_id=prediction.transaction.transaction_id,
            fraud_score=prediction.fraud_score,
            is_fraud=prediction.is_alert,
            alert=prediction.is_alert,
            decision=prediction.decision,
            reasons=prediction.reasons,
            threshold=prediction.threshold,
            model_version=prediction.model_version_id,
            latency_ms=prediction.latency_ms,
            created_at=prediction.created_at.isoformat(),
        )

    @classmethod
    def of_fallback(cls, fallback: Fallback) -> Self:
        return cls(
            id=str(fallback.pk),
            transaction_id=fallback.transaction.transaction_id,
            fraud_score=None,
            is_fraud=None,
            alert=fallback.is_alert,
            decision=fallback.decision,
            reasons=[],
            threshold=None,
            model_version=None,
            latency_ms=fallback.latency_ms,
            created_at=fallback.created_at.isoformat(),
            degraded=fallback.reason,
        )

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)


class ReasonSerializer(serializers.Serializer):
    feature = serializers.CharField()
    contribution = serializers.FloatField(help_text="Logits that the feature adds, above an ordinary transaction.")


class PredictionSerializer(serializers.Serializer):
    """Describes `Answer` in the OpenAPI document."""

    id = serializers.UUIDField(help_text="Fraudsite's id of the transaction and its prediction.")
    transaction_id = serializers.CharField(allow_null=True, help_text="The client's own id, when it sent one.")
    fraud_score = serializers.FloatField(
        min_value=0, max_value=1, allow_null=True, help_text="Higher is riskier; null when degraded."
    )
    is_fraud = serializers.BooleanField(allow_null=True, help_text="The score reached the threshold.")
    alert = serializers.BooleanField(help_text="The transaction is put before an analyst.")
    decision = serializers.ChoiceField(choices=Decision.choices)
    reasons = ReasonSerializer(many=True, help_text="Alerts only: what raised the score most.")
    threshold = serializers.FloatField(allow_null=True, help_text="The review threshold that held.")
    model_version = serializers.CharField(allow_null=True)
    latency_ms = serializers.FloatField(help_text="From arrival of the request to just before the commit.")
    created_at = serializers.DateTimeField()
    degraded = serializers.ChoiceField(
        choices=Fallback.Reason.choices,
        allow_null=True,
        help_text="Why this decision was made by rules, without a score; null of an ordinary answer.",
    )


class PendingSerializer(serializers.Serializer):
    """A transaction that is stored and waits for its score."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=["pending"])
    location = serializers.CharField(help_text="Where the prediction will be.")
    detail = serializers.CharField(required=False, help_text="What it waits for, once an attempt has failed.")


class FieldErrorSerializer(serializers.Serializer):
    pointer = serializers.CharField(help_text="JSON pointer to the field (RFC 6901).")
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemSerializer(serializers.Serializer):
    """An error (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField()
    request_id = serializers.CharField()
    errors = FieldErrorSerializer(many=True)  # type: ignore[assignment]  # the base class has a property of that name


class ResultSerializer(serializers.Serializer):
    """What became of one transaction of a batch."""

    status = serializers.IntegerField(help_text="The status that a call of its own would have had.")
    prediction = PredictionSerializer(required=False)
    problem = ProblemSerializer(required=False)
    id = serializers.UUIDField(required=False, help_text="Of a transaction that waits for its score (202).")


class BatchAnswerSerializer(serializers.Serializer):
    results = ResultSerializer(many=True, help_text="One per transaction, in order.")


def batch_document(schemas: Sequence[Schema], limit: int) -> dict[str, Any]:
    """The JSON Schema of a predict/batch body."""
    rows = {"type": "array", "minItems": 1, "maxItems": limit, "items": request_document(schemas)}
    return {
        "type": "object",
        "required": ["transactions"],
        "additionalProperties": False,
        "properties": {"transactions": rows},
    }


def request_document(schemas: Sequence[Schema]) -> dict[str, Any]:
    """The JSON Schema of a predict body."""
    return {"oneOf": [transaction_document(schema) for schema in schemas]}


def transaction_document(schema: Schema) -> dict[str, Any]:
    """The JSON Schema of a transaction of one schema."""
    numbers = {
        field.name: {
            "type": "number",
            "minimum": field.minimum,
            "maximum": field.maximum,
            "description": f"{field.description} Unit: {field.unit}.",
        }
        for field in schema.features
    }
    entities = {
        entity.name: {
            "type": "string",
            "minLength": 1,
            "maxLength": ENTITY_LIMIT,
            "description": f"{entity.description} Only a keyed hash of it is kept.",
        }
        for entity in schema.entities
    }
    is_default = schema.name == settings.DEFAULT_SCHEMA
    return {
        "type": "object",
        "title": f"Transaction of schema {schema.name}",
        "required": [*([] if is_default else ["schema"]), *schema.feature_names, *schema.entity_names],
        "additionalProperties": False,
        "properties": numbers
        | entities
        | {
            "schema": {
                "type": "string",
                "enum": [schema.name],
                "description": f"{schema.title}." + (" May be left out." if is_default else ""),
            },
            "transaction_id": {
                "type": "string",
                "nullable": True,
                "minLength": 1,
                "maxLength": TRANSACTION_ID_LIMIT,
                "description": "Your id. The same id with the same body gets the same answer again; never doubled.",
            },
            "event_time": {
                "type": "string",
                "format": "date-time",
                "description": "When it happened; the time of arrival if left out.",
            },
            "deadline_ms": {
                "type": "integer",
                "minimum": 1,
                "description": "How long you wait, when that is less than the server's own deadline.",
            },
        },
    }


def example(schema: Schema) -> dict[str, Any]:
    """A body to try."""
    named = {} if schema.name == settings.DEFAULT_SCHEMA else {"schema": schema.name}
    entities = {name: f"{name}-7f3a" for name in schema.entity_names}
    return named | dict.fromkeys(schema.feature_names, 0.0) | entities | {"transaction_id": f"{schema.name}-1001"}
