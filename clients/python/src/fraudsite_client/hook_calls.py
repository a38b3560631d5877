"""The calls that manage webhook endpoints, as plans: see `flow`. `webhooks` verifies what they are sent."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fraudsite_client.calls import get, not_understood, part, read, sendable
from fraudsite_client.flow import Attempt, Patience, Plan, send
from fraudsite_client.models import SecretWebhook, Webhook

PATH = "/api/v1/webhooks"


def webhook(key: str, patience: Patience) -> Plan[Webhook]:
    return read(Webhook, (yield from get(f"{PATH}/{part(key)}", patience)))


def add_webhook(fields: Mapping[str, Any], patience: Patience) -> Plan[SecretWebhook]:
    # Sent once: a second one would make a second endpoint.
    made = send(lambda left_s: Attempt("POST", PATH, left_s, json=dict(fields)), replace(patience, attempts=1))
    return read(SecretWebhook, (yield from made))


def change_webhook(key: str, fields: Mapping[str, Any], patience: Patience) -> Plan[Webhook]:
    made = send(lambda left_s: Attempt("PATCH", f"{PATH}/{part(key)}", left_s, json=dict(fields)), patience)
    return read(Webhook, (yield from made))


def remove_webhook(key: str, patience: Patience) -> Plan[None]:
    yield from send(lambda left_s: Attempt("DELETE", f"{PATH}/{part(key)}", left_s), patience)


def rotate_webhook(key: str, keep_s: float | None, patience: Patience) -> Plan[str]:
    body = {} if keep_s is None else {"keep_s": keep_s}
    return (yield from _told(f"{PATH}/{part(key)}/secrets", body, "secret", replace(patience, attempts=1)))


def test_webhook(key: str, patience: Patience) -> Plan[str]:
    return (yield from _told(f"{PATH}/{part(key)}/test", {}, "id", replace(patience, attempts=1)))


def replay_webhook(key: str, fields: Mapping[str, Any], patience: Patience) -> Plan[int]:
    body = {name: sendable(value) for name, value in fields.items() if value is not None}
    return (yield from _told(f"{PATH}/{part(key)}/replay", body, "replayed", patience))


def _told(path: str, body: Mapping[str, Any], name: str, patience: Patience) -> Plan[Any]:
    """The value of this name in what a call answers."""
    response = yield from send(lambda left_s: Attempt("POST", path, left_s, json=dict(body)), patience)
    try:
        return response.json()[name]
    except (ValueError, KeyError, TypeError):
        raise not_understood(response) from None
