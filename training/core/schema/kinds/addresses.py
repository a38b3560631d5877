"""E-mail and IP addresses."""

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from training.core.schema.kinds.categories import code_of
from training.core.schema.kinds.kind import Kind, ValueRefused, read_text

if TYPE_CHECKING:
    from training.core.schema.values import Field

EMAIL_LIMIT = 254  # RFC 5321, section 4.5.3.1.3
# The usual size of what one customer gets.
NETWORK_BITS = {4: 24, 6: 48}


def _read_email(field: "Field", value: Any) -> str:
    """The address in lower case, with its domain in ASCII."""
    from email_validator import EmailNotValidError, validate_email  # a tenth of a second, which most never need

    text = read_text(value, limit=EMAIL_LIMIT)
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
    try:
        address = ipaddress.ip_address(read_text(value))
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
    bits = NETWORK_BITS[ipaddress.ip_address(address).version]
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False))


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
