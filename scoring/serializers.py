"""The shapes of the API: what a prediction looks like to a client, and the documents that describe it."""

from typing import Any

from rest_framework import serializers

from scoring.models import Decision, Prediction
from scoring.submissions import TRANSACTION_ID_LIMIT
from training.schema import Schema


def answer(prediction: Prediction) -> dict[str, Any]:
    """The answer to a predict call. Made of stored columns only, so that a repeat reads the same to the byte."""
    return {
        "id": str(prediction.pk),
        "transaction_id": prediction.transaction.transaction_id,
        "fraud_score": prediction.fraud_score,
        "is_fraud": prediction.is_alert,
        "alert": prediction.is_alert,
        "decision": str(prediction.decision),
        "reasons": prediction.reasons,
        "threshold": prediction.threshold,
        "model_version": prediction.model_version_id,
        "latency_ms": prediction.latency_ms,
        "created_at": prediction.created_at.isoformat(),
    }


class ReasonSerializer(serializers.Serializer):
    feature = serializers.CharField()
    contribution = serializers.FloatField(help_text="Logits added to the score of an average transaction.")


class PredictionSerializer(serializers.Serializer):
    """Describes `answer` in the OpenAPI document."""

    id = serializers.UUIDField(help_text="Fraudsite's id of the transaction and its prediction.")
    transaction_id = serializers.CharField(allow_null=True, help_text="The client's own id, when it sent one.")
    fraud_score = serializers.FloatField(min_value=0, max_value=1, help_text="Higher is riskier.")
    is_fraud = serializers.BooleanField(help_text="The score reached the threshold.")
    alert = serializers.BooleanField(help_text="The transaction was put before an analyst.")
    decision = serializers.ChoiceField(choices=Decision.choices)
    reasons = ReasonSerializer(many=True, help_text="Alerts only: what raised the score most.")
    threshold = serializers.FloatField(help_text="The review threshold that held.")
    model_version = serializers.CharField()
    latency_ms = serializers.FloatField(help_text="From arrival of the request to just before the commit.")
    created_at = serializers.DateTimeField()


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


def request_document(schema: Schema) -> dict[str, Any]:
    """The JSON Schema of a predict body."""
    numbers = {
        field.name: {
            "type": "number",
            "minimum": field.minimum,
            "maximum": field.maximum,
            "description": f"{field.description} Unit: {field.unit}.",
        }
        for field in schema.features
    }
    return {
        "type": "object",
        "title": f"Transaction of schema {schema.name}",
        "required": list(schema.feature_names),
        "additionalProperties": False,
        "properties": numbers
        | {
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
        },
    }
