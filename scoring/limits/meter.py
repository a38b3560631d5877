"""Counts the calls of a web process against the limits of their keys.

Each process keeps a copy of each bucket and spends from it at once, so that no call waits for Redis. A thread tells
Redis what was spent and learns what is left, at the first call after a rest and then every `KEY_LIMITS_INTERVAL_MS`.

The bucket in Redis goes below zero where processes together spent more than there was, and fills up from there. So over
any time t a key gets at most `most + per_s * t` units and, of each process but one, what that process let through
before it heard of the others: what it takes in an interval, and never more than its copy holds. While Redis does not
answer, nothing is refused.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import redis
from django.conf import settings

from scoring import metrics
from scoring.limits.allowances import DAY_S, Allowance
from scoring.limits.ledger import Ledger

logger = logging.getLogger(__name__)

# How long a process waits until it asks a Redis again that did not answer.
PAUSE_S = 0.5


class Spent(NamedTuple):
    """What came of spending. `left` has of each allowance what is left, and the seconds until it is whole again.

    `refused` is the one that had too little; then nothing was spent, and after `wait_s` there is enough. Nothing is
    told of a call that no allowance limits.
    """

    left: Sequence[tuple[Allowance, int, int]] = ()
    refused: Allowance | None = None
    wait_s: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """The header fields of the IETF's draft, draft-ietf-httpapi-ratelimit-headers-10."""
        if not self.left:
            return {}
        return {
            "RateLimit-Policy": ", ".join(allowance.policy for allowance, _, _ in self.left),
            "RateLimit": ", ".join(
                f'"{allowance.name}";r={left};t={reset_s}' for allowance, left, reset_s in self.left
            ),
        }


FREE = Spent()
# What flows in between Redis's answer and its arrival is not counted, so the bucket may fill up a little later.
MARGIN_S = 0.1


@dataclass(slots=True)
class Copy:
    """A process's copy of a bucket: `left` at the moment `at`, in which `unsettled` units are taken into account that
    Redis does not know yet. A quota is whole again at `resets_at`. Both times are on the meter's clock."""

    allowance: Allowance
    left: float
    at: float
    resets_at: float
    unsettled: float = 0.0

    def bring_up_to(self, now: float) -> None:
        allowance = self.allowance
        if allowance.per_s:
            left = self.left + (now - self.at) * allowance.per_s
            self.left = left if left < allowance.most else allowance.most
        elif now >= self.resets_at:
            self.left, self.resets_at = allowance.most, self.resets_at + DAY_S
        self.at = now

    def has(self, units: int, before: int) -> bool:
        """Whether so many units can be taken. A full bucket gives more than it holds, once."""
        return self.left >= units or (self.allowance.per_s > 0 and self.left >= self.allowance.most - before)

    def take(self, units: int) -> tuple[Allowance, int, int]:
        """Take units out. Returns what `Spent.left` has of it."""
        left = self.left = self.left - units
        self.unsettled += units
        allowance, whole_s = self.allowance, 0
        if allowance.per_s:
            whole_s = int((allowance.most - left) / allowance.per_s) + 1
        else:
            whole_s = int(self.resets_at - self.at) + 1
        return allowance, int(left) if left > 0 else 0, whole_s

    def wait_s(self, units: float) -> float:
        """How long until so many units are there."""
        per_s = self.allowance.per_s
        return (units - self.left) / per_s if per_s else self.resets_at - self.at

    def told(self, wait_s: int | None = None) -> tuple[Allowance, int, int]:
        most = self.allowance.most
        whole_s = wait_s if wait_s is not None else ceil(self.wait_s(most)) if self.left < most else 0
        return self.allowance, max(0, int(self.left)), whole_s


class Meter:
    """The copies of one process. `spend` may be called by any thread, and never waits for Redis.

    Without `wake` a thread of the meter's own settles.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, wake: Callable[[], None] | None = None) -> None:
        self._clock = clock
        self._ledger = Ledger()
        self._copies: dict[str, Copy] = {}
        self._lock = threading.Lock()
        self._answers = True
        self._wanted = threading.Event()
        self._wake = wake or self._want
        if wake is None:
            threading.Thread(target=self._settle_on, name="limits", daemon=True).start()

    def spend(self, allowances: Sequence[Allowance], units: int = 1, *, before: int = 0) -> Spent:
        """Spend units of all allowances, or of none if one has too little. `before` are those that the same call has
        spent already, and gets back then.

        A call that takes more than a bucket holds is let through when it is full, and the bucket goes below zero.
        """
        if not allowances:
            return FREE
        if not self._answers:
            metrics.UNLIMITED.labels(allowances[0].name).inc()
            self._wake()
            return FREE
        now = self._clock()
        with self._lock:
            if len(allowances) == 1 and (copy := self._copy(allowances[0], now)).left >= units:  # the usual case
                left = [copy.take(units)]
            else:
                copies = [self._copy(allowance, now) for allowance in allowances]
                for copy in copies:
                    if not copy.has(units, before):
                        for each in copies if before else ():
                            each.take(-before)
                        return _refused(copies, copy, units + before)
                left = [copy.take(units) for copy in copies]
        self._wake()
        return Spent(left)

    def settle(self) -> bool:
        """Tell Redis what was spent, and learn what is left. Returns whether Redis answered."""
        with self._lock:
            copies = [copy for copy in self._copies.values() if copy.unsettled]
            spent = [(copy.allowance, copy.unsettled) for copy in copies]
            for copy in copies:
                copy.unsettled = 0.0
        try:
            told = self._ledger.settle(spent)
        except (redis.RedisError, OSError) as error:
            self._lose(error)
            return False
        now = self._clock()
        with self._lock:
            for copy, left in zip(copies, told.left, strict=True):
                copy.left, copy.at = left - copy.unsettled, now
                copy.resets_at = now + DAY_S - told.now % DAY_S
            self._answers = True
        return True

    def _copy(self, allowance: Allowance, now: float) -> Copy:
        copy = self._copies.get(allowance.bucket)
        if copy is None:  # full, for all that this process knows
            resets_at = now + DAY_S - time.time() % DAY_S
            copy = self._copies[allowance.bucket] = Copy(allowance, allowance.most, now, resets_at)
        elif copy.allowance is not allowance:  # the keys were read again, and may have changed
            if not allowance.per_s:
                copy.left += allowance.most - copy.allowance.most
            copy.allowance = allowance
        copy.bring_up_to(now)
        return copy

    def _lose(self, error: Exception) -> None:
        with self._lock:
            self._copies.clear()
            if self._answers:
                logger.warning("Redis does not answer: the limits of keys are not enforced. %s", error)
            self._answers = False

    def _want(self) -> None:
        if not self._wanted.is_set():  # which is cheaper than to set it again
            self._wanted.set()

    def _settle_on(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            time.sleep(settings.KEY_LIMITS_INTERVAL_MS / 1000 if self.settle() else PAUSE_S)


def _refused(copies: list[Copy], lacking: Copy, units: int) -> Spent:
    wait_s = max(1, ceil(lacking.wait_s(min(units, lacking.allowance.most)) + MARGIN_S))
    return Spent([one.told(wait_s if one is lacking else None) for one in copies], lacking.allowance, wait_s)


_starting = threading.Lock()
_started: list[Meter] = []
os.register_at_fork(after_in_child=_started.clear)  # threads do not survive a fork


def meter() -> Meter:
    """This process's meter, started at its first call."""
    if not _started:
        with _starting:
            if not _started:
                _started.append(Meter())
    return _started[0]
