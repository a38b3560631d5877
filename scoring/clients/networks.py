"""Networks from which a key may be used, in CIDR notation."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from django.core.exceptions import ValidationError

Network = IPv4Network | IPv6Network

MAPPED = ip_network("::ffff:0:0/96")
NETWORKS_LIMIT = 100


def network(text: str) -> Network:
    """Read a network or a single address. An IPv4 network that is written as IPv6 (`::ffff:…`) becomes one of IPv4, as
    addresses do.

    Raises:
        ValueError: it is none; the message names the remedy.

    >>> network("192.0.2.7"), network("::ffff:192.0.2.0/120")
    (IPv4Network('192.0.2.7/32'), IPv4Network('192.0.2.0/24'))
    """
    try:
        found = ip_network(text.strip(), strict=False)
    except ValueError:
        shown = text.strip()[:50]
        raise ValueError(f"“{shown}” is no network: write 203.0.113.0/24, 2001:db8::/32 or one address.") from None
    address = text.strip().partition("/")[0]
    if ip_address(address) != found.network_address:
        raise ValueError(f"“{text.strip()}” has bits behind its prefix: write {found}, or {address} alone.")
    if isinstance(found, IPv6Network) and found.subnet_of(MAPPED):  # type: ignore[arg-type]  # both are IPv6
        return ip_network((found.network_address.packed[-4:], found.prefixlen - 96))
    return found


def covers(networks: Sequence[Network], address: str | None) -> bool:
    """Whether an address in canonical form, as `scoring.clients.addresses` gives it, is in one of the networks."""
    if address is None:
        return False
    found = ip_address(address)
    return any(found in each for each in networks)


def networks_problem(value: Any) -> None:
    """Validate the networks of a key.

    Raises:
        ValidationError: names the first that is none.
    """
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValidationError("Give a list of networks.")
    if len(value) > NETWORKS_LIMIT:
        raise ValidationError(f"A key has at most {NETWORKS_LIMIT} networks.")
    for text in value:
        try:
            network(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None
