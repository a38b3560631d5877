"""The status that each worker process publishes about itself.

It is kept in Redis under a key that expires, so the status of a process that has died disappears by itself.
"""

import logging

import msgspec
import redis
from django.conf import settings

from scoring.messages import clock, connections
from scoring.messages.replies import connection

logger = logging.getLogger(__name__)

PREFIX = "fraudsite-worker:"
# A process that has published nothing for this long counts as gone, in addition to twice MODEL_REFRESH_S.
SILENCE_S = 15
QUEUES = (settings.REALTIME_QUEUE, settings.BULK_QUEUE, settings.TRAINING_QUEUE)


class Refusal(msgspec.Struct, frozen=True):
    """A champion that could not be loaded, and why."""

    version: str
    fault: str


class Status(msgspec.Struct, frozen=True):
    """A worker process, and by schema the version that scores, the refused champions, and the numbers of the policies
    that decide; a schema without one has the model's thresholds alone. Its clock is `ahead_s` before that of Redis,
    negative if it is behind. `queue` is where its work comes from; of a worker that takes predict calls and lists, the
    queue of the calls."""

    worker: str
    versions: dict[str, str]
    refused: dict[str, Refusal]
    policies: dict[str, int] = {}
    ahead_s: float = 0.0
    queue: str = settings.REALTIME_QUEUE

    @property
    def scores_at_once(self) -> bool:
        """Whether it scores what somebody waits for: not if it takes lists and jobs alone."""
        return self.queue != settings.BULK_QUEUE


_decoder = msgspec.msgpack.Decoder(Status)


def connect() -> redis.Redis:
    """Without retries: a page should show at once that Redis is away."""
    return connections.connect(retry=None)


def waiting() -> dict[str, int]:
    """How many messages wait in each queue for a worker.

    Raises:
        redis.RedisError: Redis is away.
    """
    with connect() as client, client.pipeline(transaction=False) as pipeline:
        for queue in QUEUES:
            pipeline.llen(queue)
        return dict(zip(QUEUES, pipeline.execute(), strict=True))


def publish(status: Status) -> None:
    expiry_s = SILENCE_S + int(2 * settings.MODEL_REFRESH_S)
    try:
        status = msgspec.structs.replace(status, ahead_s=clock.ahead_s(connection()))
        connection().set(PREFIX + status.worker, msgspec.msgpack.encode(status), ex=expiry_s)
    except redis.RedisError as error:
        logger.warning("The status of this worker was not published: %s", error)


def known() -> list[Status]:
    """The status of every running worker process, by name.

    Raises:
        redis.RedisError: Redis is away.
    """
    with connect() as client:
        keys = list(client.scan_iter(match=f"{PREFIX}*", count=1000))
        contents = client.mget(keys) if keys else []
    # A key may expire between the two calls.
    return sorted((_decoder.decode(content) for content in contents if content), key=lambda status: status.worker)
