"""Endpoints of webhooks in the admin."""

from contextlib import suppress
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scoring.tenancy import restriction
from scoring.webhooks import endpoints, figures, outbox
from scoring.webhooks.display import delivery_table, secret_table, share, state_badge, time_or_dash
from scoring.webhooks.endpoints import EndpointRemoved
from scoring.webhooks.forms import FIELDS, EndpointForm, ReplayForm
from scoring.webhooks.models import WebhookDelivery, WebhookEndpoint

State = WebhookEndpoint.State
SHOWN_DELIVERIES = 20


class StateFilter(admin.SimpleListFilter):
    """Without a choice, removed endpoints are left out."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [(str(value), str(label)) for value, label in State.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> QuerySet[WebhookEndpoint]:
        return queryset.filter(state=self.value()) if self.value() else queryset.exclude(state=State.REMOVED)


@admin.register(WebhookEndpoint)
class EndpointAdmin(admin.ModelAdmin):
    """Endpoints are removed by an action, which keeps the row until its deliveries are gone."""

    form = EndpointForm
    list_display = ["client", "address", "state_shown", "told", "last_success", "failure_rate", "pending", "dead"]
    list_display_links = ["address"]
    list_filter = [StateFilter, "client"]
    list_select_related = ["client"]
    list_per_page = 25
    ordering = ["client__name", "pk"]
    actions = ["pause", "resume", "test", "remove"]
    change_form_template = "admin/scoring/webhookendpoint/change_form.html"
    readonly_fields = ["badge", "last_success", "last_failure", "failure_rate", "secrets", "deliveries"]

    class Media:
        css = {"all": ["scoring/admin.css", "scoring/webhooks.css"]}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = [(None, {"fields": ["client", *FIELDS]})]
        if obj is None:
            return fields
        how = ["badge", "last_success", "last_failure", "failure_rate", "secrets"]
        return [("How it is doing", {"fields": [*how, "deliveries"]}), ("Endpoint", fields[0][1])]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*self.readonly_fields, "client"] if obj else list(self.readonly_fields)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: WebhookEndpoint | None = None) -> bool:
        return super().has_change_permission(request, obj) and not (obj and obj.state == State.REMOVED)

    @admin.display(description="State", ordering="state")
    def badge(self, row: WebhookEndpoint) -> SafeString:
        return state_badge(row.state, row.get_state_display(), row.fault)

    @admin.display(description="State", ordering="state")
    def state_shown(self, row: WebhookEndpoint) -> SafeString:
        return format_html('<span title="{}">{}</span>', row.fault, state_badge(row.state, row.get_state_display()))

    @admin.display(description="URL", ordering="url")
    def address(self, row: WebhookEndpoint) -> SafeString:
        return format_html('<span class="url">{}</span>', row.url)

    @admin.display(description="Events")
    def told(self, row: WebhookEndpoint) -> SafeString:
        of = f" of {', '.join(row.schemas)}" if row.schemas else ""
        return format_html('<span title="{}">{}{}</span>', ", ".join(row.event_types), len(row.event_types), of)

    @admin.display(description="Last success", ordering="last_success_at")
    def last_success(self, row: WebhookEndpoint) -> str:
        return time_or_dash(row.last_success_at)

    @admin.display(description="Last failure", ordering="last_failure_at")
    def last_failure(self, row: WebhookEndpoint) -> str:
        return time_or_dash(row.last_failure_at)

    @admin.display(description="Failures")
    def failure_rate(self, row: WebhookEndpoint) -> SafeString | str:
        return share(_standing(row).failure_rate, figures.RECENT_ATTEMPTS)

    @admin.display(description="Pending")
    def pending(self, row: WebhookEndpoint) -> SafeString:
        return _counted(row, _standing(row).pending, WebhookDelivery.State.PENDING)

    @admin.display(description="Dead")
    def dead(self, row: WebhookEndpoint) -> SafeString:
        return _counted(row, _standing(row).dead, WebhookDelivery.State.DEAD)

    @admin.display(description="Secrets")
    def secrets(self, row: WebhookEndpoint) -> SafeString | str:
        return secret_table(row)

    @admin.display(description="Latest deliveries")
    def deliveries(self, row: WebhookEndpoint) -> SafeString | str:
        latest = WebhookDelivery.objects.filter(endpoint=row).order_by("-pk")[:SHOWN_DELIVERIES]
        address = reverse("admin:scoring_webhookdelivery_changelist", query={"endpoint": row.pk})
        return delivery_table(latest, address)

    def save_model(self, request: HttpRequest, obj: WebhookEndpoint, form: forms.ModelForm, change: bool) -> None:
        values = {field: form.cleaned_data[field] for field in FIELDS}
        if change:
            try:
                endpoints.change(obj, **values)
            except EndpointRemoved:
                raise Http404 from None
            return
        made, secret = endpoints.create(client=form.cleaned_data["client"], **values)
        obj.pk, obj.key, obj._state.adding = made.pk, made.key, False
        request.new_secret = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: WebhookEndpoint, *_: Any, **__: Any) -> HttpResponse:
        return self._show_secret(request, obj, request.new_secret)  # type: ignore[attr-defined]

    def _show_secret(self, request: HttpRequest, obj: WebhookEndpoint, secret: str) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": "A new secret",
            "endpoint": obj,
            "secret": secret,
            "back": reverse("admin:scoring_webhookendpoint_change", args=[obj.pk]),
        }
        template = "admin/scoring/webhookendpoint/secret.html"
        return TemplateResponse(request, template, context, headers={"Cache-Control": "no-store"})

    @admin.action(description="Pause", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        self._set(request, queryset.filter(state=State.ACTIVE), State.PAUSED, "Paused. What happens now waits.")

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        stopped = queryset.filter(state__in=[State.PAUSED, State.DISABLED])
        self._set(request, stopped, State.ACTIVE, "Resumed. What waits is sent now.")

    def _set(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint], state: str, told: str) -> None:
        changed = 0
        for row in queryset:
            with suppress(EndpointRemoved):
                endpoints.change(row, state=state)
                self.log_change(request, row, f"State set to {state}.")
                changed += 1
        messages.success(request, told) if changed else messages.warning(request, "None of them can be.")

    @admin.action(description="Send a test event", permissions=["change"])
    def test(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        for row in queryset.exclude(state=State.REMOVED):
            self._send_test(request, row)

    def _send_test(self, request: HttpRequest, row: WebhookEndpoint) -> None:
        delivery = endpoints.send_test(row)
        self.log_change(request, row, f"Sent the test {delivery}.")
        address = reverse("admin:scoring_webhookdelivery_change", args=[delivery.pk])
        messages.success(request, format_html('A test is sent: <a href="{}">what became of it</a>.', address))

    @admin.action(description="Remove", permissions=["change"])
    def remove(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        for row in queryset.exclude(state=State.REMOVED):
            with suppress(EndpointRemoved):
                endpoints.remove(row)
                self.log_change(request, row, "Removed.")
        messages.success(request, "Removed. Nothing is sent to them any more.")

    def get_urls(self) -> list[URLPattern]:
        pages = {"test": self.test_view, "rotate": self.rotate_view, "replay": self.replay_view}
        own = [
            path(f"<int:key>/{name}/", self.admin_site.admin_view(view), name=f"scoring_webhookendpoint_{name}")
            for name, view in pages.items()
        ]
        return [*own, *super().get_urls()]

    def _asked(self, request: HttpRequest, key: int) -> WebhookEndpoint:
        if not self.has_change_permission(request):
            raise PermissionDenied
        seen = restriction.visible(WebhookEndpoint.objects.select_related("client"), request.user)
        row = seen.filter(pk=key).exclude(state=State.REMOVED).first()
        if row is None:
            raise Http404
        return row

    def test_view(self, request: HttpRequest, key: int) -> HttpResponse:
        row = self._asked(request, key)
        if request.method == "POST":
            self._send_test(request, row)
        return HttpResponseRedirect(reverse("admin:scoring_webhookendpoint_change", args=[key]))

    def rotate_view(self, request: HttpRequest, key: int) -> HttpResponse:
        row = self._asked(request, key)
        if request.method != "POST":
            return HttpResponseRedirect(reverse("admin:scoring_webhookendpoint_change", args=[key]))
        try:
            secret = endpoints.rotate(row)
        except EndpointRemoved:
            raise Http404 from None
        self.log_change(request, row, "Added a secret.")
        return self._show_secret(request, row, secret)

    def replay_view(self, request: HttpRequest, key: int) -> HttpResponse:
        row = self._asked(request, key)
        form = ReplayForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            since, everything = form.cleaned_data["since"], form.cleaned_data["everything"]
            count = outbox.replay(outbox.of_endpoint(row, since=since, only_dead=not everything))
            self.log_change(request, row, f"Sent {count:,} deliveries again.")
            messages.success(request, f"{count:,} deliveries are sent again.")
            return HttpResponseRedirect(reverse("admin:scoring_webhookendpoint_change", args=[key]))
        context = self.admin_site.each_context(request) | {
            "title": "Send deliveries again",
            "endpoint": row,
            "form": form,
            "dead": figures.standing(row).dead,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/scoring/webhookendpoint/replay.html", context)


def _standing(row: Any) -> figures.Standing:
    """Read once for the columns of a row."""
    if not hasattr(row, "standing"):
        row.standing = figures.standing(row)
    return row.standing


def _counted(row: WebhookEndpoint, count: int, state: str) -> SafeString:
    query = {"endpoint": row.pk, "state__exact": state}
    address = reverse("admin:scoring_webhookdelivery_changelist", query=query)
    shown = f"{count - 1:,}+" if count == figures.COUNTED else f"{count:,}"
    return format_html('<a href="{}" class="{}">{}</a>', address, "late" if count and state == "dead" else "", shown)
