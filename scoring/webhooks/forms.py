from typing import Any

from django import forms
from django.conf import settings

from scoring.models import Client
from scoring.webhooks import endpoints
from scoring.webhooks.endpoints import EndpointRefused
from scoring.webhooks.models import WebhookEndpoint
from scoring.webhooks.types import EventType
from training.core.schema import schema_names

State = WebhookEndpoint.State
FIELDS = ("url", "description", "event_types", "schemas")


class EndpointForm(forms.ModelForm):
    event_types = forms.MultipleChoiceField(
        choices=[(value, f"{value}: {label[0].lower()}{label[1:]}") for value, label in EventType.choices],
        widget=forms.CheckboxSelectMultiple,
        label="Events",
        initial=[EventType.ALERT_OPENED, EventType.REVIEW_DECIDED, EventType.DECISION_CHANGED],
    )
    schemas = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple, required=False, help_text="Of which it hears. None: all."
    )

    class Meta:
        model = WebhookEndpoint
        fields = ("client", *FIELDS)
        widgets = {"url": forms.URLInput(attrs={"class": "vURLField", "size": 70})}
        help_texts = {"url": "https:// and a host that is reached from outside. Redirects are not followed."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kept = self.instance.schemas or []
        self.fields["schemas"].choices = [(name, name) for name in sorted({*schema_names(), *kept})]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for field in FIELDS:
            if field in cleaned:
                try:
                    endpoints.check(field, cleaned[field])
                except EndpointRefused as refusal:
                    self.add_error(field, str(refusal))
        client: Client | None = cleaned.get("client")
        if client and endpoints.of_client(client).count() >= settings.WEBHOOK_ENDPOINTS_LIMIT:
            self.add_error("client", f"The client has {settings.WEBHOOK_ENDPOINTS_LIMIT} endpoints. Remove one first.")
        return cleaned


class ReplayForm(forms.Form):
    since = forms.DateTimeField(
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        label="Since",
        help_text="Of events from this time on, in UTC. Empty: of any time.",
    )
    everything = forms.BooleanField(
        required=False, label="Also those that were delivered", help_text="Otherwise the dead ones alone."
    )
