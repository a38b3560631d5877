"""Deliveries in the admin, the dead ones among them: looking, and sending again."""

import json
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scoring.pages.read_only import ReadOnlyAdmin
from scoring.reviews import second_opinions
from scoring.tenancy import restriction
from scoring.webhooks import outbox
from scoring.webhooks.display import attempt_table, payload_of, state_badge, time_or_dash
from scoring.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from scoring.webhooks.types import EventType
from training.core.figures import at

SHOWN_ATTEMPTS = 100
# What tells how a review was decided.
OUTCOMES = (EventType.REVIEW_DECIDED, EventType.DECISION_CHANGED)


class EndpointFilter(admin.SimpleListFilter):
    title = parameter_name = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        seen = restriction.visible(WebhookEndpoint.objects.select_related("client"), request.user)
        rows = seen.order_by("client__name", "pk")
        return [(str(row.pk), f"{row.client}: {row.url}"[:60]) for row in rows[:200]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> QuerySet[WebhookDelivery]:
        value = self.value() or ""
        return queryset.filter(endpoint=int(value)) if value.isascii() and value.isdecimal() else queryset


@admin.register(WebhookDelivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ["message_id", "kind", "badge", "attempts", "host", "created", "fault"]
    list_filter = ["state", "type", EndpointFilter]
    list_select_related = ["endpoint__client"]
    ordering = ["-pk"]
    search_fields = ["pk"]  # without it the page has no search box
    search_help_text = "The id of a message, msg_…"
    actions = ["replay"]
    fields = [
        *("message_id", "client", "url", "kind", "object", "badge", "attempts", "created"),
        *("next_attempt", "finished", "fault", "payload_shown", "attempts_shown"),
    ]

    class Media:
        css = {"all": ["scoring/webhooks.css"]}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(event_id=UUID(term.removeprefix("msg_"))), False
        except ValueError:
            messages.warning(request, "That is no id of a message: it has msg_ and 32 digits.")
            return queryset.none(), False

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.change_webhookdelivery")

    @admin.action(description="Send again", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        rows = list(queryset)
        count = outbox.replay(WebhookDelivery.objects.filter(pk__in=[row.pk for row in rows]))
        for row in rows:
            self.log_change(request, row, "Sent again.")
        messages.success(request, f"{count:,} deliveries are sent again.")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """A delivery. Its body is left out for whoever may give a second opinion on what it tells."""
        row: Any = super().get_object(request, object_id, from_field)
        if row and row.type in OUTCOMES and second_opinions.hides(request.user, UUID(row.object)):  # type: ignore[arg-type]
            row.payload = json.dumps("You see it once you have given your opinion.")
        return row

    @admin.display(description="State", ordering="state")
    def badge(self, row: WebhookDelivery) -> SafeString:
        return state_badge(row.state, row.get_state_display())

    @admin.display(description="Client")
    def client(self, row: WebhookDelivery) -> str:
        return row.endpoint.client.name

    @admin.display(description="Type", ordering="type")
    def kind(self, row: WebhookDelivery) -> str:
        return row.type

    @admin.display(description="Endpoint")
    def host(self, row: WebhookDelivery) -> SafeString:
        endpoint = row.endpoint
        told = '<span title="{}">{}, <span class="fault">{}</span></span>'
        return format_html(told, endpoint.url, endpoint.client, urlsplit(endpoint.url).hostname)

    @admin.display(description="URL")
    def url(self, row: WebhookDelivery) -> SafeString:
        return format_html('<span class="url">{}</span>', row.endpoint.url)

    @admin.display(description="Event")
    def created(self, row: WebhookDelivery) -> str:
        return at(row.created_at)

    @admin.display(description="Next attempt")
    def next_attempt(self, row: WebhookDelivery) -> str:
        return at(row.due_at) if row.state == WebhookDelivery.State.PENDING else "-"

    @admin.display(description="Finished")
    def finished(self, row: WebhookDelivery) -> str:
        return time_or_dash(row.finished_at)

    @admin.display(description="Body")
    def payload_shown(self, row: WebhookDelivery) -> SafeString:
        return payload_of(row)

    @admin.display(description="Attempts made")
    def attempts_shown(self, row: WebhookDelivery) -> SafeString | str:
        return attempt_table(WebhookAttempt.objects.filter(delivery=row)[:SHOWN_ATTEMPTS])
