"""The deliverer: one process that sends what is due, to each endpoint by a line of its own.

A line has its own connections and its own claims, so a slow or dead receiver holds up nobody else. A receiver that
fails several times in a row is tried by one call at a time, more and more seldom, until one succeeds.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from django.conf import settings
from django.db import Error, close_old_connections
from httpcore import AsyncConnectionPool

from scoring.telemetry import tracing
from scoring.webhooks import endpoints, figures, outbox, sending, targets
from scoring.webhooks.endpoints import Target
from scoring.webhooks.models import WebhookDelivery
from scoring.webhooks.sending import Outcome
from training import clock

logger = logging.getLogger(__name__)

T = TypeVar("T")
DATABASE_THREADS = 4
# A line takes one for each name that it looks up. They are started as they are needed.
NAME_THREADS = 1_000
# How long a line waits for more attempts to finish before it stores what came of them.
GATHER_S = 0.02
# How long a line goes by the URL and secrets that it has read.
TARGET_S = 1.0
FAILURES_IN_A_ROW = 3
LONGEST_PAUSE_S = 5.0
DATABASE_PAUSE_S = 1.0


class Deliverer:
    """Runs until it is told to stop; then it finishes what it has begun."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self._threads = ThreadPoolExecutor(DATABASE_THREADS, "database")
        self._lines: dict[int, Line] = {}
        self._at_work: dict[int, asyncio.Task[None]] = {}

    def stop(self) -> None:
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def run(self) -> None:
        # Names are resolved by threads, and those of a dead server for names take long.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(NAME_THREADS, "names"))
        while not self.is_stopping:
            Path(settings.VAR_DIR, "webhooks-alive").touch()  # for health checks
            try:
                for key in await self.database(outbox.waiting, clock.now()):
                    self._begin(key)
            except Error as error:
                logger.warning("Webhooks wait for the database: %s", error)
            await self._let_go()
            await self.pause(settings.WEBHOOK_POLL_S)
        await asyncio.gather(*self._at_work.values(), return_exceptions=True)
        await asyncio.gather(*(line.close() for line in self._lines.values()))
        self._threads.shutdown()

    def _begin(self, key: int) -> None:
        if (line := self._at_work.get(key)) and not line.done():
            return
        if key not in self._lines:
            self._lines[key] = Line(key, self)
        self._at_work[key] = asyncio.create_task(self._lines[key].run())
        self._at_work[key].add_done_callback(_log_failure)

    async def _let_go(self) -> None:
        """Close the connections of lines that rest: their receivers may be many, and some are gone for good. A line
        that fails is kept, as it goes on by one call at a time."""
        for key, line in list(self._lines.items()):
            if self._at_work[key].done() and monotonic() > line.used_at + sending.KEEP_S:
                await line.close()
                if not line.is_failing:
                    del self._lines[key], self._at_work[key]

    async def pause(self, seconds: float) -> None:
        """Sleep, but not into the stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def database(self, do: Callable[..., T], *arguments: Any) -> T:
        """Do something with the database, in a thread."""

        def done() -> T:
            close_old_connections()
            return do(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._threads, done)


def _log_failure(line: "asyncio.Task[None]") -> None:
    """What a line had claimed is due again after a while, and it begins anew."""
    if not line.cancelled() and (error := line.exception()):
        logger.error("The deliveries to an endpoint failed.", exc_info=error)


def _word_of(outcome: Outcome) -> str:
    if outcome.status is None:
        return "no_answer"
    return "delivered" if outcome.is_success else f"{outcome.status // 100}xx"


class Line:
    """The deliveries to one endpoint. `used_at` is when its latest attempt ended, on the monotonic clock."""

    def __init__(self, endpoint: int, deliverer: Deliverer) -> None:
        self._endpoint, self._deliverer = endpoint, deliverer
        self._network = targets.PublicNetwork()
        self._idle: list[AsyncConnectionPool] = []
        self._target: Target | None = None
        self._read_at = 0.0
        self._failures = 0
        self.used_at = monotonic()

    async def run(self) -> None:
        """Send what is due, until nothing is."""
        under_way: set[asyncio.Task[Outcome]] = set()
        outcomes: list[Outcome] = []
        while True:
            claimed = await self._turn(outcomes, self._limit - len(under_way))
            under_way |= {asyncio.create_task(self._send(delivery)) for delivery in claimed}
            if not under_way:
                return
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            done, under_way = await asyncio.wait(under_way, timeout=GATHER_S)
            outcomes = [task.result() for task in done]
            if pause_s := self._learn(outcomes):
                await self._turn(outcomes, 0)
                outcomes = []
                await self._deliverer.pause(pause_s)

    @property
    def is_failing(self) -> bool:
        return self._failures >= FAILURES_IN_A_ROW

    @property
    def _limit(self) -> int:
        return 1 if self.is_failing else settings.WEBHOOK_CONCURRENCY

    async def _turn(self, outcomes: list[Outcome], room: int) -> list[WebhookDelivery]:
        """Store what came of attempts, and claim further deliveries. What was sent must be stored, or it would be sent
        again, so this waits for a database that is away."""
        while True:
            room = 0 if self._deliverer.is_stopping else max(0, room)
            try:
                if room and monotonic() > self._read_at + TARGET_S:
                    self._target = await self._deliverer.database(endpoints.target, self._endpoint)
                    self._read_at = monotonic()
                return await self._deliverer.database(outbox.turn, self._endpoint, outcomes, room)
            except Error as error:
                logger.warning("Webhooks wait for the database: %s", error)
                if self._deliverer.is_stopping:
                    return []
                await self._deliverer.pause(DATABASE_PAUSE_S)

    async def _send(self, delivery: WebhookDelivery) -> Outcome:
        target = self._target
        if target is None or not target.secrets:
            fault = target.fault if target else "The endpoint was removed."
            return Outcome(delivery, clock.now(), 0.0, fault=fault)
        through = self._idle.pop() if self._idle else sending.connection(self._network)
        try:
            with tracing.attempt(delivery.span, delivery.type) as span:
                outcome = await sending.send(delivery, target.url, target.secrets, through)
                tracing.answered(span, outcome.status)
            figures.ATTEMPTS.labels(_word_of(outcome)).observe(outcome.latency_ms / 1000)
            return outcome
        finally:
            self._idle.append(through)
            self.used_at = monotonic()

    def _learn(self, outcomes: list[Outcome]) -> float:
        """Returns for how long to pause, as the receiver fails."""
        if any(outcome.is_success for outcome in outcomes):
            self._failures = 0
        else:
            self._failures += len(outcomes)
        if not self.is_failing:
            return 0.0
        return min(LONGEST_PAUSE_S, 0.1 * 2 ** min(self._failures - FAILURES_IN_A_ROW, 10))

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()
