"""Verifies webhooks by Standard Webhooks (https://www.standardwebhooks.com)."""

import base64
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fraudsite_client.errors import FraudsiteError

PREFIX = "whsec_"
TOLERANCE_S = 300.0


class NotVerified(FraudsiteError):
    """The message is not from Fraudsite, was changed on its way, or is too old. Answer with 400 and forget it."""


@dataclass(frozen=True)
class Event:
    """Something that happened. `id` is the same in every attempt and replay: remember it, to act once.

    `timestamp` is when it happened (RFC 3339); `data` depends on the `type`, and may have names that are new.
    """

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secrets: str | Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> Event:
    """Check the signature of a webhook, and read its event.

    `body` is what came, byte for byte. `secrets` are those of the endpoint, `whsec_…`: one, or several while you change
    over. `now` is in seconds since 1970, by default the clock's.

    Raises:
        NotVerified: see there.
        ValueError: a secret is not one.
    """
    keys = [_key_of(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    if not keys:
        raise ValueError("Give at least one secret.")
    given = {name.lower(): value for name, value in headers.items()}
    try:
        key, sent_at, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        age_s = (time.time() if now is None else now) - int(sent_at)
    except (KeyError, ValueError):
        raise NotVerified("The headers webhook-id, webhook-timestamp and webhook-signature are needed.") from None
    if abs(age_s) > tolerance_s:
        raise NotVerified(f"The message is {age_s:.0f} s old, and at most {tolerance_s:.0f} are accepted.")
    signed = b"%b.%b.%b" % (key.encode(), sent_at.encode(), body)
    wanted = [base64.b64encode(hmac.digest(secret, signed, "sha256")) for secret in keys]
    found = [
        value.encode() for version, _, value in (each.partition(",") for each in signatures.split()) if version == "v1"
    ]
    # Each pair is compared, and in constant time, so that the time tells nothing.
    if not any([hmac.compare_digest(ours, theirs) for ours in wanted for theirs in found]):  # noqa: C419
        raise NotVerified("No signature matches.")
    try:
        content = json.loads(body)
        return Event(key, content["type"], content["timestamp"], content["data"])
    except (ValueError, KeyError, TypeError):
        raise NotVerified("The signed body is no event.") from None


def _key_of(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        raise ValueError("A secret is `whsec_` and base64.") from None
    if not key:  # anybody could sign with it
        raise ValueError("The secret is empty: give that of the endpoint, `whsec_` and base64.")
    return key
