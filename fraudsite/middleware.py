import logging
import re
from ipaddress import ip_address

import uuid_utils
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.middleware.common import CommonMiddleware
from django.utils.deprecation import MiddlewareMixin

from scoring.card_numbers import holds_card_number
from scoring.messages import request_ids

# A caller's own id is taken over so that logs on both sides meet; anything longer or stranger is replaced, and so is a
# card number.
ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class No503(logging.Filter):
    """Keeps the log line that Django writes for each answer of 503 out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "status_code", None) != 503


class RequestIdMiddleware(MiddlewareMixin):
    """Give each request an id (`request.request_id`), say it in the `X-Request-ID` header of the answer, and have it on
    every log line of the request."""

    def process_request(self, request: HttpRequest) -> None:
        offered = request.META.get("HTTP_X_REQUEST_ID", "")
        is_usable = ACCEPTABLE.fullmatch(offered) and not holds_card_number(offered)
        request.request_id = offered if is_usable else str(uuid_utils.uuid7())  # type: ignore[attr-defined]
        request_ids.begin([request.request_id])  # type: ignore[attr-defined]

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response


class HostMiddleware(CommonMiddleware):
    """Django's, which refuses a request by a host that is not in `ALLOWED_HOSTS`; here, all but the probes."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        return None if request.path_info in settings.PROBE_PATHS else super().process_request(request)


def client_address(request: HttpRequest) -> str | None:
    """Where a request comes from. Our proxy ends `X-Forwarded-For` with what it saw; the rest is what a client says.

    What is no address there leaves the peer's. None where there is none either, as on a Unix socket.
    """
    seen = request.META.get("HTTP_X_FORWARDED_FOR", "") if settings.BEHIND_PROXY else ""
    return _address_in(seen.rpartition(",")[2]) or _address_in(request.META.get("REMOTE_ADDR") or "")


def _address_in(text: str) -> str | None:
    """The IP address of `203.0.113.7:51234`, `[2001:db8::1]:443`, `"fe80::1%eth0"` and the like, in canonical form."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # more of them are an IPv6 address, which has no port without brackets
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
