"""The status that each worker process publishes about itself.

It is kept in Redis under a key that expires, so the status of a process that has died disappears by itself.
"""

import logging

import msgspec
import redis
from django.conf import settings

from scoring.messages.replies import connection

logger = logging.getLogger(__name__)

PREFIX = "fraudsite-worker:"
# A process that has published nothing for this long counts as gone, in addition to twice MODEL_REFRESH_S.
SILENCE_S = 15


class Refusal(msgspec.Struct, frozen=True):
    """A champion that could not be loaded, and why."""

    version: str
    fault: str


class Status(msgspec.Struct, frozen=True):
    """A worker process, the version that scores each schema, and the refused champions, by schema."""

    worker: str
    versions: dict[str, str]
    refused: dict[str, Refusal]


_decoder = msgspec.msgpack.Decoder(Status)


def publish(status: Status) -> None:
    expiry_s = SILENCE_S + int(2 * settings.MODEL_REFRESH_S)
    try:
        connection().set(PREFIX + status.worker, msgspec.msgpack.encode(status), ex=expiry_s)
    except redis.RedisError as error:
        logger.warning("The status of this worker was not published: %s", error)


def known() -> list[Status]:
    """The status of every running worker process, by name.

    Raises:
        redis.RedisError: Redis is away.
    """
    # Without retries: the page should show at once that Redis is away.
    with redis.Redis.from_url(settings.REDIS_URL, retry=None, **settings.REDIS_TIMEOUTS) as client:
        keys = list(client.scan_iter(match=f"{PREFIX}*", count=1000))
        contents = client.mget(keys) if keys else []
    # A key may expire between the two calls.
    return sorted((_decoder.decode(content) for content in contents if content), key=lambda status: status.worker)
