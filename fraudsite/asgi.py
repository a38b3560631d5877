"""The web application: predict calls wait on the event loop, everything else runs in a bounded pool of threads.

A thread that waits for a score costs more than the call itself (docs/performance.md), and Django's own ASGI handler
passes each call to a thread. So predict calls are passed to their view here.
"""

import asyncio
import gc
import multiprocessing
import threading
import time
from collections.abc import Iterable
from io import BytesIO
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIEnvironment

from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.exception import response_for_exception
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.security import SecurityMiddleware
from django.urls import resolve

from fraudsite import draining, lifeline, wsgi
from fraudsite.middleware import RequestIdMiddleware
from scoring import metrics, served
from scoring.api import limiting, ordinary, problems, refusals
from scoring.clients import uses
from scoring.exceptions import BodyCutOff
from scoring.limits.meter import Spent
from scoring.messages import clock
from scoring.messages.traces import Trace
from scoring.telemetry import pool, tracing

LAST_WRITES_S = 2.0


class RealtimeHandler:
    """Serves the predict calls, whose view never blocks the loop.

    It does what these middlewares do: the request's id, the check of the host, and SecurityMiddleware, whose headers
    are the same in every answer. Django's request signals are not sent, as there is nothing for them to clean up.
    """

    def __init__(self) -> None:
        self._views = {path: resolve(path, "scoring.urls").func for path in settings.REALTIME_PATHS}
        self._identify = RequestIdMiddleware(lambda request: HttpResponse())
        self._secure = SecurityMiddleware(lambda request: HttpResponse())
        self._security_headers: dict[bool, list[tuple[bytes, bytes]]] = {}

    def serves(self, path: str) -> bool:
        return path in self._views

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = await _read(receive, settings.PREDICT_BODY_LIMIT_BYTES)
        if body is None:
            await self._refuse(scope, send)
            return
        trace = ordinary.trace_of(scope)
        with tracing.request(scope["method"], scope["path"], trace) as span:
            tracing.answered(span, await self._answer(scope, body, trace, send))

    async def _answer(self, scope: dict[str, Any], body: bytes, trace: Trace | None, send: Any) -> int:
        """Answer a call. Returns the status."""
        head = ordinary.head_of(scope)
        asked: ordinary.Asked | None = None
        spent: Spent | None = None
        if known := ordinary.recognise(head, scope):
            key, headers = known
            uses.note(key)
            spent = limiting.count(key, ordinary.PREDICT)
            asked = None if spent.refused else await ordinary.ask(body, key, trace.id if trace else "")
            if asked and (answer := asked.answer) is not None:
                metrics.REQUESTS.labels(200).observe(time.perf_counter() - asked.began)
                of_call = [(b"x-request-id", asked.request_id.encode()), _length_of(answer)]
                if trace:
                    of_call.append((b"traceresponse", trace.response(tracing.span_id()).encode()))
                await _send(send, 200, [*headers, *limiting.lines_of(spent), *of_call], answer)
                return 200
        request = ASGIRequest(scope, BytesIO(body))
        request.urlconf = "scoring.urls"
        request.spent = spent  # type: ignore[attr-defined]
        if asked:
            request.asked = asked  # type: ignore[attr-defined]
            request.META["HTTP_X_REQUEST_ID"] = asked.request_id
        response = await self._respond(request)
        headers = self._headers(request, response)
        if response.status_code == 200 and request.method == "POST" and "Idempotent-Replayed" not in response:
            ordinary.remember(head, request, headers)
        await _send(send, response.status_code, headers, b"" if request.method == "HEAD" else response.content)
        return response.status_code

    async def _refuse(self, scope: dict[str, Any], send: Any) -> None:
        """Answer a call whose body was cut off: its client may have gone, or still read."""
        request = ASGIRequest(scope, BytesIO())
        self._identify.process_request(request)
        told = problems.document_of(request, BodyCutOff())
        response: Any = JsonResponse(told, status=told["status"], content_type=problems.CONTENT_TYPE)
        response = self._identify.process_response(request, response)
        await _send(send, response.status_code, self._headers(request, response), response.content)

    async def _respond(self, request: HttpRequest) -> HttpResponse:
        self._identify.process_request(request)
        try:
            response: HttpResponse | None = self._secure.process_request(request)
            if response is None:
                request.get_host()
                response = await self._views[request.path_info](request)
        except Exception as error:  # as in Django: logged, and answered with 500, or 400 for a wrong Host
            response = response_for_exception(request, error)
        return self._identify.process_response(request, cast(HttpResponse, response))

    def _headers(self, request: HttpRequest, response: HttpResponse) -> list[tuple[bytes, bytes]]:
        secure = request.is_secure()
        if secure not in self._security_headers:
            blank = HttpResponse()
            del blank["Content-Type"]
            self._security_headers[secure] = _encoded(self._secure.process_response(request, blank))
        return [*_encoded(response), *self._security_headers[secure], _length_of(response.content)]


def _encoded(response: HttpResponse) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.items()]


def _length_of(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


async def _send(send: Any, status: int, headers: ordinary.Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Any, limit_bytes: int) -> bytes | None:
    """The body, cut off soon after the limit. None if it ended before its end, as when the client goes away."""
    body = b""
    while len(body) <= limit_bytes:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


def _in_wsgi(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["wsgi.input_terminated"] = True  # a2wsgi marks the end of a body, with or without a Content-Length
    return wsgi.application(environ, start_response)


realtime = RealtimeHandler()
everything_else: Any = WSGIMiddleware(cast(Any, _in_wsgi), workers=settings.WEB_THREADS)


_in_threads: set[asyncio.Future[None]] = set()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if draining.begun:
        send = draining.closing(scope, send)
    if scope["type"] == "http" and realtime.serves(scope["path"]):
        await realtime(scope, receive, send)
    else:
        await _in_thread(scope, receive, send)


async def _in_thread(scope: dict[str, Any], receive: Any, send: Any) -> None:
    async def received() -> Any:  # a2wsgi needs a coroutine, and Granian gives another awaitable
        message = await receive()
        if message["type"] != "http.request":
            # For a2wsgi the body would end here, and a part of a file would be taken for the whole.
            raise ConnectionResetError("The body was cut off.")
        return message

    # WSGI cannot tell `X_Forwarded_For` from `X-Forwarded-For`, so a client could forge the proxy's header.
    headers = [(name, value) for name, value in scope.get("headers", ()) if b"_" not in name]
    ended = asyncio.get_running_loop().create_future()
    _in_threads.add(ended)
    try:
        await everything_else(scope | {"headers": headers}, received, send)
    finally:
        _in_threads.discard(ended)
        ended.set_result(None)


async def _lifespan(receive: Any, send: Any) -> None:
    """Keep the loop running until all threads that use it have ended; otherwise they would block the process's end.

    At the end the counts of refused calls and the last uses of keys are stored, if that takes no longer than
    `LAST_WRITES_S`: a database that waits for a lock, or a silent collector of spans, keeps no process from its end.
    """
    await receive()
    draining.listen()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if _in_threads:
        await asyncio.wait(_in_threads)
    # A thread of a pool would be waited for at the end of the process.
    writing = threading.Thread(target=_write_the_last, name="last-writes", daemon=True)
    writing.start()
    await asyncio.to_thread(writing.join, LAST_WRITES_S)
    await asyncio.to_thread(tracing.stop)
    await send({"type": "lifespan.shutdown.complete"})


def _write_the_last() -> None:
    refusals.flush()
    uses.flush()
    connection.close()


served.follow()
clock.follow()
pool.follow()
tracing.start("web")

if server := multiprocessing.parent_process():  # a worker of Granian must not outlive its server
    lifeline.follow_parent(server.pid)

# What is loaded by now stays for good, so the garbage collector need not traverse it again.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 100)
