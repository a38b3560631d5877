import logging
import re
from collections.abc import Callable

import uuid_utils
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.middleware.common import CommonMiddleware
from django.utils.deprecation import MiddlewareMixin

from scoring.messages import request_ids, traces
from scoring.telemetry import logs, tracing
from training.core.card_numbers import holds_card_number

# A caller's own id is used if it has this form, so that logs on both sides match. Other ids and card numbers are
# replaced.
ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class No503(logging.Filter):
    """Drops the log line that Django writes for each answer with 503."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "status_code", None) != 503


class RequestIdMiddleware(MiddlewareMixin):
    """Give each request an id (`request.request_id`), which is also in the answer's `X-Request-ID` header and in every
    log line of the request. `request.names_itself` says that the caller sent it, and `request.trace` is the caller's
    trace, if it told one: that is answered and logged, too."""

    def process_request(self, request: HttpRequest) -> None:
        offered = request.META.get("HTTP_X_REQUEST_ID", "")
        is_usable = bool(ACCEPTABLE.fullmatch(offered)) and not holds_card_number(offered)
        request_id = offered if is_usable else str(uuid_utils.uuid7())
        trace = traces.read(request.META.get("HTTP_TRACEPARENT", ""))
        request.request_id = request_id  # type: ignore[attr-defined]
        request.names_itself = is_usable  # type: ignore[attr-defined]
        request.trace = trace  # type: ignore[attr-defined]
        logs.begin()
        request_ids.begin([request_ids.name_of(request_id, trace.id if trace else "")])

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        if trace := request.trace:  # type: ignore[attr-defined]
            response["traceresponse"] = trace.response(tracing.span_id())
        return response


class TracingMiddleware:
    """Record requests that are drawn, with the statements that they send to the database."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        method = request.method or ""
        with tracing.request(method, "", request.trace) as span, tracing.statements_of_thread():  # type: ignore[attr-defined]
            response = self._get_response(request)
            route = request.resolver_match.route if request.resolver_match else ""
            tracing.answered(span, response.status_code, f"{method} /{route}")
            return response


class HostMiddleware(CommonMiddleware):
    """Django's middleware, which refuses hosts that are not in `ALLOWED_HOSTS`, except for probes."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        return None if request.path_info in settings.PROBE_PATHS else super().process_request(request)
