"""Stretches of time that pages show, in steps, and which roll-ups have them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.utils import timezone

from monitoring.rollups.counting import DAY, HOUR, MINUTE, start_of
from monitoring.rollups.models import Span

# The step of a window that is at most so long: about a hundred points at most.
STEPS = (
    (timedelta(hours=2), MINUTE),
    (timedelta(hours=6), 5 * MINUTE),
    (DAY, 15 * MINUTE),
    (7 * DAY, 2 * HOUR),
    (31 * DAY, 8 * HOUR),
    (124 * DAY, DAY),
    (700 * DAY, 7 * DAY),
)
LONGEST_STEP = 30 * DAY


@dataclass(frozen=True)
class Window:
    """The time from `start` to `end` in steps; both are the beginnings of steps, the last of which may still go on."""

    start: datetime
    end: datetime
    step: timedelta

    @classmethod
    def last(cls, length: timedelta, *, step: timedelta | None = None, now: datetime | None = None) -> Self:
        """The steps that began within `length` before now, the one that goes on among them."""
        now = now or timezone.now()
        step = _kept(step or step_of(length), now - length, now)
        return cls(start_of(now - length, step) + step, start_of(now, step) + step, step)

    @classmethod
    def between(
        cls, start: datetime, end: datetime, *, step: timedelta | None = None, now: datetime | None = None
    ) -> Self:
        """The steps that [start, end) has a part of."""
        step = _kept(step or step_of(end - start), start, now or timezone.now())
        return cls(start_of(start, step), start_of(end - timedelta.resolution, step) + step, step)

    @property
    def span(self) -> Span:
        """The longest roll-ups that the steps are made of."""
        return next(span for span in reversed(Span) if not self.step % span.length)

    @property
    def starts(self) -> list[datetime]:
        return [self.start + number * self.step for number in range(len(self))]

    def __len__(self) -> int:
        return max(0, (self.end - self.start) // self.step)


def step_of(length: timedelta) -> timedelta:
    """The step in which a window of this length is shown.

    >>> step_of(timedelta(days=1)), step_of(timedelta(days=90))
    (datetime.timedelta(seconds=900), datetime.timedelta(days=1))
    """
    return next((step for longest, step in STEPS if length <= longest), LONGEST_STEP)


def _kept(step: timedelta, start: datetime, now: datetime) -> timedelta:
    """A step, longer where minutes or hours of that time are not kept any more."""
    if start < now - timedelta(days=settings.ROLLUP_HOURS_DAYS):
        return max(step, DAY)
    return max(step, HOUR) if start < now - timedelta(days=settings.ROLLUP_MINUTES_DAYS) else step
