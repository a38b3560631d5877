"""Making, changing and testing the endpoints of webhooks, and their secrets."""

import base64
import secrets as random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from standardwebhooks import Webhook

from scoring.acts import acted
from scoring.models import Client
from scoring.webhooks import sealing, targets
from scoring.webhooks.events import Event
from scoring.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookSecret
from scoring.webhooks.types import TEST, EventType
from training import clock
from training.core.exceptions import FraudsiteError
from training.core.schema import schema_names

State = WebhookEndpoint.State
SECRET_BYTES = 32
LIVE_SECRETS_LIMIT = 5
DESCRIPTION_LENGTH = 200


class EndpointRefused(FraudsiteError):
    """The endpoint cannot be as asked. `field` names what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class EndpointRemoved(FraudsiteError):
    """The endpoint was removed meanwhile."""


def check(field: str, value: Any) -> None:
    """Check a value of an endpoint's field.

    Raises:
        EndpointRefused: it says what may be sent instead.
    """
    if field == "url":
        if not isinstance(value, str):
            raise EndpointRefused(field, "Send the URL as text.")
        try:
            targets.check_url(value)
        except targets.TargetRefused as refusal:
            raise EndpointRefused(field, str(refusal)) from None
    elif field == "description":
        if not isinstance(value, str) or len(value) > DESCRIPTION_LENGTH or "\0" in value:
            raise EndpointRefused(field, f"Send text of at most {DESCRIPTION_LENGTH} characters.")
    elif field == "event_types":
        if not value or not _names(value, EventType.values):
            raise EndpointRefused(field, f"Send a list of one or more of {', '.join(EventType.values)}, each once.")
    elif field == "schemas":
        if not _names(value, schema_names()):
            raise EndpointRefused(field, f"Send a list of {', '.join(schema_names())}, each once; none for all.")
    elif field == "state" and value not in (State.ACTIVE, State.PAUSED):
        raise EndpointRefused(field, "The state may be set to active or paused.")


def _names(value: Any, known: Sequence[str]) -> bool:
    return isinstance(value, list) and all(name in known for name in value) and len(value) == len(set(value))


@transaction.atomic
def create(
    *, client: Client, url: str, event_types: list[str], schemas: list[str] | None = None, description: str = ""
) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint. Returns it and its secret, which can be shown only now.

    Raises:
        EndpointRefused: a value is wrong, or the client has `WEBHOOK_ENDPOINTS_LIMIT` already.
    """
    row = WebhookEndpoint(
        client=client, url=url, event_types=event_types, schemas=schemas or [], description=description
    )
    for field in ("url", "event_types", "schemas", "description"):
        check(field, getattr(row, field))
    Client.objects.select_for_update().get(pk=client.pk)
    limit = settings.WEBHOOK_ENDPOINTS_LIMIT
    if of_client(client).count() >= limit:
        raise EndpointRefused("url", f"A client may have {limit} endpoints. Remove one first.")
    row.save()
    return row, _draw(row)


def noted(endpoint: WebhookEndpoint, action: str, detail: str, *, person: str = "") -> None:
    """Tell the audit trail what was done outside of the admin, which keeps a log of its own."""
    acted.send(WebhookEndpoint, action=action, key=endpoint.pk, detail=f"{endpoint}: {detail}", person=person)


def of_client(client: Client) -> Any:
    """A client's endpoints, without those that it has removed."""
    return WebhookEndpoint.objects.filter(client=client).exclude(state=State.REMOVED).order_by("pk")


def _hold(endpoint: WebhookEndpoint) -> None:
    """Lock an endpoint until the end of the database transaction, as a change that was begun before a removal would
    bring it back without secrets.

    Raises:
        EndpointRemoved: it is there no more.
    """
    held = WebhookEndpoint.objects.select_for_update().filter(pk=endpoint.pk).exclude(state=State.REMOVED)
    if not held.values_list("pk", flat=True):
        raise EndpointRemoved


@transaction.atomic
def change(endpoint: WebhookEndpoint, **values: Any) -> None:
    """Change fields of an endpoint. An active one is no longer disabled, and sends what waits.

    Raises:
        EndpointRefused: a value is wrong; nothing was changed.
        EndpointRemoved: it is there no more.
    """
    _hold(endpoint)
    for field, value in values.items():
        check(field, value)
        setattr(endpoint, field, value)
    if values.get("state") == State.ACTIVE:
        values |= {"fault": "", "wait_until": None}
        endpoint.fault, endpoint.wait_until = "", None
    endpoint.save(update_fields=list(values))


@transaction.atomic
def remove(endpoint: WebhookEndpoint) -> None:
    """Send no more to an endpoint, and forget its secrets.

    Raises:
        EndpointRemoved: it was removed before.
    """
    _hold(endpoint)
    endpoint.secrets.all().delete()
    endpoint.state = State.REMOVED
    endpoint.save(update_fields=["state"])


@transaction.atomic
def rotate(endpoint: WebhookEndpoint, *, keep_s: float | None = None) -> str:
    """Add a secret, which can be shown only now. The earlier ones sign for `keep_s` seconds more, by default
    `WEBHOOK_SECRET_OVERLAP_H`, so that the receiver can change over.

    Raises:
        EndpointRemoved: it is there no more.
    """
    keep_s = settings.WEBHOOK_SECRET_OVERLAP_H * 3600 if keep_s is None else keep_s
    until = clock.now() + timedelta(seconds=keep_s)
    _hold(endpoint)
    endpoint.secrets.filter(Q(expires_at=None) | Q(expires_at__gt=until)).update(expires_at=until)
    newest = endpoint.secrets.order_by("-pk").values_list("pk", flat=True)[: LIVE_SECRETS_LIMIT - 1]
    endpoint.secrets.exclude(pk__in=list(newest)).delete()
    endpoint.secrets.filter(expires_at__lte=clock.now()).delete()
    return _draw(endpoint)


def _draw(endpoint: WebhookEndpoint) -> str:
    secret = "whsec_" + base64.b64encode(random.token_bytes(SECRET_BYTES)).decode()
    endpoint.secrets.create(sealed=sealing.seal(secret))
    return secret


def send_test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """Store a test for an endpoint, whatever it is subscribed to. It is sent like any event."""
    data = {"endpoint": str(endpoint.key), "message": "This is a test of your webhook endpoint."}
    event = Event(TEST, f"test:{endpoint.key}", data)
    return WebhookDelivery.objects.create(
        endpoint=endpoint,
        event_id=event.id,
        type=TEST,
        object=event.object,
        payload=event.payload,
        span=event.span,
    )


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send, and the live secrets, the newest first. Without any, `fault` says why."""

    url: str
    secrets: list[Webhook]
    fault: str = ""


def target(key: int) -> Target | None:
    """What a deliverer needs of an endpoint; None if it is gone."""
    endpoint = WebhookEndpoint.objects.filter(pk=key).first()
    if endpoint is None:
        return None
    try:
        found = [Webhook(sealing.unseal(secret.sealed)) for secret in live_secrets(endpoint, clock.now())]
    except sealing.SecretUnreadable as error:
        return Target(endpoint.url, [], str(error))
    return Target(endpoint.url, found, "" if found else "The endpoint has no live secret. Rotate it.")


def live_secrets(endpoint: WebhookEndpoint, now: datetime) -> list[WebhookSecret]:
    """The secrets that sign at a time, the newest first."""
    return list(endpoint.secrets.filter(Q(expires_at=None) | Q(expires_at__gt=now)).order_by("-pk"))
