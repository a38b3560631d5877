"""Which addresses webhooks may be sent to: public ones, by HTTPS.

A name is resolved at each connection, all its addresses are checked, and the connection goes to one of those that were
checked. So a name that resolves to something else a moment later does no harm, and there is no second look-up that
could. TLS still asks for the certificate of the name.
"""

import asyncio
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import httpcore
from django.conf import settings

from scoring.webhooks.models import URL_LENGTH
from training.core.exceptions import FraudsiteError

GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
SIX_TO_FOUR = IPv6Network("2002::/16")
# Public by their numbers, and yet not: the metadata of Azure and of Oracle, and relays of 6to4.
NOT_PUBLIC = [ip_network(each) for each in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24")]
# The last part begins with a letter: what ends in a number is an address in another notation, such as 127.1 or 0x7f.1.
PUBLIC_NAME = re.compile(r"(?:[^.]+\.)+(?!(?:localhost|local|internal)\.?$)[a-z][^.]*\.?")


class TargetRefused(FraudsiteError):
    """Webhooks go to public addresses by HTTPS only."""


def check_url(url: str) -> None:
    """Check an address as far as that is possible without resolving its name.

    Raises:
        TargetRefused: it says what is wrong and what to do.
    """
    if len(url) > URL_LENGTH or any(not character.isprintable() or character == " " for character in url):
        raise TargetRefused(f"The URL may have {URL_LENGTH} characters, and no spaces among them.")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")
        if parts.port == 0:
            raise ValueError
    except ValueError:
        raise TargetRefused("The URL is malformed.") from None
    if parts.scheme not in ("https", *(["http"] if settings.WEBHOOK_PRIVATE_TARGETS else [])):
        raise TargetRefused("The URL must begin with https://.")
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise TargetRefused("The URL needs a host, and must have no user, password or fragment.")
    if not url.isascii():
        raise TargetRefused("Write the URL in ASCII: names in punycode, everything else percent-encoded.")
    try:
        literal = ip_address(host)
    except ValueError:
        if not settings.WEBHOOK_PRIVATE_TARGETS and not PUBLIC_NAME.fullmatch(host):
            raise TargetRefused(
                "The host has no public name, as shop.example is. Name one that is reached from outside."
            ) from None
    else:
        check_addresses([literal])


def check_addresses(addresses: Iterable[IPv4Address | IPv6Address]) -> None:
    """Check all addresses of a name: one that is not public spoils it.

    Raises:
        TargetRefused: one is private, link-local, of a carrier, multicast, reserved or of metadata.
    """
    if not settings.WEBHOOK_PRIVATE_TARGETS and not all(map(is_public, addresses)):
        raise TargetRefused("The host has an address that is not public. Name one that is reached from outside.")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is reached through the internet.

    >>> is_public(ip_address("93.184.215.14")), is_public(ip_address("::ffff:169.254.169.254"))
    (True, False)
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address in NAT64:
            return is_public(IPv4Address(address.packed[-4:]))
        if address in SIX_TO_FOUR:
            return is_public(IPv4Address(address.packed[2:6]))
        if address not in GLOBAL_UNICAST:
            return False
    elif any(address in network for network in NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, checked.

    Raises:
        TargetRefused: see `check_addresses`.
        OSError: it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(place[4][0]).partition("%")[0] for place in found))
    check_addresses(map(ip_address, addresses))
    return addresses


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only, each checked before.

    Connections that are made at the same time share the look-up of a name. It holds a thread until it ends, also if
    nobody waits for it any more, so otherwise the calls to a name whose servers do not answer would hold them all.
    """

    def __init__(self) -> None:
        self._network: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()
        self._looked_up: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._addresses(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("The host's name does not resolve.") from error
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue  # the next one may answer
        return await self._network.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def _addresses(self, host: str, port: int) -> list[str]:
        place = host, port
        if place not in self._looked_up:
            self._looked_up[place] = asyncio.create_task(resolve(host, port))
            self._looked_up[place].add_done_callback(lambda ended: self._forget(place, ended))
        return await asyncio.shield(self._looked_up[place])

    def _forget(self, place: tuple[str, int], ended: "asyncio.Task[list[str]]") -> None:
        del self._looked_up[place]
        if not ended.cancelled():
            ended.exception()  # if nobody waits any more, asyncio complains of what was not asked for

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise TargetRefused

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
