"""Documents the bodies about webhooks in the OpenAPI document. `views` reads and writes them."""

from rest_framework import serializers

from scoring.webhooks.models import URL_LENGTH, WebhookDelivery, WebhookEndpoint
from scoring.webhooks.types import ALL_TYPES, EventType


class WebhookChangeSerializer(serializers.Serializer):
    """What may be changed of an endpoint."""

    url = serializers.URLField(max_length=URL_LENGTH, required=False, help_text="https:// and a public host.")
    description = serializers.CharField(max_length=200, required=False, allow_blank=True)
    event_types = serializers.ListField(
        child=serializers.ChoiceField(choices=EventType.choices), min_length=1, required=False
    )
    schemas = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="None: all that the key may be used for."
    )
    state = serializers.ChoiceField(choices=["active", "paused"], required=False)


class NewWebhookSerializer(WebhookChangeSerializer):
    url = serializers.URLField(max_length=URL_LENGTH, help_text="https:// and a public host.")
    event_types = serializers.ListField(child=serializers.ChoiceField(choices=EventType.choices), min_length=1)
    state = None  # type: ignore[assignment]  # a new one is active


class WebhookSerializer(serializers.Serializer):
    """An endpoint that is told of events."""

    id = serializers.UUIDField()
    url = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    event_types = serializers.ListField(child=serializers.ChoiceField(choices=EventType.choices))
    schemas = serializers.ListField(child=serializers.CharField())
    state = serializers.ChoiceField(choices=WebhookEndpoint.State.choices)
    fault = serializers.CharField(allow_blank=True, help_text="Why it is disabled.")
    created_at = serializers.DateTimeField()
    last_success_at = serializers.DateTimeField(allow_null=True)
    last_failure_at = serializers.DateTimeField(allow_null=True)


class SecretWebhookSerializer(WebhookSerializer):
    secret = serializers.CharField(help_text="Shown now and never again.")


class WebhookListSerializer(serializers.Serializer):
    results = WebhookSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class RotationSerializer(serializers.Serializer):
    keep_s = serializers.FloatField(
        required=False, min_value=0, max_value=2_592_000, help_text="For how long the earlier secrets sign."
    )


class SecretSerializer(serializers.Serializer):
    secret = serializers.CharField(help_text="Shown now and never again.")


class TestSentSerializer(serializers.Serializer):
    id = serializers.CharField(help_text="The `webhook-id` of the test.")


class DeliverySerializer(serializers.Serializer):
    """An event on its way to an endpoint."""

    id = serializers.CharField(help_text="The `webhook-id`.")
    type = serializers.ChoiceField(choices=ALL_TYPES)
    state = serializers.ChoiceField(choices=WebhookDelivery.State.choices)
    attempts = serializers.IntegerField()
    fault = serializers.CharField(allow_blank=True, help_text="Why the last attempt failed.")
    created_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(allow_null=True, help_text="When a pending one is tried next.")
    finished_at = serializers.DateTimeField(allow_null=True)


class DeliveryPageSerializer(serializers.Serializer):
    results = DeliverySerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="The address of the next page.")


class ReplaySerializer(serializers.Serializer):
    since = serializers.DateTimeField(required=False, help_text="Of events from this time on.")
    all = serializers.BooleanField(required=False, help_text="Also those that were delivered; else the dead.")
    ids = serializers.ListField(
        child=serializers.CharField(), required=False, max_length=1000, help_text="These alone, by `webhook-id`."
    )


class ReplayedSerializer(serializers.Serializer):
    replayed = serializers.IntegerField()
