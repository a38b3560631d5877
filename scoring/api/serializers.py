"""Describes the answers in the OpenAPI document. These serializers parse and write nothing."""

from rest_framework import serializers

from scoring.models import Decision, Fallback
from scoring.policies.evidence import Basis, Degraded
from scoring.reviews.incoming import SENT_SOURCES
from scoring.reviews.models import LabelKind


class ReasonSerializer(serializers.Serializer):
    feature = serializers.CharField()
    contribution = serializers.FloatField(help_text="Logits that the feature adds, above an ordinary transaction.")
    text = serializers.CharField(required=False, help_text="The value, and what is usual, in words.")


class ConversionSerializer(serializers.Serializer):
    sent = serializers.FloatField(help_text="The amount that was sent.")
    currency = serializers.CharField(help_text="Its currency.")
    amount = serializers.FloatField(help_text="The amount that was scored.")
    base = serializers.CharField(help_text="The schema's currency, in which it is.")
    rate = serializers.CharField(help_text="How many units of the currency one unit of the base buys.")
    rate_from = serializers.DateTimeField(help_text="Since when this rate holds.")
    rate_stale = serializers.BooleanField(help_text="The rate was older than the operator allows.")


class PredictionSerializer(serializers.Serializer):
    """Describes `Answer` in the OpenAPI document."""

    id = serializers.UUIDField(help_text="Fraudsite's id of the transaction and its prediction.")
    transaction_id = serializers.CharField(allow_null=True, help_text="The client's own id, when it sent one.")
    fraud_score = serializers.FloatField(
        min_value=0, max_value=1, allow_null=True, help_text="Higher is riskier; null when degraded."
    )
    is_fraud = serializers.BooleanField(allow_null=True, help_text="The decision is review or block.")
    alert = serializers.BooleanField(help_text="The transaction is put before an analyst.")
    decision = serializers.ChoiceField(choices=Decision.choices)
    reasons = ReasonSerializer(many=True, help_text="Alerts only: what raised the score most.")
    threshold = serializers.FloatField(allow_null=True, help_text="The review threshold that held.")
    model_version = serializers.CharField(allow_null=True)
    policy_version = serializers.IntegerField(
        allow_null=True, help_text="The number of the policy that decided; null if the model's thresholds alone did."
    )
    basis = serializers.ChoiceField(choices=[str(basis) for basis in Basis], help_text="What the decision was made by.")
    rules = serializers.ListField(child=serializers.CharField(), help_text="The active rules that matched.")
    lists = serializers.ListField(child=serializers.CharField(), help_text="The lists that decided.")
    latency_ms = serializers.FloatField(help_text="From arrival of the request to just before the commit.")
    created_at = serializers.DateTimeField()
    degraded = serializers.ChoiceField(
        choices=[*Fallback.Reason.values, *Degraded],
        allow_null=True,
        help_text="What was left out of the decision: the score, if there is none, or a rule, a list or the policy, if"
        " there is one. Null in an ordinary answer.",
    )
    conversion = ConversionSerializer(
        allow_null=True, help_text="How the amount was converted; null if it was sent in the schema's currency."
    )


class ExplanationSerializer(serializers.Serializer):
    """Why a transaction has its score, in logits."""

    id = serializers.UUIDField()
    model_version = serializers.CharField(help_text="The version that scored it, and that explains it.")
    fraud_score = serializers.FloatField(min_value=0, max_value=1)
    base = serializers.FloatField(help_text="The logit of an ordinary transaction.")
    contributions = ReasonSerializer(
        many=True, help_text="Of every input, raising or lowering the score, the strongest first."
    )
    residual = serializers.FloatField(help_text="What rounding leaves of the logit of `fraud_score`.")


class PendingSerializer(serializers.Serializer):
    """A transaction that is stored and waits for its score."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=["pending"])
    location = serializers.CharField(help_text="The address of the prediction, once it is made.")
    detail = serializers.CharField(required=False, help_text="What it waits for, once an attempt has failed.")


class LabelSerializer(serializers.Serializer):
    """What a client says of a transaction."""

    id = serializers.UUIDField(required=False, help_text="The id that our answer had. Send this or transaction_id.")
    transaction_id = serializers.CharField(required=False, max_length=64, help_text="Your own id of the transaction.")
    kind = serializers.ChoiceField(choices=LabelKind.values)
    source = serializers.ChoiceField(
        required=False, choices=SENT_SOURCES, help_text="Who says it; the usual one of the kind if left out."
    )  # type: ignore[assignment]  # the base class has an attribute of that name
    event_time = serializers.DateTimeField(help_text="When it was said, with its offset.")
    amount = serializers.FloatField(required=False, min_value=0, help_text="In dispute, in the transaction's currency.")
    reference = serializers.CharField(required=False, max_length=64, help_text="Your id of the label: tells a repeat.")


class LabelReceiptSerializer(serializers.Serializer):
    status = serializers.ChoiceField(choices=["stored", "waiting"])
    id = serializers.UUIDField(allow_null=True, help_text="Our id of the transaction; null while it has not arrived.")
    until = serializers.DateTimeField(allow_null=True, help_text="How long the label waits for its transaction.")


class LabelBatchSerializer(serializers.Serializer):
    labels = LabelSerializer(many=True)


class FieldErrorSerializer(serializers.Serializer):
    pointer = serializers.CharField(help_text="JSON pointer to the field (RFC 6901).")
    code = serializers.CharField()
    detail = serializers.CharField()
    parameter = serializers.CharField(required=False, help_text="The parameter of the query, if it is one.")


class ProblemSerializer(serializers.Serializer):
    """An error (RFC 9457)."""

    type = serializers.CharField(help_text="The address of the page of its kind, which is the same everywhere.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField()
    request_id = serializers.CharField()
    errors = FieldErrorSerializer(many=True)  # type: ignore[assignment]  # the base class has a property of that name


class LabelResultSerializer(serializers.Serializer):
    """What became of one label of a batch."""

    status = serializers.IntegerField(help_text="The status that a call of its own would have had.")
    label = LabelReceiptSerializer(required=False)  # type: ignore[assignment]  # as above
    problem = ProblemSerializer(required=False)


class LabelBatchAnswerSerializer(serializers.Serializer):
    results = LabelResultSerializer(many=True, help_text="One per label, in order.")


class ResultSerializer(serializers.Serializer):
    """The result of one transaction of a batch."""

    status = serializers.IntegerField(help_text="The status that a call of its own would have had.")
    prediction = PredictionSerializer(required=False)
    problem = ProblemSerializer(required=False)
    id = serializers.UUIDField(required=False, help_text="The id of a transaction that waits for its score (202).")


class BatchAnswerSerializer(serializers.Serializer):
    results = ResultSerializer(many=True, help_text="One per transaction, in order.")
