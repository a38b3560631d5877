"""Learns how far this machine's clock is ahead of that of Redis, which all processes have in common."""

import logging
import os
import threading
import time
from contextlib import suppress

import redis

from scoring.messages import connections
from training import clock

logger = logging.getLogger(__name__)

EVERY_S = 10.0
# A process that starts waits no longer for a Redis that is away.
FIRST_S = 2.0
TOLD_FROM_S = 1.0

_followed_by: int | None = None


def follow() -> None:
    """Learn it now, and from now on in a thread. Whoever calls it again in the same process changes nothing."""
    global _followed_by
    if _followed_by == os.getpid():
        return
    _followed_by = os.getpid()
    learnt = threading.Event()
    threading.Thread(target=_learn_forever, args=(learnt,), name="clock", daemon=True).start()
    learnt.wait(FIRST_S)


def ahead_s(server: redis.Redis) -> float:
    """How far this machine's clock is ahead of that of Redis, at least: its answer was made between two looks here.

    Raises:
        redis.RedisError: Redis is away.
    """
    began = time.time()
    seconds, microseconds = server.time()
    there = seconds + microseconds / 1e6
    return max(began - there, 0.0) or min(time.time() - there, 0.0)


def _learn_forever(learnt: threading.Event) -> None:
    server, told_s = connections.connect(retry=None), 0.0
    while True:
        with suppress(redis.RedisError):  # what was learnt holds
            found_s = ahead_s(server)
            clock.correct(found_s)
            if abs(found_s - told_s) >= TOLD_FROM_S:
                where = "ahead of" if found_s > 0 else "behind"
                logger.warning("This machine's clock is %.1f s %s that of Redis, which counts.", abs(found_s), where)
                told_s = found_s
            learnt.set()
        time.sleep(EVERY_S)
