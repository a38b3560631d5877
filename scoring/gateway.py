"""Micro-batching: the concurrent requests of a web process travel to a worker as one Celery message.

A request that finds the line idle leaves at once; while batches are under way the next one gathers. No timer is
involved, so batches grow exactly when the load does.
"""

import logging
import os
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import redis
import uuid_utils
from django.conf import settings
from kombu.exceptions import OperationalError

from scoring import replies, tasks
from scoring.exceptions import Overloaded, ScorerUnavailable
from scoring.submissions import Submission

logger = logging.getLogger(__name__)


@dataclass
class Waiting:
    """A request that waits. `deadline` is on the monotonic clock; without a submission it asks for a sign of life."""

    submission: Submission | None
    deadline: float
    outcome: Future[dict[str, Any]] = field(default_factory=Future)


class Gateway:
    """The line of one process to the workers: a thread that sends, a thread that receives."""

    def __init__(self) -> None:
        self._line: queue.Queue[Waiting] = queue.Queue(maxsize=settings.GATEWAY_QUEUE_LIMIT)
        self._under_way: dict[str, list[Waiting]] = {}
        self._room = threading.Condition()
        self._closed = threading.Event()
        self._reply_to = f"fraudsite:replies:{uuid_utils.uuid7()}"
        for loop in (self._send_forever, self._receive_forever):
            threading.Thread(target=loop, name=f"gateway-{loop.__name__.strip('_')}", daemon=True).start()

    def ask(self, submission: Submission | None, *, timeout_ms: float) -> dict[str, Any]:
        """Have a submission scored and stored, and wait for it. Returns what `services.score_batch` says of it.

        Raises:
            Overloaded: `GATEWAY_QUEUE_LIMIT` requests are waiting already.
            ScorerUnavailable: no answer in time, or the worker could not score.
        """
        waiting = Waiting(submission, time.monotonic() + timeout_ms / 1000)
        try:
            self._line.put_nowait(waiting)
        except queue.Full:
            raise Overloaded from None
        try:
            return waiting.outcome.result(timeout=timeout_ms / 1000)
        except TimeoutError:
            raise ScorerUnavailable from None

    def close(self) -> None:
        """Stop listening for replies, within a second."""
        self._closed.set()

    def _send_forever(self) -> None:
        while True:
            first = self._line.get()
            self._wait_for_room()
            batch = [first]
            while len(batch) < settings.GATEWAY_BATCH_LIMIT:
                try:
                    batch.append(self._line.get_nowait())
                except queue.Empty:
                    break
            now = time.monotonic()
            if batch := [waiting for waiting in batch if waiting.deadline > now]:
                self._send(batch, now)

    def _wait_for_room(self) -> None:
        """Return once fewer than `GATEWAY_BATCHES_UNDER_WAY` batches are, forgetting those nobody waits for."""
        with self._room:
            while True:
                now = time.monotonic()
                last_deadline = {
                    batch_id: max(waiting.deadline for waiting in batch) for batch_id, batch in self._under_way.items()
                }
                for batch_id, deadline in last_deadline.items():
                    if deadline <= now:
                        del self._under_way[batch_id]
                if len(self._under_way) < settings.GATEWAY_BATCHES_UNDER_WAY:
                    return
                self._room.wait(timeout=min(last_deadline[batch_id] for batch_id in self._under_way) - now)

    def _send(self, batch: list[Waiting], now: float) -> None:
        batch_id = str(uuid_utils.uuid7())
        with self._room:
            self._under_way[batch_id] = batch
        messages = [waiting.submission.to_message() for waiting in batch if waiting.submission]
        try:
            tasks.score_batch.apply_async(
                (self._reply_to, batch_id, messages),
                expires=max(waiting.deadline for waiting in batch) - now,
                retry=False,
            )
        except Exception as error:  # this thread serves every request of the process: it must outlive any fault
            expected = isinstance(error, OperationalError | redis.RedisError | OSError)
            logger.warning("A batch of %d could not be sent: %s", len(batch), error, exc_info=not expected)
            self._settle(batch_id, {"error": "The message broker does not answer; nothing was acknowledged."})

    def _receive_forever(self) -> None:
        while not self._closed.is_set():
            try:
                received = replies.receive(self._reply_to, timeout_s=1)
            except redis.RedisError as error:
                if not self._closed.wait(0.5):
                    logger.warning("Waiting for Redis: %s", error)
                continue
            if received:
                self._settle(*received)

    def _settle(self, batch_id: str, reply: dict[str, Any]) -> None:
        with self._room:
            batch = self._under_way.pop(batch_id, [])
            self._room.notify()
        outcomes = iter(reply.get("outcomes", ()))
        for waiting in batch:
            if "error" in reply:
                waiting.outcome.set_exception(ScorerUnavailable(reply["error"]))
            else:
                waiting.outcome.set_result(next(outcomes) if waiting.submission else reply)


@cache
def _gateway_of(process_id: int) -> Gateway:
    return Gateway()


_starting = threading.Lock()


def gateway() -> Gateway:
    """This process's gateway, started at its first request: threads do not survive a fork."""
    with _starting:
        return _gateway_of(os.getpid())
