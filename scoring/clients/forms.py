"""The form of a key."""

from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone

from scoring import served
from scoring.clients import keys
from scoring.clients.models import LIMITS, Scope
from scoring.clients.networks import network
from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey

RIGHTS = ("scopes", "schemas", "networks", "expires_at")


class ApiKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, f"{scope.value}: {scope.label[0].lower()}{scope.label[1:]}") for scope in Scope],
        initial=list(Scope.values),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one scope: a key without any is of no use."},
        help_text="What the key may be used for.",
    )
    schemas = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="The schemas that it may be used for. None chosen: all, also those to come.",
    )
    networks = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "203.0.113.0/24\n2001:db8::/32"}),
        help_text="Where it may be used from, one network or address a line. Empty: from anywhere.",
    )

    class Meta:
        model = ApiKey
        fields = ("client", "name", "is_test", *RIGHTS, *LIMITS)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        known = sorted({*served.now().schemas, *self.instance.schemas})
        self.fields["schemas"].choices = [(name, name) for name in known]  # type: ignore[attr-defined]
        self.initial["networks"] = "\n".join(self.instance.networks)
        defaults = {
            "calls_per_s": settings.KEY_CALLS_PER_S,
            "rows_per_s": settings.KEY_ROWS_PER_S,
            "transactions_per_day": settings.KEY_TRANSACTIONS_PER_DAY,
        }
        for name, default in defaults.items():
            if name in self.fields:
                self.fields[name].widget.attrs["placeholder"] = f"{default:,.0f}" if default else "no limit"

    def clean_networks(self) -> list[str]:
        found, errors = [], []
        for text in self.cleaned_data["networks"].replace(",", " ").split():
            try:
                found.append(str(network(text)))
            except ValueError as error:
                errors.append(str(error))
        if errors:
            raise forms.ValidationError(errors)
        return found

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at and "expires_at" in self.changed_data and expires_at <= timezone.now():
            raise forms.ValidationError("Choose a time to come. A key that must not be used any more is revoked.")
        return expires_at

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        client = cleaned.get("client", getattr(self.instance, "client", None))
        if client and {"client", "name", "expires_at"} & {*self.changed_data}:
            named = ApiKey(pk=self.instance.pk, client=client, name=cleaned.get("name", self.instance.name))
            try:
                keys.refuse_a_third(named)
            except TooManyKeys as refusal:
                raise forms.ValidationError(str(refusal)) from refusal
        return cleaned
