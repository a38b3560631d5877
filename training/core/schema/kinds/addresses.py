"""E-mail and IP addresses."""

import ipaddress
import re
import socket
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from training.core.schema.kinds.categories import code_of
from training.core.schema.kinds.kind import REMEMBERED, Kind, ValueRefused, read_text

if TYPE_CHECKING:
    from training.core.schema.values import Field

EMAIL_LIMIT = 254  # RFC 5321, section 4.5.3.1.3
# What stands before the @ in nearly every address, at most 64 characters (RFC 5321, section 4.5.3.1.1).
_ORDINARY = re.compile(r"(?=.{1,64}@)[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9.-]+")
# An address of IPv4 as it is stored, which takes a tenth of the time of `ipaddress`.
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
IPV6_BYTES = 16
IPV6_NETWORK_BITS = 48  # the usual size of what one customer gets, as are the first three numbers of IPv4


def _read_email(field: "Field", value: Any) -> str:
    """The address in lower case, with its domain in ASCII."""
    text = read_text(value, limit=EMAIL_LIMIT)
    # A check takes longer than all else of a transaction, and few domains have most addresses.
    if _ORDINARY.fullmatch(text) and (domain := _checked_domain(_domain(text))):
        return f"{text.rpartition('@')[0].lower()}@{domain}"
    return _checked_email(text)


@lru_cache(REMEMBERED)
def _checked_domain(domain: str) -> str | None:
    """The domain in lower case, or None if it is not valid."""
    try:
        return _domain(_checked_email(f"a@{domain}"))
    except ValueRefused:
        return None


def _checked_email(text: str) -> str:
    from email_validator import EmailNotValidError, validate_email  # a tenth of a second, which most never need

    try:
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise ValueRefused("invalid_email", f"Send an e-mail address: {error}") from error
    return f"{found.local_part.lower()}@{found.ascii_domain.lower()}"


def _conceal_email(address: str, token_of: Callable[[str], str]) -> str:
    """The address with a token in place of what stands before the @."""
    return f"{token_of(address)}@{_domain(address)}"


def _domain(address: str) -> str:
    return address.rpartition("@")[2]


def _read_ip(field: "Field", value: Any) -> str:
    text = read_text(value)
    if _IPV4.fullmatch(text):
        return text
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueRefused("invalid_ip", "Send an IP address, such as 192.0.2.7 or 2001:db8::7.") from error
    # The same host, in the form of IPv6.
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def network_of(address: str) -> str:
    """The network of an IP address that was read.

    >>> network_of("192.0.2.7"), network_of("2001:db8::7")
    ('192.0.2.0/24', '2001:db8::/48')
    """
    if ":" not in address:
        return f"{address.rpartition('.')[0]}.0/24"
    return _network_of_ipv6(address)


@lru_cache(REMEMBERED)
def _network_of_ipv6(address: str) -> str:
    if "%" in address:  # with a zone, which a network has as well
        return str(ipaddress.ip_network(f"{address}/{IPV6_NETWORK_BITS}", strict=False))
    # A tenth of the time of what is above.
    network = socket.inet_pton(socket.AF_INET6, address)[: IPV6_NETWORK_BITS // 8]
    return f"{socket.inet_ntop(socket.AF_INET6, network.ljust(IPV6_BYTES, bytes(1)))}/{IPV6_NETWORK_BITS}"


# A model learns the domains of e-mail addresses and the networks of IP addresses. The entity of an e-mail address is
# the whole address, that of an IP address its network.
EMAIL = Kind(
    _read_email,
    {"type": "string", "format": "email", "maxLength": EMAIL_LIMIT},
    "ann@example.com",
    encode=lambda address: code_of(_domain(address)),
    conceal=_conceal_email,
    is_always_personal=True,
    learned=_domain,
    is_category=True,
)
IP = Kind(
    _read_ip,
    {"type": "string", "maxLength": 45},
    "192.0.2.7",
    encode=lambda address: code_of(network_of(address)),
    conceal=lambda address, token_of: network_of(address).partition("/")[0],
    entity=network_of,
    learned=network_of,
    is_category=True,
)
