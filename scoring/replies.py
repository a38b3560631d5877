"""The way back from a worker to the web process that waits.

A Redis list per web process: the worker pushes, the process blocks on it. Celery's own result backend would do, but its
consumer is not made for many threads that wait at once, and it stores what nobody reads again.
"""

import json
from functools import cache
from typing import Any

import redis
from django.conf import settings

# A process that died leaves its list behind for this long.
EXPIRY_S = 60


@cache
def connection() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, **settings.REDIS_TIMEOUTS)


def send(*, reply_to: str, batch_id: str, reply: dict[str, Any]) -> None:
    with connection().pipeline(transaction=False) as pipeline:
        pipeline.rpush(reply_to, json.dumps([batch_id, reply]))
        pipeline.expire(reply_to, EXPIRY_S)
        pipeline.execute()


def receive(reply_to: str, *, timeout_s: int) -> tuple[str, dict[str, Any]] | None:
    """Wait for the next reply: (batch id, reply), or None when none came in time.

    Raises:
        redis.RedisError: Redis is away.
    """
    received = connection().blpop([reply_to], timeout=timeout_s)
    return tuple(json.loads(received[1])) if received else None
