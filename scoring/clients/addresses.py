"""The address of whoever calls, told by the trusted proxy."""

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str | None:
    """The client's IP address: the last one in `X-Forwarded-For`, which our proxy adds; clients can forge the rest.

    Without a valid address there, it is the peer's. None if there is none either, as on a Unix socket.
    """
    return address_of(request.META.get("HTTP_X_FORWARDED_FOR", ""), request.META.get("REMOTE_ADDR") or "")


def address_of(forwarded_for: str, peer: str) -> str | None:
    seen = forwarded_for if settings.BEHIND_PROXY else ""
    return _address_in(seen.rpartition(",")[2]) or _address_in(peer)


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
