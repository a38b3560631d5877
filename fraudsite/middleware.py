import logging
import re

import uuid_utils
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

# A caller's own id is taken over so that logs on both sides meet; anything longer or stranger is replaced.
ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class No503(logging.Filter):
    """Keeps the log line that Django writes for each answer of 503 out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "status_code", None) != 503


class RequestIdMiddleware(MiddlewareMixin):
    """Give each request an id (`request.request_id`) and say it in the `X-Request-ID` header of the answer."""

    def process_request(self, request: HttpRequest) -> None:
        offered = request.META.get("HTTP_X_REQUEST_ID", "")
        request.request_id = offered if ACCEPTABLE.fullmatch(offered) else str(uuid_utils.uuid7())  # type: ignore[attr-defined]

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response


def client_address(request: HttpRequest) -> str | None:
    """Where a request comes from. Our proxy ends `X-Forwarded-For` with what it saw; the rest is what a client says."""
    seen = request.META.get("HTTP_X_FORWARDED_FOR", "") if settings.BEHIND_PROXY else ""
    return seen.rpartition(",")[2].strip() or request.META.get("REMOTE_ADDR")
