import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from inspect import iscoroutine
from threading import BoundedSemaphore
from typing import Any, TypeVar

import msgspec
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from scoring import gateway, metrics, tasks
from scoring.api import declaring, problems, refusals
from scoring.api.authentication import needs_database
from scoring.api.decoding import Body, read_object
from scoring.api.limiting import count_rows
from scoring.api.outcomes import refusal_of
from scoring.api.permissions import key_of, refuse_other_schemas
from scoring.api.preferences import Preferences, read_preferences
from scoring.api.rates import courses
from scoring.api.serializers import (
    BatchAnswerSerializer,
    PendingSerializer,
    PredictionSerializer,
)
from scoring.api.stored import pending_answer
from scoring.api.validation import Submission, refuse_card_data, schema_of, validate
from scoring.clients.models import Scope
from scoring.exceptions import (
    DatabaseUnavailable,
    FieldError,
    InvalidFields,
    RequestRefused,
    ScorerUnavailable,
)
from scoring.gateway import Waiting
from scoring.messages.replies import Kind, Outcome
from scoring.models import ApiKey
from scoring.sandbox import answering
from scoring.sandbox.outcomes import outcome_of
from scoring.telemetry import logs, tracing
from scoring.worker import pending
from training import clock
from training.core.exchange.rates import NO_RATES
from training.core.schema import Schema

T = TypeVar("T")
# `scoring.api.openapi` puts the schemas of the moment in its place.
BODY = {"application/json": {"type": "object"}}
# Bare, or a quoted string of RFC 9651.
IDEMPOTENCY_KEY = {"type": "string", "pattern": r'^(?:[!#-~\u00a1-\u00ac\u00ae-\u00ff]{1,64}|"[!#-\[\]-~]{1,62}")$'}
UNAVAILABLE = ("too-many-requests-in-flight", "scorer-unavailable")
PROBLEMS = declaring.problems(
    *declaring.OF_BODIES,
    *UNAVAILABLE,
    "schema-not-allowed",
    "schema-without-a-champion",
    "transaction-id-already-used",
    "unscorable-transaction",
)


class PredictView(APIView):
    scope = Scope.PREDICT
    takes_test_keys = True
    allowed_methods = ["POST", "OPTIONS"]  # otherwise DRF looks for them at each call
    view_is_async = True  # Django cannot see it if a decorator wraps `post`
    parser_classes = ()  # `read_object` is stricter than DRF's

    @extend_schema(
        operation_id="predict",
        summary="Score a transaction",
        description="Stores the transaction, scores it and answers. An answer of 200 means that both are stored. "
        "`Idempotent-Replayed: true` marks the stored answer to a repeated transaction id.",
        parameters=[
            OpenApiParameter(
                "Prefer",
                str,
                OpenApiParameter.HEADER,
                description="`wait=<seconds>` lowers the deadline. `respond-async` stores the transaction, answers 202 "
                "with the address of the result, and scores it afterwards (RFC 7240).",
            ),
            OpenApiParameter(
                "Idempotency-Key",
                IDEMPOTENCY_KEY,
                OpenApiParameter.HEADER,
                description='Another way to send `transaction_id`, as `order-1` or `"order-1"`.',
            ),
        ],
        request=BODY,
        responses={200: PredictionSerializer, 202: PendingSerializer} | PROBLEMS,
    )
    async def post(self, request: Request) -> HttpResponse:
        received_at = clock.now()
        preferences = read_preferences(request.META.get("HTTP_PREFER", ""))
        if asked := getattr(request._request, "asked", None):
            return _response(asked.result(), preferences)
        refuse_card_data({}, {"X-Request-ID": request.META.get("HTTP_X_REQUEST_ID")})
        body = read_object(request._request, limit_bytes=settings.PREDICT_BODY_LIMIT_BYTES)
        submission = await submission_of(
            body,
            received_at,
            api_key=key_of(request),
            deadline_ms=_deadline_ms(preferences),
            is_ours=not request._request.names_itself,  # type: ignore[attr-defined]
            **_named(request),
            key=request.META.get("HTTP_IDEMPOTENCY_KEY"),
        )
        if key_of(request).is_test:
            outcome = await _rehearse(submission, body, preferences)
        else:
            outcome = await (_accept(submission) if preferences.respond_async else ask(submission))
        return _response(outcome, preferences)

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        """DRF's `dispatch` for an async handler. Nothing here may block the event loop."""
        asked = getattr(request, "asked", None)
        began = asked.began if asked else time.perf_counter()
        self.args, self.kwargs = args, kwargs
        self.headers = self.default_response_headers
        self.request = wrapped = self.initialize_request(request, *args, **kwargs)
        try:
            if needs_database(request):
                await _in_thread(self.initial)(wrapped)
            else:
                self.initial(wrapped)
            handler = getattr(self, request.method.lower(), self.http_method_not_allowed)  # type: ignore[union-attr]
            response = handler(wrapped)
            if iscoroutine(response):
                response = await response
        except Exception as error:
            response = self.handle_exception(error)
        self.response = self.finalize_response(wrapped, response)
        if isinstance(self.response, SimpleTemplateResponse):
            self.response.render()
        metrics.REQUESTS.labels(self.response.status_code).observe(time.perf_counter() - began)
        # This breaks DRF's reference cycle: the garbage collector's pauses for such cycles were most of the p99.
        wrapped.parser_context.clear()
        return self.response


class BatchView(APIView):
    scope = Scope.BATCH
    takes_test_keys = True
    parser_classes = ()

    @extend_schema(
        operation_id="predict_batch",
        summary="Score many transactions",
        description=f"Scores up to {settings.BATCH_LIMIT:,} transactions and answers for each, in order. A transaction "
        "that is refused does not keep the others from their scores: its result has the problem document. A list has "
        "no `Idempotency-Key`: each transaction has its own `transaction_id`.",
        request=BODY,
        responses={200: BatchAnswerSerializer} | declaring.problems(*declaring.OF_BODIES, *UNAVAILABLE),
    )
    def post(self, request: Request) -> HttpResponse:
        received_at = clock.now()
        key = request.META.get("HTTP_IDEMPOTENCY_KEY")
        refuse_card_data({}, {"X-Request-ID": request.META.get("HTTP_X_REQUEST_ID"), "Idempotency-Key": key})
        if key is not None:
            each = "Idempotency-Key: a list has none. Send a transaction_id in each of its transactions."
            raise InvalidFields(errors=[FieldError("", "idempotency_key_of_a_list", each)])
        results: dict[int, bytes] = {}
        submissions: dict[int, Submission] = {}
        body = read_object(request._request, limit_bytes=settings.BATCH_BODY_LIMIT_BYTES, has_rows=True)
        rows = _rows(body)
        count_rows(self, request, len(rows))
        for index, row in enumerate(rows):
            try:
                if not isinstance(row, dict):
                    raise InvalidFields("A transaction must be a JSON object.")
                schema = _schema_of(row, key_of(request))
                rates = courses.now() if schema.amount_currency else NO_RATES
                submissions[index] = _validated(
                    row,
                    received_at,
                    schema=schema,
                    rates=rates,
                    client_id=request.user.pk,
                    **_named(request),
                    deadline_ms=settings.BATCH_DEADLINE_MS,
                )
            except RequestRefused as refusal:
                results[index] = _refused(refusal, request)
        if key_of(request).is_test:
            results |= {index: _rehearsed(each, rows[index], request) for index, each in submissions.items()}
        else:
            results |= zip(submissions, _ask_in_chunks(list(submissions.values()), request), strict=True)
        answer = b'{"results":[%b]}' % b",".join(results[index] for index in range(len(rows)))
        return HttpResponse(answer, content_type="application/json")


def _schema_of(body: Body, api_key: ApiKey, key: str | None = None) -> Schema:
    """The schema of a body that has no card data, which the key may be used for."""
    refuse_card_data(body, {"Idempotency-Key": key})
    schema = schema_of(body)
    refuse_other_schemas(api_key, schema.name)
    return schema


def _named(request: Request) -> dict[str, str]:
    """What names a request."""
    trace = request._request.trace  # type: ignore[attr-defined]
    return {"request_id": request._request.request_id, "trace_id": trace.id if trace else ""}  # type: ignore[attr-defined]


async def submission_of(
    body: Body,
    received_at: datetime,
    *,
    api_key: ApiKey,
    request_id: str,
    deadline_ms: int,
    is_ours: bool = False,
    trace_id: str = "",
    key: str | None = None,
) -> Submission:
    """Check the body of a predict call. `request_id` may be the transaction's id, too, if it `is_ours`.

    Raises:
        RequestRefused: it is not a valid transaction, or of a schema that the key may not be used for.
    """
    schema = _schema_of(body, api_key, key)
    rates = NO_RATES
    if schema.amount_currency:
        rates = courses.kept() or await _in_thread(courses.now)()
    submission = _validated(
        body,
        received_at,
        schema=schema,
        rates=rates,
        client_id=api_key.client_id,
        request_id=request_id,
        is_ours=is_ours,
        trace_id=trace_id,
        deadline_ms=deadline_ms,
        idempotency_key=key,
    )
    logs.begin(transaction=submission.id)
    return submission


def _validated(body: Body, received_at: datetime, **known: Any) -> Submission:
    return validate(body, received_at=received_at, clock_skew_s=settings.PREDICT_CLOCK_SKEW_S, **known)


def _deadline_ms(preferences: Preferences) -> int:
    if preferences.wait_s is None:
        return settings.PREDICT_DEADLINE_MS
    return min(settings.PREDICT_DEADLINE_MS, max(1, preferences.wait_s * 1000))


async def ask(submission: Submission) -> Outcome:
    """Have a submission scored. If no worker answers and the settings allow it, decide by rules."""
    try:
        [outcome] = await gateway.realtime().ask([tracing.carry(submission)])
        if outcome.kind not in (Kind.EXPIRED, Kind.FAILED, Kind.NO_CHAMPION):
            return outcome
        raise refusal_of(outcome)
    except ScorerUnavailable as refusal:
        if settings.FALLBACK_POLICY == "refuse":
            raise
        metrics.FALLBACKS.labels(refusal.reason).inc()
        return await _in_thread(pending.fall_back)(submission=submission, reason=refusal.reason)


async def _rehearse(submission: Submission, body: Body, preferences: Preferences) -> Outcome:
    """Answer a call with a key for tests as its values ask for."""
    wanted = outcome_of(schema_of(body), body)
    await asyncio.sleep(answering.pause_s(wanted, submission))
    outcome = await _in_thread(answering.answer)(submission, wanted)
    is_new = outcome.kind is Kind.SCORED
    return Outcome(Kind.PENDING, submission.id.encode()) if is_new and preferences.respond_async else outcome


def _rehearsed(submission: Submission, row: Body, request: Request) -> bytes:
    """The result of a row of a list that came with a key for tests. No row is slow."""
    try:
        return _result(answering.answer(submission, outcome_of(schema_of(row), row)), request)
    except RequestRefused as refusal:
        return _refused(refusal, request)


async def _accept(submission: Submission) -> Outcome:
    outcome = await _in_thread(pending.accept)(submission=submission)
    if outcome == Outcome(Kind.PENDING, submission.id.encode()):
        _send_soon(submission.id)
    return outcome


_senders = ThreadPoolExecutor(2, thread_name_prefix="send-pending")
_sendable = BoundedSemaphore(settings.GATEWAY_QUEUE_LIMIT)


def _send_soon(transaction_id: str) -> None:
    """Send in another thread: the answer does not wait for the broker. The reconciler sends what this cannot."""
    if _sendable.acquire(blocking=False):
        sending = _senders.submit(copy_context().run, tasks.send_pending, transaction_id)
        sending.add_done_callback(lambda _: _sendable.release())


def _in_thread(call: Callable[..., T]) -> Callable[..., Awaitable[T]]:
    """Make a coroutine of a call that needs the database; it runs in a thread of its own.

    The request waits at most `PREDICT_DEADLINE_MS`. If the database hangs longer, the client repeats the request to
    learn whether the transaction was stored.
    """

    def connected(*args: Any, **kwargs: Any) -> T:
        try:
            return call(*args, **kwargs)
        except Error as error:
            raise DatabaseUnavailable from error
        finally:
            if not connection.in_atomic_block:  # tests run inside a transaction that they roll back
                connection.close()

    async def in_own_thread(*args: Any, **kwargs: Any) -> T:
        async with ThreadSensitiveContext():  # leaving it waits for the thread, and so never happens before its end
            return await sync_to_async(connected)(*args, **kwargs)

    async def awaited(*args: Any, **kwargs: Any) -> T:
        under_way = asyncio.ensure_future(in_own_thread(*args, **kwargs))
        done, _ = await asyncio.wait({under_way}, timeout=settings.PREDICT_DEADLINE_MS / 1000)
        if not done:
            under_way.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # or asyncio complains
            raise DatabaseUnavailable
        return under_way.result()

    return awaited


def _ask_in_chunks(submissions: list[Submission], request: Request) -> Iterator[bytes]:
    """The result of each, in order. All chunks are sent before the first is awaited."""
    line: list[tuple[list[Submission], Waiting | RequestRefused]] = []
    for start in range(0, len(submissions), settings.BATCH_CHUNK):
        chunk = submissions[start : start + settings.BATCH_CHUNK]
        chunk[0] = tracing.carry(chunk[0])
        try:
            line.append((chunk, gateway.bulk().join(chunk)))
        except RequestRefused as refusal:
            if not start:  # nothing of the call is under way
                raise
            line.append((chunk, refusal))
    for chunk, waiting in line:
        try:
            if isinstance(waiting, RequestRefused):
                raise waiting
            outcomes = waiting.wait()
        except RequestRefused as refusal:
            yield from (_refused(refusal, request) for _ in chunk)
        else:
            yield from (_result(outcome, request) for outcome in outcomes)


def _rows(body: Body) -> list[Any]:
    rows = body.get("transactions")
    if not isinstance(rows, list) or len(body) > 1 or not 1 <= len(rows) <= settings.BATCH_LIMIT:
        wanted = f"Send one field, a list of 1 to {settings.BATCH_LIMIT:,} transactions."
        raise InvalidFields(errors=[FieldError("/transactions", "invalid_list", wanted)])
    return rows


def _response(outcome: Outcome, preferences: Preferences) -> HttpResponse:
    match outcome.kind:
        case Kind.SCORED:
            return HttpResponse(outcome.answer, content_type="application/json")
        case Kind.REPEATED:
            headers = {"Idempotent-Replayed": "true"}
            return HttpResponse(outcome.answer, content_type="application/json", headers=headers)
        case Kind.PENDING:
            return pending_answer(outcome.answer.decode(), respond_async=preferences.respond_async)
    raise refusal_of(outcome)


def _result(outcome: Outcome, request: Request) -> bytes:
    match outcome.kind:
        case Kind.SCORED | Kind.REPEATED:
            return b'{"status":200,"prediction":%b}' % outcome.answer
        case Kind.PENDING:
            return b'{"status":202,"id":"%b"}' % outcome.answer
    return _refused(refusal_of(outcome), request)


def _refused(refusal: RequestRefused, request: Request) -> bytes:
    refusals.count(refusal.status, refusal.title, client=key_of(request).client_id)
    problem = problems.document_of(request._request, refusal)
    return msgspec.json.encode({"status": problem["status"], "problem": problem})
