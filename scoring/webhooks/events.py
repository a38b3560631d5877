"""The one way to tell of an event: `record`, in the database transaction of what happened.

For each endpoint that is subscribed a delivery is stored; without one, nothing is. `manage.py deliver_webhooks` sends
them. A transaction that is rolled back has told nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import uuid_utils.compat
from django.db.models import Q
from django.utils import timezone

from scoring.telemetry import tracing
from scoring.webhooks.models import WebhookDelivery, WebhookEndpoint
from scoring.webhooks.types import EventType


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to `object`. `client` is the key of the client that it is about, None if it is about the
    installation. `data` may become JSON, and holds no personal values: ids, decisions, scores and names of ours. `span`
    is the `traceparent` of what tells of it, if that is recorded."""

    type: str
    object: str
    data: Mapping[str, Any]
    client: int | None = None
    schema: str = ""
    at: datetime = field(default_factory=timezone.now)
    id: UUID = field(default_factory=uuid_utils.compat.uuid7)
    span: str = field(default_factory=tracing.carried)

    @property
    def payload(self) -> str:
        """The body of its message."""
        return msgspec.json.encode({"type": self.type, "timestamp": self.at, "data": self.data}).decode()


def record(
    type: EventType, *, object: str, data: Mapping[str, Any], client: int | None = None, schema: str = ""
) -> int:
    """Tell the subscribed endpoints of an event. Call it in the transaction of what happened.

    An event of a `client` is told to its own endpoints only. `schema` is empty for an event of none. Events of one
    `object` reach an endpoint in their order. Returns to how many endpoints it goes.
    """
    return record_all([Event(type.value, object, data, client, schema)])


def record_all(events: Sequence[Event]) -> int:
    """Tell of several events, in this order, as `record` does of one. Costs one query if nobody is subscribed."""
    if not events:
        return 0
    endpoints = _listening({event.client for event in events})
    deliveries = [
        WebhookDelivery(
            endpoint=endpoint,
            event_id=event.id,
            type=event.type,
            object=event.object,
            payload=event.payload,
            created_at=event.at,
            since=event.at,
            due_at=event.at,
            span=event.span,
        )
        for event in events
        for endpoint in endpoints
        if _hears(endpoint, event)
    ]
    WebhookDelivery.objects.bulk_create(deliveries, batch_size=500)
    return len(deliveries)


def _listening(clients: set[int | None]) -> list[WebhookEndpoint]:
    theirs = Q() if None in clients else Q(client__in=clients)
    found = WebhookEndpoint.objects.filter(theirs, state__in=WebhookEndpoint.HEARING)
    return list(found.only("client_id", "event_types", "schemas").order_by("pk"))


def _hears(endpoint: WebhookEndpoint, event: Event) -> bool:
    return (
        event.client in (None, endpoint.client_id)
        and event.type in endpoint.event_types
        and (not endpoint.schemas or not event.schema or event.schema in endpoint.schemas)
    )
