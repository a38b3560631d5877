"""Reads the bodies of calls about webhooks, and tells of endpoints and deliveries."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from scoring.api.decoding import NAME_SHOWN, Body, read_object
from scoring.api.validation import refuse_card_data
from scoring.exceptions import FieldError, InvalidFields, SchemaNotAllowed, UnacceptableValues
from scoring.models import ApiKey
from scoring.webhooks import endpoints
from scoring.webhooks.endpoints import EndpointRefused
from scoring.webhooks.models import WebhookDelivery, WebhookEndpoint

IDS_LIMIT = 1_000
KEEP_LIMIT_S = 2_592_000


def read(request: HttpRequest, *names: str, needed: tuple[str, ...] = ()) -> Body:
    """The body, with these fields alone. One that needs none may be left out.

    Raises:
        RequestRefused: as `read_object`; a field is missing or unknown.
    """
    has_body = request.META.get("HTTP_TRANSFER_ENCODING") or request.META.get("CONTENT_LENGTH") not in (None, "", "0")
    if not needed and not has_body:
        return {}
    body = read_object(request, limit_bytes=settings.PREDICT_BODY_LIMIT_BYTES)
    # Ids of messages are ours.
    refuse_card_data({name: value for name, value in body.items() if name != "ids"}, {})
    known = f"Send {', '.join(names)} only." if names else "Send no fields."
    faults = [FieldError(f"/{name[:NAME_SHOWN]}", "unknown_field", known) for name in body if name not in names]
    faults += [FieldError(f"/{name}", "missing", f"Send {name}.") for name in needed if name not in body]
    if faults:
        raise InvalidFields(errors=faults)
    return body


def checked(body: Body, key: ApiKey) -> Body:
    """The values of an endpoint as a key may set them: its schemas are among the key's.

    Raises:
        UnacceptableValues: values are wrong; names all of them.
        SchemaNotAllowed: a schema is not the key's.
    """
    faults = []
    for name, value in body.items():
        try:
            endpoints.check(name, value)
        except EndpointRefused as refusal:
            faults += refused(refusal).errors
    if faults:
        raise UnacceptableValues(errors=faults)
    if key.schemas and "schemas" in body:
        for schema in body["schemas"]:
            if schema not in key.schemas:
                raise SchemaNotAllowed(schema)
        body["schemas"] = body["schemas"] or list(key.schemas)
    return body


def refused(refusal: EndpointRefused) -> UnacceptableValues:
    return wrong(refusal.field, str(refusal))


def wrong(field: str, detail: str) -> UnacceptableValues:
    return UnacceptableValues(errors=[FieldError(f"/{field}", "invalid_value", detail)])


def keep_s(body: Body) -> float | None:
    value = body.get("keep_s")
    if value is not None and (type(value) not in (int, float) or not 0 <= value <= KEEP_LIMIT_S):
        raise wrong("keep_s", f"Send a number of seconds from 0 to {KEEP_LIMIT_S:,}.")
    return value


def since(body: Body) -> datetime | None:
    value = body.get("since")
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None or moment > timezone.now():
            raise ValueError
        return moment.astimezone(timezone.get_default_timezone())
    except (TypeError, ValueError, OverflowError):
        raise wrong("since", "Send a time in the past with its offset, as 2026-01-31T12:00:00Z.") from None


def whether_all(body: Body) -> bool:
    if type(value := body.get("all", False)) is not bool:
        raise wrong("all", "Send true or false.")
    return value


def ids(body: Body) -> list[UUID] | None:
    value = body.get("ids")
    if value is None:
        return None
    try:
        if not isinstance(value, list) or not 1 <= len(value) <= IDS_LIMIT:
            raise ValueError
        return [message_key(one) for one in value]
    except (TypeError, ValueError, AttributeError):
        raise wrong("ids", f"Send 1 to {IDS_LIMIT:,} ids of messages, as msg_ and 32 digits.") from None


def message_key(text: str) -> UUID:
    """Of `msg_…`. Raises ValueError for any other text."""
    if not text.startswith("msg_"):
        raise ValueError
    return UUID(text.removeprefix("msg_"))


def told(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": endpoint.key,
        "url": endpoint.url,
        "description": endpoint.description,
        "event_types": endpoint.event_types,
        "schemas": endpoint.schemas,
        "state": endpoint.state,
        "fault": endpoint.fault,
        "created_at": endpoint.created_at,
        "last_success_at": endpoint.last_success_at,
        "last_failure_at": endpoint.last_failure_at,
    }


def told_delivery(row: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": row.message_id,
        "type": row.type,
        "state": row.state,
        "attempts": row.attempts,
        "fault": row.fault,
        "created_at": row.created_at,
        "due_at": row.due_at if row.state == WebhookDelivery.State.PENDING else None,
        "finished_at": row.finished_at,
    }
