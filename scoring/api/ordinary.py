"""Ordinary predict calls: their head is that of an earlier call, which the whole chain has accepted.

A client sends the same head with each call: the same host, key and media types. What middleware, authentication and
content negotiation make of it is known, and takes longer than all checks of the body. So only the key is looked up
again, as it may have been revoked or changed, or have expired. Whatever is not ordinary is left to the whole chain,
from the start or, if a worker was asked already, with what came of that.
"""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import uuid_utils
from django.conf import settings
from django.http import HttpRequest

from scoring.api import views
from scoring.api.authentication import ring
from scoring.api.decoding import read_plain
from scoring.clients.addresses import address_of
from scoring.clients.models import Scope
from scoring.exceptions import RequestRefused
from scoring.messages import request_ids, traces
from scoring.messages.replies import Kind, Outcome
from scoring.messages.traces import Trace
from scoring.models import ApiKey
from training import clock

Headers = list[tuple[bytes, bytes]]

# They differ from call to call, and what is made of them depends on nothing else in the head.
OF_ONE_CALL = {b"content-length", b"x-forwarded-for", b"traceparent", b"tracestate"}
OF_ONE_ANSWER = {b"content-length", b"x-request-id", b"traceresponse", b"ratelimit", b"ratelimit-policy"}
# With one of these a call is not ordinary.
READ_AT_EACH_CALL = {b"x-request-id", b"prefer", b"idempotency-key"}
HEADS_KEPT = 1_000
PREDICT = Scope.PREDICT.value


class Known(NamedTuple):
    """The digest of an accepted head's key, and the headers of its answers."""

    digest: str
    headers: Headers


@dataclass(slots=True)
class Asked:
    """What came of asking a worker: an outcome, or the error. `began` is on the clock of `time.perf_counter`."""

    request_id: str
    began: float
    outcome: Outcome | None = None
    error: Exception | None = None

    @property
    def answer(self) -> bytes | None:
        """The answer of an ordinary outcome."""
        return self.outcome.answer if self.outcome and self.outcome.kind is Kind.SCORED else None

    def result(self) -> Outcome:
        if self.outcome is None:
            raise self.error or RuntimeError("no outcome")
        return self.outcome


_known: dict[Any, Known] = {}


def head_of(scope: dict[str, Any]) -> Any:
    """What decides how a call is received, apart from its body; None if it cannot be ordinary."""
    headers = [header for header in scope["headers"] if header[0] not in OF_ONE_CALL]
    if any(name in READ_AT_EACH_CALL for name, _ in headers):
        return None
    return scope["method"], scope["scheme"], scope["path"], scope["query_string"], *headers


def recognise(head: Any, scope: dict[str, Any]) -> tuple[ApiKey, Headers] | None:
    """The key of a call, and the headers of its answer, if its head is known and its key may still be used for it."""
    known = _known.get(head)
    key = ring.recall(known.digest) if known else None
    return (key, known.headers) if known and key and _allows(key, scope) else None


def _allows(key: ApiKey, scope: dict[str, Any]) -> bool:
    """What authentication and permission would find. All of it may have changed since the head was remembered."""
    if key.is_test or (key.expires_at is not None and key.expired()):
        return False
    return PREDICT in key.scopes and (not key.networks or key.allows_address(_address(scope)))


def _address(scope: dict[str, Any]) -> str | None:
    seen = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return address_of(",".join(seen), (scope.get("client") or [""])[0])


def remember(head: Any, request: HttpRequest, headers: Headers) -> None:
    """Take the head of a call for known. `headers` are those of its answer."""
    key = getattr(request, "recalled_key", None)
    if head is None or key is None:
        return
    if len(_known) >= HEADS_KEPT:
        _known.clear()
    _known[head] = Known(key.digest, [header for header in headers if header[0] not in OF_ONE_ANSWER])


def trace_of(scope: dict[str, Any]) -> Trace | None:
    """The trace that the caller told."""
    told = [value for name, value in scope["headers"] if name == b"traceparent"]
    return traces.read(told[0].decode("latin-1")) if len(told) == 1 else None


async def ask(raw: bytes, key: ApiKey, trace_id: str = "") -> Asked | None:
    """Check a body and have it scored. None if something is wrong with it, which the whole chain then tells."""
    began, received_at = time.perf_counter(), clock.now()
    if len(raw) > settings.PREDICT_BODY_LIMIT_BYTES or (body := read_plain(raw)) is None:
        return None
    asked = Asked(str(uuid_utils.uuid7()), began)
    request_ids.begin([request_ids.name_of(asked.request_id, trace_id)])
    try:
        submission = await views.submission_of(
            body,
            received_at,
            api_key=key,
            request_id=asked.request_id,
            is_ours=True,
            trace_id=trace_id,
            deadline_ms=settings.PREDICT_DEADLINE_MS,
        )
    except RequestRefused:
        return None
    try:
        asked.outcome = await views.ask(submission)
    except Exception as error:
        asked.error = error
    return asked
