"""Sends one message to one endpoint, as https://www.standardwebhooks.com has it."""

import asyncio
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache

import httpcore
import httpx
from django.conf import settings
from standardwebhooks import Webhook

from scoring.webhooks import targets
from scoring.webhooks.models import FAULT_LENGTH, WebhookDelivery
from training import clock
from training.core.exceptions import FraudsiteError

ANSWER_READ_BYTES = 4_096
# For so long a connection is kept that nothing is sent by.
KEEP_S = 30.0
# What a receiver asks for is taken up to this, which every calendar has room for.
LONGEST_RETRY_AFTER_S = 999_999_999.0
GONE = 410


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt that began `at`. `retry_after_s` is what the receiver asked for, if it did."""

    delivery: WebhookDelivery
    at: datetime
    latency_ms: float
    status: int | None = None
    fault: str = ""
    answer: str = ""
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def connection(network: targets.PublicNetwork) -> httpcore.AsyncConnectionPool:
    """A connection to one endpoint, for one call at a time: no proxy, no redirects, no cookies. Those to the same
    endpoint have one network.

    It is a pool of one. In a larger pool each call looks at all connections, by a system call for each that is idle:
    with 32 of them a call takes six times the processor's time.
    """
    return httpcore.AsyncConnectionPool(_tls(), max_connections=1, keepalive_expiry=KEEP_S, network_backend=network)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def headers_of(delivery: WebhookDelivery, secrets: list[Webhook], at: datetime) -> dict[str, str]:
    """The headers of a message that is sent at this time, with a signature by each live secret."""
    signatures = [secret.sign(delivery.message_id, at, delivery.payload) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": "Fraudsite-Webhooks/1",
        "webhook-id": delivery.message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


async def send(
    delivery: WebhookDelivery, url: str, secrets: list[Webhook], through: httpcore.AsyncConnectionPool
) -> Outcome:
    """Attempt a delivery, within `WEBHOOK_TIMEOUT_S` from the look-up of the name to the end of the answer."""
    at, began = clock.now(), time.perf_counter()
    answer, status, fault, retry_after_s = b"", None, "", None
    try:
        targets.check_url(url)
        headers = list(headers_of(delivery, secrets, at).items())
        async with (
            asyncio.timeout(settings.WEBHOOK_TIMEOUT_S),
            through.stream("POST", url, headers=headers, content=delivery.payload.encode()) as response,
        ):
            status = response.status
            sent = {name.lower(): value for name, value in response.headers}
            retry_after_s = _retry_after_s(sent.get(b"retry-after", b"").decode("latin-1"), at)
            async for part in response.aiter_stream():
                answer += part[: ANSWER_READ_BYTES - len(answer)]
                if len(answer) >= ANSWER_READ_BYTES:
                    break
    except TimeoutError:
        fault = f"No whole answer within {settings.WEBHOOK_TIMEOUT_S:g} s."
        status = None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError, ValueError) as error:
        # Once the status is here, an answer that breaks off changes nothing.
        fault = "" if status else f"{error or type(error).__name__}"
    except FraudsiteError as error:
        fault = str(error)
    if status and 300 <= status < 400:
        fault = "Redirects are not followed: enter the address that it leads to."
    return Outcome(
        delivery=delivery,
        at=at,
        latency_ms=round((time.perf_counter() - began) * 1000, 3),
        status=status,
        fault=_plain(fault)[:FAULT_LENGTH],
        answer=_plain(answer.decode("utf-8", "replace")),
        retry_after_s=retry_after_s,
    )


def _plain(text: str) -> str:
    """Text that every database stores."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _retry_after_s(value: str, now: datetime) -> float | None:
    """Of a `Retry-After`: a number of seconds, or a date (RFC 9110)."""
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    wait_s = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return min(max(0.0, wait_s), LONGEST_RETRY_AFTER_S)
