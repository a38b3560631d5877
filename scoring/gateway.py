"""Micro-batching: the gateway sends the concurrent requests of a web process to a worker as one Celery message.

If no batch is under way, a request is sent at once. While one is under way, further requests gather in the next batch,
which leaves as soon as the reply arrives: there is no timer, and batches grow with the load. If a batch takes unusually
long, for example because its worker died, the next one is sent without waiting for it.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue

import msgspec
import redis
import uuid_utils
from django.conf import settings
from kombu.exceptions import OperationalError

from scoring import metrics, tasks
from scoring.exceptions import Overloaded, ScorerUnavailable
from scoring.messages import replies, request_ids
from scoring.messages.replies import Outcome, Reply
from scoring.messages.sending import Sender
from scoring.messages.submission import Submission
from scoring.models import Fallback
from training import clock

logger = logging.getLogger(__name__)


class Waiting:
    """Lets a thread wait for the outcomes of its submissions. Without submissions it is a ping.

    A lock is the cheapest way in Python for one thread to wait for another.
    """

    __slots__ = ("_ended", "_settled", "deadline", "submissions")

    def __init__(self, submissions: Sequence[Submission], deadline: float) -> None:
        self.submissions = submissions
        self.deadline = deadline  # on the monotonic clock
        self._settled: list[Outcome] | ScorerUnavailable | None = None
        self._ended = threading.Lock()
        self._ended.acquire()

    def settle(self, settled: list[Outcome] | ScorerUnavailable) -> None:
        self._settled = settled

    def wake(self) -> None:
        self._ended.release()

    def wait(self) -> list[Outcome]:
        self._ended.acquire(timeout=max(0.0, self.deadline - time.monotonic()))
        return self._result()

    def _result(self) -> list[Outcome]:
        match self._settled:
            case None:
                raise ScorerUnavailable(reason=Fallback.Reason.DEADLINE)
            case ScorerUnavailable():
                raise self._settled
        return self._settled


class Awaiting(Waiting):
    """Lets a coroutine wait for the outcomes of its submissions."""

    __slots__ = ("_future", "loop")

    def __init__(self, submissions: Sequence[Submission], deadline: float) -> None:
        super().__init__(submissions, deadline)
        self.loop = asyncio.get_running_loop()
        self._future = self.loop.create_future()

    def wake(self) -> None:
        """Call this on the event loop."""
        if not self._future.done():
            self._future.set_result(None)

    async def outcomes(self) -> list[Outcome]:
        timer = self.loop.call_later(max(0.0, self.deadline - time.monotonic()), self.wake)
        try:
            await self._future
        finally:
            timer.cancel()
        return self._result()


def _wake_all(waiting: Iterable[Waiting]) -> None:
    """Wake all waiters. Those of one event loop are woken by one call, as each call wakes the loop's thread."""
    for loop, those in groupby(waiting, key=lambda waiter: getattr(waiter, "loop", None)):
        if loop is None:
            _wake_each(those)
        else:
            with suppress(RuntimeError):  # the loop has ended, and with it its waiters
                loop.call_soon_threadsafe(_wake_each, list(those))


def _wake_each(waiting: Iterable[Waiting]) -> None:
    for waiter in waiting:
        waiter.wake()


@dataclass
class Batch:
    """`slow_at` and `forgotten_at` are on the monotonic clock."""

    waiting: list[Waiting]
    slow_at: float
    forgotten_at: float


class Gateway:
    """Connects one web process with the workers of one queue, by a thread that sends and a thread that receives."""

    def __init__(
        self, queue: str, *, line_limit: int, batch_limit: int, batches_under_way: int, patience_ms: int
    ) -> None:
        self._queue = queue
        self._sender = Sender(tasks.score_batch, queue)
        self._line_limit, self._batch_limit, self._batches_under_way = line_limit, batch_limit, batches_under_way
        self._patience_s = patience_ms / 1000
        self._line: SimpleQueue[Waiting] = SimpleQueue()
        self._under_way: dict[str, Batch] = {}
        self._silent_batches = 0
        self._room = threading.Condition()
        self._closed = threading.Event()
        self._reply_to = f"fraudsite:replies:{uuid_utils.uuid7()}"
        for loop in (self._send_forever, self._receive_forever):
            threading.Thread(target=loop, name=f"{queue}-{loop.__name__.strip('_')}", daemon=True).start()

    async def ask(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Have submissions scored and stored, and await their outcomes until the last of their deadlines.

        They are sent in one batch, so the caller gives at most `batch_limit`.

        Raises:
            Overloaded: `line_limit` requests are waiting already.
            ScorerUnavailable: no answer in time, or the worker could not score; or no worker has answered for a while,
                and another request is trying already.
        """
        self._refuse_more_than_fits()
        waiting = Awaiting(submissions, _deadline_of(submissions))
        self._line.put(waiting)
        return await waiting.outcomes()

    def join(self, submissions: Sequence[Submission]) -> Waiting:
        """Like `ask`, for a thread: it sends the submissions, and `wait` of the result waits for the outcomes."""
        self._refuse_more_than_fits()
        waiting = Waiting(submissions, _deadline_of(submissions))
        self._line.put(waiting)
        return waiting

    def _refuse_more_than_fits(self) -> None:
        if self._silent_batches >= settings.GATEWAY_SILENCE_LIMIT and self._is_probing():
            raise ScorerUnavailable(reason=Fallback.Reason.NO_WORKER)
        if self._line.qsize() >= self._line_limit:
            raise Overloaded

    def ping(self, *, timeout_ms: float) -> None:
        """Return once a worker with a model answers.

        Raises:
            ScorerUnavailable: none did in time, or it has no model.
        """
        waiting = Waiting([], time.monotonic() + timeout_ms / 1000)
        self._line.put(waiting)
        waiting.wait()

    def close(self) -> None:
        """Stop listening for replies, within a second."""
        self._closed.set()

    def _is_probing(self) -> bool:
        with self._room:
            self._forget_unanswered(time.monotonic())
            return bool(self._under_way) or not self._line.empty()

    def _send_forever(self) -> None:
        first: Waiting | None = None
        while True:
            first = first or self._line.get()
            self._wait_for_room()
            batch, size = [first], len(first.submissions)
            first = None
            while first is None:
                try:
                    following = self._line.get_nowait()
                except Empty:
                    break
                size += len(following.submissions)
                if size > self._batch_limit:
                    first = following
                else:
                    batch.append(following)
            now = time.monotonic()
            if batch := [waiting for waiting in batch if waiting.deadline > now]:
                self._send(batch, now)

    def _wait_for_room(self) -> None:
        """Return once all batches under way are slow, and there are fewer of them than `batches_under_way`.

        Batches without a reply are forgotten after a while.
        """
        with self._room:
            while True:
                now = time.monotonic()
                self._forget_unanswered(now)
                batches = self._under_way.values()
                is_full = len(batches) >= self._batches_under_way
                until = [batch.forgotten_at if is_full else batch.slow_at for batch in batches]
                if not until or (not is_full and max(until) <= now):
                    return
                self._room.wait(timeout=(min(until) if is_full else max(until)) - now)

    def _forget_unanswered(self, now: float) -> None:
        for batch_id in [batch_id for batch_id, batch in self._under_way.items() if batch.forgotten_at <= now]:
            del self._under_way[batch_id]
            self._silent_batches += 1

    def _send(self, line: list[Waiting], now: float) -> None:
        batch_id = str(uuid_utils.uuid7())
        # A batch whose clients no longer wait still awaits its reply: otherwise impatient clients would look like dead
        # workers.
        expires_s = max(self._patience_s, max(waiting.deadline for waiting in line) - now)
        with self._room:
            self._under_way[batch_id] = Batch(line, now + settings.GATEWAY_SLOW_MS / 1000, now + expires_s)
        submissions = [submission for waiting in line for submission in waiting.submissions]
        try:
            message = msgspec.msgpack.encode(submissions)
            self._sender.send((self._reply_to, batch_id, message), expires_s=expires_s)
        except Exception as error:  # this thread serves every request of the process: it must outlive any fault
            expected = isinstance(error, OperationalError | redis.RedisError | OSError)
            with request_ids.working_for(submission.request for submission in submissions):
                logger.warning("A batch of %d could not be sent: %s", len(line), error, exc_info=not expected)
            self._refuse(batch_id, Fallback.Reason.BROKER, "The message broker does not answer; nothing was stored.")

    def _receive_forever(self) -> None:
        while not self._closed.is_set():
            try:
                reply = replies.receive(self._reply_to, timeout_s=1)
            except redis.RedisError as error:
                if not self._closed.wait(0.5):
                    logger.warning("Waiting for Redis: %s", error)
                continue
            except msgspec.MsgspecError as error:  # from a worker of another version; its callers time out
                logger.error("A worker's reply cannot be read: %s", error)
                continue
            if reply:
                self._settle(reply)

    def _settle(self, reply: Reply) -> None:
        self._silent_batches = 0
        if reply.error:
            self._refuse(reply.batch_id, Fallback.Reason.WORKER, reply.error)
        elif batch := self._take(reply.batch_id):
            start = 0
            for waiting in batch.waiting:
                end = start + len(waiting.submissions)
                waiting.settle(reply.outcomes[start:end])
                start = end
            _wake_all(batch.waiting)
            metrics.observe_reply(
                self._queue, reply, [submission for waiting in batch.waiting for submission in waiting.submissions]
            )

    def _refuse(self, batch_id: str, reason: Fallback.Reason, detail: str) -> None:
        if batch := self._take(batch_id):
            for waiting in batch.waiting:
                waiting.settle(ScorerUnavailable(detail, reason=reason))
            _wake_all(batch.waiting)

    def _take(self, batch_id: str) -> Batch | None:
        with self._room:
            batch = self._under_way.pop(batch_id, None)
            self._room.notify()
        return batch


def _deadline_of(submissions: Sequence[Submission]) -> float:
    """The last of the submissions' deadlines, on the monotonic clock."""
    return time.monotonic() + max(submission.deadline for submission in submissions) - clock.seconds()


_starting = threading.Lock()
_started: dict[str, Gateway] = {}
os.register_at_fork(after_in_child=_started.clear)  # threads do not survive a fork


def realtime() -> Gateway:
    """This process's gateway to the realtime workers, started at its first request."""
    return _started.get(settings.REALTIME_QUEUE) or _start(
        settings.REALTIME_QUEUE,
        line_limit=settings.GATEWAY_QUEUE_LIMIT,
        batch_limit=settings.GATEWAY_BATCH_LIMIT,
        patience_ms=settings.PREDICT_DEADLINE_MS,
    )


def bulk() -> Gateway:
    """This process's gateway to the bulk workers, for calls with many transactions."""
    return _started.get(settings.BULK_QUEUE) or _start(
        settings.BULK_QUEUE,
        line_limit=settings.BATCH_QUEUE_LIMIT,
        batch_limit=settings.BATCH_CHUNK,
        patience_ms=settings.BATCH_DEADLINE_MS,
    )


def _start(queue: str, **limits: int) -> Gateway:
    with _starting:
        if queue not in _started:
            _started[queue] = Gateway(queue, batches_under_way=settings.GATEWAY_BATCHES_UNDER_WAY, **limits)
    return _started[queue]
