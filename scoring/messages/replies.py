"""The way back from a worker to the web process that waits.

A Redis list per web process: the worker pushes, the process blocks on it. Celery's own result backend would do, but its
consumer is not made for many threads that wait at once, and it stores what nobody reads again.
"""

from enum import StrEnum
from functools import cache

import msgspec
import redis
from django.conf import settings

# A process that died leaves its list behind for this long.
EXPIRY_S = 60


class Kind(StrEnum):
    """What became of a submission."""

    SCORED = "scored"
    REPLAYED = "replayed"  # the id and the content were known: the stored answer
    CONFLICT = "conflict"  # the id was known with other content
    PENDING = "pending"  # the id and the content were known, and the score is still to come
    UNSCORABLE = "unscorable"  # the model has no finite score for these values; nothing was stored
    FAILED = "failed"  # its schema's part of the batch failed; nothing of that was stored
    NO_CHAMPION = "no_champion"  # no model decides for its schema; nothing was stored
    EXPIRED = "expired"  # nobody waited any more when a worker came to it; nothing was stored


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`answer` is the JSON that the client gets, where there is one; of a pending submission its id, of a failed one
    the reason."""

    kind: Kind
    answer: bytes = b""


class Stages(msgspec.Struct, array_like=True):
    """What a batch's stages took, in seconds."""

    features_s: float = 0.0
    model_s: float = 0.0
    storage_s: float = 0.0


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """A worker's word on a batch: an outcome per submission, in order, or the error that kept it from scoring any.

    `started_at` and `sent_at` are seconds since the epoch.
    """

    batch_id: str
    started_at: float
    sent_at: float
    outcomes: list[Outcome] = []
    error: str = ""
    stages: Stages = msgspec.field(default_factory=Stages)


_decoder = msgspec.msgpack.Decoder(Reply)


@cache
def connection() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, **settings.REDIS_TIMEOUTS)


def send(reply_to: str, reply: Reply) -> None:
    with connection().pipeline(transaction=False) as pipeline:
        pipeline.rpush(reply_to, msgspec.msgpack.encode(reply))
        pipeline.expire(reply_to, EXPIRY_S)
        pipeline.execute()


def receive(reply_to: str, *, timeout_s: int) -> Reply | None:
    """Wait for the next reply; None when none came in time.

    Raises:
        redis.RedisError: Redis is away.
    """
    received = connection().blpop([reply_to], timeout=timeout_s)
    return _decoder.decode(received[1]) if received else None  # type: ignore[arg-type]  # bytes: no decoding was asked
