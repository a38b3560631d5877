"""What the worker processes work with, as they tell it themselves.

In Redis, each under a key that expires: a process that has died is forgotten, and nothing has to be cleared away.
"""

import logging

import msgspec
import redis
from django.conf import settings

from scoring.messages.replies import connection

logger = logging.getLogger(__name__)

PREFIX = "fraudsite-worker:"
# A process that has said nothing for so long counts as gone, whatever MODEL_REFRESH_S is.
SILENCE_S = 15


class Refusal(msgspec.Struct, frozen=True):
    """A champion that could not be loaded, and why."""

    version: str
    fault: str


class Status(msgspec.Struct, frozen=True):
    """A worker process, the version that scores of each schema, and the champions that it refuses, by schema."""

    worker: str
    versions: dict[str, str]
    refused: dict[str, Refusal]


_decoder = msgspec.msgpack.Decoder(Status)


def tell(status: Status) -> None:
    expiry_s = SILENCE_S + int(2 * settings.MODEL_REFRESH_S)
    try:
        connection().set(PREFIX + status.worker, msgspec.msgpack.encode(status), ex=expiry_s)
    except redis.RedisError as error:
        logger.warning("Nobody is told what this worker works with: %s", error)


def known() -> list[Status]:
    """Every process that is at work, by name.

    Raises:
        redis.RedisError: Redis is away.
    """
    # Whoever looks at a page had rather hear that Redis is away than wait for it.
    with redis.Redis.from_url(settings.REDIS_URL, retry=None, **settings.REDIS_TIMEOUTS) as client:
        keys = list(client.scan_iter(match=f"{PREFIX}*", count=1000))
        told = client.mget(keys) if keys else []
    # A key may expire between the two.
    return sorted((_decoder.decode(content) for content in told if content), key=lambda status: status.worker)
