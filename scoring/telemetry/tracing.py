"""OpenTelemetry: spans of a request or an entry of a stream, of the worker's batch or task, of the statements that
these send, and of the attempts to deliver webhooks of them.

It is off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set, and nothing of OpenTelemetry is imported then. Whether a trace is
recorded is decided once, where a request, an entry or a job begins; what is not recorded costs next to nothing.

A batch carries many requests: its spans belong to the trace of the first one that is recorded, and link to the others.
Each of those has a span of the batch in its own trace, which links back (OpenTelemetry's specification, "Links between
spans").
"""

import logging
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings
from django.db import connection

from scoring.messages.submission import Submission
from scoring.messages.traces import Trace
from scoring.telemetry.release import release

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

logger = logging.getLogger(__name__)

STATEMENT_LENGTH = 2_000
LAST_SPANS_S = 3.0
# Of a trace's id, as in OpenTelemetry's TraceIdRatioBased: whoever uses it records the same traces.
RANDOM_BITS = 64

_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None
_NOTHING: AbstractContextManager[None] = nullcontext()
# Whether the running code is recorded. OpenTelemetry knows it, too, but takes longer to ask.
_records: ContextVar[bool] = ContextVar("records", default=False)


def start(process: str) -> None:
    """Record traces in this process from now on, if the settings say where to. In a process that forks, its children
    call this. `process` is what it is: web, worker, stream, deliverer."""
    global _provider, _tracer
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT or _tracer:
        return
    if sys.modules.get("opentelemetry") is None:
        sys.modules.pop("opentelemetry", None)  # see `fraudsite`
    from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    about = {"service.name": f"fraudsite-{process}", "service.version": release()}
    # What is recorded is decided before a span is made.
    _provider = TracerProvider(ALWAYS_ON, Resource.create(about))
    endpoint = f"{settings.OTEL_EXPORTER_OTLP_ENDPOINT.rstrip('/')}/v1/traces"
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    _tracer = _provider.get_tracer("fraudsite", release())


def stop() -> None:
    """Send what is recorded, and record no more. A collector that does not answer keeps no process from its end."""
    global _provider, _tracer
    if _provider:
        # The library would wait half a minute, which is all the time that a process has to end.
        sending = threading.Thread(target=_provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(LAST_SPANS_S)
    _provider = _tracer = None


def request(method: str, route: str, trace: Trace | None) -> "AbstractContextManager[Span | None]":
    """Record a request, if it is drawn; then it joins the caller's trace. Gives its span, or None.

    `route` is the address without what names a transaction or a person.
    """
    if _tracer is None or not _is_drawn(trace):
        return _NOTHING
    from opentelemetry.trace import SpanKind

    attributes = {"http.request.method": method, "http.route": route}
    return _recorded(f"{method} {route}", _within(trace), SpanKind.SERVER, attributes)


def entry(stream: str, trace: Trace | None) -> "AbstractContextManager[Span | None]":
    """Record the reading of a stream's entry, if it is drawn; then it joins the producer's trace."""
    if _tracer is None or not _is_drawn(trace):
        return _NOTHING
    from opentelemetry.trace import SpanKind

    attributes = {"messaging.system": "redis", "messaging.destination.name": stream}
    return _recorded(f"receive {stream}", _within(trace), SpanKind.CONSUMER, attributes)


def attempt(span: str, event: str) -> "AbstractContextManager[Span | None]":
    """Record an attempt to deliver a webhook, if what it tells of was. `span` is the `traceparent` of that."""
    if _tracer is None or not span:
        return _NOTHING
    from opentelemetry.trace import SpanKind

    attributes = {"http.request.method": "POST", "fraudsite.event": event}
    return _recorded(f"webhook {event}", _of_message(span), SpanKind.CLIENT, attributes)


@contextmanager
def _recorded(
    name: str, context: "Context | None", kind: Any, attributes: Any = None, links: Any = ()
) -> "Iterator[Span]":
    """Record what runs in the block."""
    assert _tracer  # noqa: S101  # the caller has looked
    token = _records.set(True)
    try:
        with _tracer.start_as_current_span(name, context, kind, attributes, links) as span:
            yield span
    finally:
        _records.reset(token)


def answered(span: "Span | None", status: int | None, name: str = "") -> None:
    """Note the status of a request's answer, None if there was none, and the name of the request if that became known
    late."""
    if span is not None:
        if name:
            span.update_name(name)
            span.set_attribute("http.route", name.partition(" ")[2])
        from opentelemetry.trace import StatusCode

        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if status is None or status >= 500:
            span.set_status(StatusCode.ERROR)


def carried() -> str:
    """The current span as a `traceparent`, for a message; empty if nothing is recorded."""
    if not _records.get():
        return ""
    from opentelemetry.trace import get_current_span

    of = get_current_span().get_span_context()
    return f"00-{of.trace_id:032x}-{of.span_id:016x}-01" if of.is_valid else ""


def carry(submission: Submission) -> Submission:
    """The submission with the current span, if that is recorded."""
    span = carried()
    return msgspec.structs.replace(submission, span=span) if span else submission


def span_id() -> str:
    """The id of the current span, 16 hexadecimal digits; empty if nothing is recorded."""
    return carried()[36:52]


@contextmanager
def task(name: str, parent: str = "", *, is_job: bool, **attributes: Any) -> Iterator[None]:
    """Record a task of Celery with its statements, if what sent it is recorded, or if it is a job of beat or a part of
    a file, and drawn. `parent` is the `traceparent` that came with its message."""
    if _tracer is None or not (parent or (is_job and _is_drawn(None))):
        yield
        return
    from opentelemetry.trace import SpanKind

    with (
        _recorded(name, _of_message(parent), SpanKind.CONSUMER, attributes),
        connection.execute_wrapper(_around_statement),
    ):
        yield


@contextmanager
def batch(submissions: Sequence[Submission], key: str) -> Iterator[None]:
    """Record the way of a batch through a worker, with its statements, if a request that it carries is recorded."""
    parents = [each.span for each in submissions if each.span] if _tracer else []
    if _tracer is None or not parents:
        yield
        return
    from opentelemetry.trace import Link, SpanKind

    first, *others = map(_of_message, dict.fromkeys(parents))
    attributes: dict[str, Any] = {"fraudsite.batch": key, "messaging.batch.message_count": len(submissions)}
    links = [Link(_context_of(each)) for each in others]
    with ExitStack() as stack:
        span = stack.enter_context(_recorded("score batch", first, SpanKind.CONSUMER, attributes, links))
        link = [Link(span.get_span_context())]
        for other in others:
            theirs = _tracer.start_span("score batch", other, SpanKind.CONSUMER, attributes, link)
            stack.callback(theirs.end)
        stack.enter_context(connection.execute_wrapper(_around_statement))
        yield


def part(name: str, **attributes: Any) -> AbstractContextManager[Any]:
    """Record a part of what is being recorded; otherwise do nothing."""
    if _tracer is None or not _records.get():
        return _NOTHING
    return _tracer.start_as_current_span(name, attributes=attributes)


def statement(sql: str, name: str = "") -> AbstractContextManager[Any]:
    """Record a statement, as `part`. It has no values: they are sent beside it. Without a name it has its first
    word."""
    if _tracer is None or not _records.get():
        return _NOTHING
    from opentelemetry.trace import SpanKind

    text = sql.strip()
    attributes = {"db.system.name": connection.vendor, "db.query.text": text[:STATEMENT_LENGTH]}
    name = name or text.partition(" ")[0].upper()
    return _tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes)


def statements_of_thread() -> AbstractContextManager[Any]:
    """Record the statements of this thread while something is recorded."""
    return connection.execute_wrapper(_around_statement) if _records.get() else _NOTHING


def _around_statement(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
    with statement(str(sql)):
        return execute(sql, params, many, context)


def _is_drawn(trace: Trace | None) -> bool:
    if trace is None:
        return random.random() < settings.TRACES_SHARE  # noqa: S311  # no secret
    if settings.TRACES_FOLLOW_CALLERS:
        return bool(int(trace.flags, 16) & 1)
    return int(trace.id[-RANDOM_BITS // 4 :], 16) < settings.TRACES_SHARE * 2**RANDOM_BITS


def _within(trace: Trace | None) -> "Context | None":
    return _of_message(f"00-{trace.id}-{trace.parent}-01") if trace else None


def _of_message(traceparent: str) -> "Context":
    """The context of a span elsewhere. An empty one begins a trace, whatever is current."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if not traceparent:
        return Context()
    _, trace, span, _ = traceparent.split("-")
    remote = SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _context_of(context: "Context") -> Any:
    from opentelemetry.trace import get_current_span

    return get_current_span(context).get_span_context()
