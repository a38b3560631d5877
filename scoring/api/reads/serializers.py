"""Describes the rows of the listings in the OpenAPI document. With `fields`, a row has those alone."""

from rest_framework import serializers

from scoring.api.reads.transactions import STATES
from scoring.api.serializers import ConversionSerializer, PredictionSerializer
from scoring.decisions import Decision
from scoring.models import Review
from scoring.reviews.incoming import SENT_SOURCES
from scoring.reviews.models import LabelKind

NEXT = "The address of the next page; null after the last row."


class TransactionSerializer(serializers.Serializer):
    id = serializers.UUIDField(required=False, help_text="Fraudsite's id of the transaction and its prediction.")
    transaction_id = serializers.CharField(required=False, allow_null=True, help_text="Your own id, if you sent one.")
    schema = serializers.CharField(required=False, help_text="The dataset schema that it follows.")
    state = serializers.ChoiceField(
        required=False,
        choices=list(STATES),
        help_text="`scored`; `fallback`, decided without a score that follows; `waiting` for its first answer; or "
        "`unscored`: past traffic, imported for the histories.",
    )
    decision = serializers.ChoiceField(
        required=False, allow_null=True, choices=Decision.choices, help_text="As answered; null while there is none."
    )
    amount = serializers.FloatField(required=False, help_text="In the schema's currency.")
    conversion = ConversionSerializer(required=False, allow_null=True)
    values = serializers.DictField(
        required=False, help_text="By name, without those of which only a hash is kept, as of entities."
    )
    event_time = serializers.DateTimeField(required=False)
    received_at = serializers.DateTimeField(required=False)
    request_id = serializers.CharField(
        required=False, allow_null=True, help_text="Of the request that it came with; null if that is the same as `id`."
    )
    trace_id = serializers.CharField(
        required=False, allow_null=True, help_text="Of the trace, if the request had a `traceparent`."
    )


class TransactionPageSerializer(serializers.Serializer):
    results = TransactionSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text=NEXT)


class ListedPredictionSerializer(PredictionSerializer):
    """The answer that was given; `rescored` is the prediction that followed a fallback."""

    rescored = PredictionSerializer(required=False)

    def get_fields(self) -> dict[str, serializers.Field]:
        fields = super().get_fields()
        for field in fields.values():
            field.required = False
        return fields


class PredictionPageSerializer(serializers.Serializer):
    results = ListedPredictionSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text=NEXT)


class ReviewSerializer(serializers.Serializer):
    id = serializers.UUIDField(required=False, help_text="The id of the prediction.")
    transaction_id = serializers.CharField(required=False, allow_null=True, help_text="Your own id, if you sent one.")
    schema = serializers.CharField(required=False)
    state = serializers.ChoiceField(
        required=False,
        choices=Review.State.values,
        help_text="`open`, or what was decided. A decision may be corrected later.",
    )
    decision = serializers.ChoiceField(
        required=False, choices=Decision.choices, help_text="What the predict call was answered."
    )
    reason_code = serializers.CharField(
        required=False, allow_null=True, help_text="The analyst's reason, if one was chosen from the list."
    )
    decided_by = serializers.ChoiceField(
        required=False,
        allow_null=True,
        choices=["analyst", "due_time"],
        help_text="`due_time`: nobody decided in time, and the queue's rule for late reviews did.",
    )
    opened_at = serializers.DateTimeField(required=False)
    decided_at = serializers.DateTimeField(required=False, allow_null=True)


class ReviewPageSerializer(serializers.Serializer):
    results = ReviewSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text=NEXT)


class StoredLabelSerializer(serializers.Serializer):
    id = serializers.UUIDField(required=False, help_text="The id of the transaction.")
    transaction_id = serializers.CharField(required=False, allow_null=True, help_text="Your own id of the transaction.")
    kind = serializers.ChoiceField(required=False, choices=LabelKind.values)
    source = serializers.ChoiceField(required=False, choices=SENT_SOURCES)  # type: ignore[assignment]
    event_time = serializers.DateTimeField(required=False, help_text="When it was said.")
    amount = serializers.FloatField(required=False, allow_null=True, help_text="In dispute.")
    reference = serializers.CharField(required=False, allow_null=True, help_text="Your id of the label.")
    received_at = serializers.DateTimeField(required=False, help_text="When it became known here.")


class LabelPageSerializer(serializers.Serializer):
    results = StoredLabelSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text=NEXT)
