"""Ordinary predict calls: their head is that of an earlier call, which the whole chain has accepted.

A client sends the same head with each call: the same host, key and media types. What middleware, authentication and
content negotiation make of it is known, and takes longer than all checks of the body. So only the key is looked up
again, as it may have been revoked. Whatever is not ordinary is left to the whole chain, from the start or, if a worker
was asked already, with what came of that.
"""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import uuid_utils
from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from scoring.api import views
from scoring.api.authentication import ring
from scoring.api.decoding import read_plain
from scoring.exceptions import RequestRefused
from scoring.messages import request_ids
from scoring.messages.replies import Kind, Outcome
from scoring.models import ApiKey

Headers = list[tuple[bytes, bytes]]

# They differ from call to call, and the predict call does not read them.
OF_ONE_CALL = {b"content-length", b"x-forwarded-for", b"traceparent", b"tracestate"}
OF_ONE_ANSWER = {b"content-length", b"x-request-id"}
# With one of these a call is not ordinary.
READ_AT_EACH_CALL = {b"x-request-id", b"prefer", b"idempotency-key"}
HEADS_KEPT = 1_000


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


def recognise(head: Any) -> tuple[ApiKey, Headers] | None:
    """The key of a call, and the headers of its answer, if its head is known and its key still valid."""
    known = _known.get(head)
    key = ring.recall(known.digest) if known else None
    return (key, known.headers) if known and key else None


def remember(head: Any, request: HttpRequest, headers: Headers) -> None:
    """Take the head of a call for known. `headers` are those of its answer."""
    key = getattr(request, "recalled_key", None)
    if head is None or key is None:
        return
    if len(_known) >= HEADS_KEPT:
        _known.clear()
    _known[head] = Known(key.digest, [header for header in headers if header[0] not in OF_ONE_ANSWER])


async def ask(raw: bytes, key: ApiKey) -> Asked | None:
    """Check a body and have it scored. None if something is wrong with it, which the whole chain then tells."""
    began, received_at = time.perf_counter(), timezone.now()
    if len(raw) > settings.PREDICT_BODY_LIMIT_BYTES or (body := read_plain(raw)) is None:
        return None
    asked = Asked(str(uuid_utils.uuid7()), began)
    request_ids.begin([asked.request_id])
    try:
        submission = await views.submission_of(
            body,
            received_at,
            client_id=key.client_id,
            request_id=asked.request_id,
            deadline_ms=settings.PREDICT_DEADLINE_MS,
        )
    except RequestRefused:
        return None
    try:
        asked.outcome = await views.ask(submission)
    except Exception as error:
        asked.error = error
    return asked
