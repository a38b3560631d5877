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

# A caller's own id is used if it has this form, so that logs on both sides match. Other ids and card numbers are
# replaced.
ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class No503(logging.Filter):
    """Drops the log line that Django writes for each answer with 503."""

    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(record, "status_code", None) != 503


class RequestIdMiddleware(MiddlewareMixin):
    """Give each request an id (`request.request_id`), which is also in the answer's `X-Request-ID` header and in every
    log line of the request."""

    def process_request(self, request: HttpRequest) -> None:
        offered = request.META.get("HTTP_X_REQUEST_ID", "")
        is_usable = ACCEPTABLE.fullmatch(offered) and not holds_card_number(offered)
        request.request_id = offered if is_usable else str(uuid_utils.uuid7())  # type: ignore[attr-defined]
        request_ids.begin([request.request_id])  # type: ignore[attr-defined]

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response


class HostMiddleware(CommonMiddleware):
    """Django's middleware, which refuses hosts that are not in `ALLOWED_HOSTS`, except for probes."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        return None if request.path_info in settings.PROBE_PATHS else super().process_request(request)


def client_address(request: HttpRequest) -> str | None:
    """The client's IP address: the last one in `X-Forwarded-For`, which our proxy adds; clients can forge the rest.

    Without a valid address there, it is the peer's. None if there is none either, as on a Unix socket.
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
