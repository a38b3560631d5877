"""Routes and silences of alerts in the admin."""

import base64
import secrets
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import validate_email
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from monitoring.alerts import sending
from monitoring.alerts.models import AlertMessage, AlertRoute, AlertSilence
from scoring.webhooks import sealing, targets
from training.core.figures import at
from training.core.schema import schema_names

Kind = AlertRoute.Kind
LATEST = 10
SECRET_BYTES = 32


class RouteForm(forms.ModelForm):
    schemas = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple, required=False, help_text="Of which it hears. None: all."
    )

    class Meta:
        model = AlertRoute
        fields = ("name", "kind", "address", "severity", "schemas", "is_on")
        widgets = {"address": forms.TextInput(attrs={"size": 70})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "schemas" in self.fields:
            names: Any = self.fields["schemas"]
            names.choices = [(name, name) for name in sorted({*schema_names(), *(self.instance.schemas or [])})]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        kind, address = cleaned.get("kind"), cleaned.get("address", "")
        try:
            if kind == Kind.EMAIL:
                addresses = sending.addresses_of(address)
                for each in addresses:
                    validate_email(each)
                if not addresses:
                    raise ValidationError("Enter an e-mail address.")
            elif kind:
                targets.check_url(address)
        except ValidationError as error:
            self.add_error("address", error)
        except targets.TargetRefused as refusal:
            self.add_error("address", str(refusal))
        return cleaned


@admin.register(AlertRoute)
class RouteAdmin(admin.ModelAdmin):
    form = RouteForm
    list_display = ["name", "kind", "where", "severity", "of", "is_on", "latest"]
    change_form_template = "admin/monitoring/alertroute_form.html"
    readonly_fields = ["messages_sent"]

    class Media:
        css = {"all": ["scoring/admin.css", "scoring/webhooks.css", "monitoring/alerts.css"]}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        can_change = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        # The address of a chat is a key to it, so only those who may change it see it.
        names = ["name", "kind", "address" if can_change else "where", "severity", "schemas", "is_on"]
        return [(None, {"fields": names}), *([("Latest messages", {"fields": ["messages_sent"]})] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*self.readonly_fields, "where"]

    @admin.display(description="To")
    def where(self, route: AlertRoute) -> str:
        if route.kind == Kind.EMAIL:
            return route.address
        return "/".join(route.address.split("/")[:3]) + "/…"

    @admin.display(description="Of")
    def of(self, route: AlertRoute) -> str:
        return ", ".join(route.schemas) or "all schemas"

    @admin.display(description="Latest message")
    def latest(self, route: AlertRoute) -> SafeString | str:
        message = route.messages.first()
        return _told(message) if message else "none yet"

    @admin.display(description="Messages")
    def messages_sent(self, route: AlertRoute) -> SafeString | str:
        rows = list(route.messages.all()[:LATEST])
        if not rows:
            return "None yet."
        lines = [format_html("<li>{} {}</li>", at(row.created_at), _told(row)) for row in rows]
        return format_html('<ul class="alert-messages">{}</ul>', SafeString("".join(lines)))

    def save_model(self, request: HttpRequest, obj: AlertRoute, form: forms.ModelForm, change: bool) -> None:
        if obj.kind == Kind.WEBHOOK and not obj.secret:
            request.new_secret = _draw(obj)  # type: ignore[attr-defined]
        elif obj.kind != Kind.WEBHOOK:
            obj.secret = ""
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: AlertRoute, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._with_secret(request, obj) or super().response_add(request, obj, *args, **kwargs)

    def response_change(self, request: HttpRequest, obj: AlertRoute) -> HttpResponse:
        return self._with_secret(request, obj) or super().response_change(request, obj)

    def _with_secret(self, request: HttpRequest, obj: AlertRoute) -> HttpResponse | None:
        """The page that shows a new secret, which can be shown only now."""
        secret = getattr(request, "new_secret", None)
        if secret is None:
            return None
        context = self.admin_site.each_context(request) | {
            "title": "A new secret",
            "opts": self.opts,
            "route": obj,
            "secret": secret,
        }
        template = "admin/monitoring/alertroute_secret.html"
        return TemplateResponse(request, template, context, headers={"Cache-Control": "no-store"})

    def get_urls(self) -> list[URLPattern]:
        acts = {"test": self.test_view, "rotate": self.rotate_view}
        own = [
            path(f"<int:key>/{name}/", self.admin_site.admin_view(view), name=f"monitoring_alertroute_{name}")
            for name, view in acts.items()
        ]
        return [*own, *super().get_urls()]

    def _asked(self, request: HttpRequest, key: int) -> AlertRoute:
        if not self.has_change_permission(request):
            raise PermissionDenied
        route = self.get_queryset(request).filter(pk=key).first()
        if route is None:
            raise Http404
        return route

    def test_view(self, request: HttpRequest, key: int) -> HttpResponse:
        route = self._asked(request, key)
        if request.method == "POST":
            fault = sending.send_test(route)
            self.log_change(request, route, "Sent a test." if not fault else f"Sent a test, which failed: {fault}")
            if fault:
                messages.error(request, f"The test did not arrive: {fault}")
            else:
                messages.success(request, "The test arrived.")
        return HttpResponseRedirect(reverse("admin:monitoring_alertroute_change", args=[key]))

    def rotate_view(self, request: HttpRequest, key: int) -> HttpResponse:
        route = self._asked(request, key)
        back = reverse("admin:monitoring_alertroute_change", args=[key])
        if request.method != "POST" or route.kind != Kind.WEBHOOK:
            return HttpResponseRedirect(back)
        request.new_secret = _draw(route)  # type: ignore[attr-defined]
        route.save(update_fields=["secret"])
        self.log_change(request, route, "Replaced the secret.")
        return self._with_secret(request, route) or HttpResponseRedirect(back)


def _draw(route: AlertRoute) -> str:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    route.secret = sealing.seal(secret)
    return secret


def _told(message: AlertMessage) -> SafeString:
    words = format_html('<span class="message {}">{}</span>', message.state, message.get_state_display())
    return format_html("{} {}", words, message.fault) if message.fault else words


class SilenceForm(forms.ModelForm):
    schema = forms.ChoiceField(required=False, help_text="Empty: all schemas.")

    class Meta:
        model = AlertSilence
        fields = ("rule", "schema", "client", "starts_at", "ends_at", "note")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "schema" in self.fields:
            names: Any = self.fields["schema"]
            kept = {self.instance.schema} - {""}
            names.choices = [("", "all"), *((name, name) for name in sorted({*schema_names(), *kept}))]
        if "ends_at" in self.fields:
            self.fields["ends_at"].initial = lambda: timezone.now() + timedelta(hours=4)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        starts, ends = cleaned.get("starts_at"), cleaned.get("ends_at")
        if starts and ends and ends <= starts:
            self.add_error("ends_at", "It ends before it begins.")
        return cleaned


class HoldsFilter(admin.SimpleListFilter):
    """Without a choice, those that hold now or will."""

    title = "when"
    parameter_name = "when"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("over", "Over"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        first, *others = super().choices(changelist)
        yield {**first, "display": "Now or to come"}
        yield from others

    def queryset(self, request: HttpRequest, queryset: QuerySet[AlertSilence]) -> QuerySet[AlertSilence]:
        if self.value() == "all":
            return queryset
        now = timezone.now()
        return queryset.filter(ends_at__lte=now) if self.value() == "over" else queryset.filter(ends_at__gt=now)


@admin.register(AlertSilence)
class SilenceAdmin(admin.ModelAdmin):
    form = SilenceForm
    list_display = ["what", "begins", "ends", "note", "by"]
    list_filter = [HoldsFilter]
    list_select_related = ["rule", "client"]

    @admin.display(description="Silences")
    def what(self, silence: AlertSilence) -> str:
        return ", ".join(str(each) for each in (silence.rule, silence.schema, silence.client) if each) or "everything"

    @admin.display(description="From", ordering="starts_at")
    def begins(self, silence: AlertSilence) -> str:
        return at(silence.starts_at)

    @admin.display(description="Until", ordering="ends_at")
    def ends(self, silence: AlertSilence) -> str:
        return at(silence.ends_at)

    def has_delete_permission(self, request: HttpRequest, obj: AlertSilence | None = None) -> bool:
        """A silence is ended by its time, and stays on record."""
        return False

    def save_model(self, request: HttpRequest, obj: AlertSilence, form: forms.ModelForm, change: bool) -> None:
        if not change:
            obj.by = request.user.get_username()
        super().save_model(request, obj, form, change)
