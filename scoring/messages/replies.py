"""Replies of workers to the web processes that wait for them.

Each web process has a Redis list: workers push replies to it, and the process blocks on it. Celery's result backend is
not used: its consumer is not made for many waiting threads, and it stores results that nobody reads again.
"""

from enum import StrEnum
from functools import cache

import msgspec
import redis

from scoring.messages import connections

# The list of a process that has died expires after this time.
EXPIRY_S = 60


class Kind(StrEnum):
    """The kind of outcome of a submission."""

    SCORED = "scored"
    REPEATED = "replayed"  # the id and the content are known: the stored answer; the value is that of older workers
    CONFLICT = "conflict"  # the id is known with other content
    EXPLAINED = "explained"  # a stored transaction's score was explained: the explanation
    PENDING = "pending"  # the id and the content are known, and the score is still to come
    UNSCORABLE = "unscorable"  # the model has no finite score for these values; nothing was stored
    FAILED = "failed"  # its schema's part of the batch failed; nothing of that part was stored
    NO_CHAMPION = "no_champion"  # its schema has no champion; nothing was stored
    EXPIRED = "expired"  # its deadline had passed when a worker took it; nothing was stored


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The outcome of a submission. `answer` is the JSON for the client; the id if it is pending, the reason if it has
    failed."""

    kind: Kind
    answer: bytes = b""


class Stages(msgspec.Struct, array_like=True):
    """The time that each stage of a batch took, in seconds."""

    features_s: float = 0.0
    model_s: float = 0.0
    storage_s: float = 0.0


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """A worker's reply to a batch: an outcome per submission, in order, or the error for which none was scored.

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
    return connections.connect()


def send(reply_to: str, reply: Reply) -> None:
    with connection().pipeline(transaction=False) as pipeline:
        pipeline.rpush(reply_to, msgspec.msgpack.encode(reply))
        pipeline.expire(reply_to, EXPIRY_S)
        pipeline.execute()


def receive(reply_to: str, *, timeout_s: int) -> Reply | None:
    """Wait for the next reply; None if none came in time.

    Raises:
        redis.RedisError: Redis is away.
    """
    received = connection().blpop([reply_to], timeout=timeout_s)
    return _decoder.decode(received[1]) if received else None  # type: ignore[arg-type]  # bytes: no decoding was asked
