"""How far streams are, for metrics: at a cost that does not grow with them."""

from typing import NamedTuple

import redis
from django.conf import settings

from scoring.streams.group import connect, dead_of


class Standing(NamedTuple):
    """Entries of a stream: not yet read by the group (None if Redis cannot tell, as entries between were deleted), read
    and not acknowledged, and set aside."""

    unread: int | None
    unanswered: int
    dead: int


def standings() -> dict[str, Standing]:
    """By stream. One that nobody has added to or consumed is missing.

    Raises:
        redis.RedisError: Redis is away.
    """
    if not settings.STREAMS:
        return {}
    with connect() as client:
        found = {stream: _standing(client, stream) for stream in settings.STREAMS}
    return {stream: standing for stream, standing in found.items() if standing}


def _standing(client: redis.Redis, stream: str) -> Standing | None:
    if not client.exists(stream):
        return None
    groups: dict[bytes, dict[str, int | None]] = {group["name"]: group for group in client.xinfo_groups(stream)}
    dead: int = client.xlen(dead_of(stream))
    group = groups.get(settings.STREAM_GROUP.encode())
    if group is None:  # nobody has read of it
        return Standing(client.xlen(stream), 0, dead)
    return Standing(group["lag"], group["pending"] or 0, dead)
