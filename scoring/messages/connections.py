"""The one place that connects to Redis: to a server, or to the primary that Sentinels name.

With Sentinels each new connection asks who the primary is, and one to a server that is no primary any more is closed by
its first write, as redis-py does (https://redis.io/docs/latest/develop/reference/sentinel-clients/).
"""

from typing import Any
from urllib.parse import unquote

import redis
from django.conf import settings
from redis.sentinel import Sentinel

SENTINEL_PORT = 26_379


def connect(url: str | None = None, **options: Any) -> redis.Redis:
    """A client of the Redis at an address, by default `REDIS_URL`. `options` are those of `redis.Redis`, in addition to
    `REDIS_TIMEOUTS`."""
    url = url or settings.REDIS_URL
    options = settings.REDIS_TIMEOUTS | options
    if url.startswith("sentinel"):
        return _sentinel(url).master_for(settings.REDIS_SENTINEL_NAME, **options)
    return redis.Redis.from_url(url, **options, **(settings.REDIS_TLS if url.startswith("rediss:") else {}))


def _sentinel(url: str) -> Sentinel:
    """The Sentinels of an address `sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE`. User and password are those
    of the servers that they watch. With `sentinels://` all of them are reached by TLS."""
    tls: dict[str, Any] = {"ssl": True} | settings.REDIS_TLS if url.startswith("sentinels:") else {}
    before, _, database = url.partition("://")[2].partition("/")
    who, _, hosts = before.rpartition("@")
    user, _, password = who.partition(":")
    named = {"username": unquote(user), "password": unquote(password)}
    return Sentinel(
        [(host, int(port or SENTINEL_PORT)) for host, _, port in map(_parted, hosts.split(","))],
        sentinel_kwargs=settings.REDIS_SENTINEL_OPTIONS | tls,
        db=int(database or 0),
        **tls,
        **{name: value for name, value in named.items() if value},
    )


def _parted(host: str) -> tuple[str, str, str]:
    """Host and port; an IPv6 address is in brackets."""
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        return name, ":", port.removeprefix(":")
    return host.partition(":")
