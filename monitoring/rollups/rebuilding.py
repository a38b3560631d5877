"""Counts days again from their rows, whatever their roll-ups say."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from monitoring.rollups import counting, sums, updating
from monitoring.rollups.counting import ALL_CLIENTS, DAY, HOUR, MINUTE, Cells
from monitoring.rollups.models import RollupProgress, Span


class Rebuilt(NamedTuple):
    """A day that was counted again: its answers, and how many hours were left as they were, as rows of theirs are
    gone."""

    day: date
    answers: int
    kept_hours: int


def rebuild(first: date, last: date, *, even_if_fewer: bool = False, now: datetime | None = None) -> Iterator[Rebuilt]:
    """Count the days from `first` to `last`, both included, again, in UTC. Yields each when it is written.

    An hour with fewer rows than were counted has lost some to their retention: it is left as it is, unless
    `even_if_fewer`. Beat may go on: an hour is counted and written in one turn.
    """
    now = now or timezone.now()
    RollupProgress.objects.get_or_create(pk=1)
    for number in range((last - first).days + 1):
        day = midnight(first) + number * DAY
        yield _rebuild_day(day, even_if_fewer=even_if_fewer, now=now)
        with transaction.atomic():
            _take_turn()
            sums.rebuild(day, day + DAY, even_if_fewer=even_if_fewer, now=now)


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def answers_in(cells: Cells) -> int:
    """How many answers there are in cells."""
    return sum(cell.transactions for key, cell in cells.items() if key.client == ALL_CLIENTS)


def _rebuild_day(day: datetime, *, even_if_fewer: bool, now: datetime) -> Rebuilt:
    of_day: Cells = {}
    kept_hours = 0
    keeps_minutes = day >= now - timedelta(days=settings.ROLLUP_MINUTES_DAYS)
    keeps_hours = day >= now - timedelta(days=settings.ROLLUP_HOURS_DAYS)
    for hour in (day + number * HOUR for number in range(24)):
        with transaction.atomic():
            _take_turn()
            minutes = counting.count(hour, hour + HOUR)
            cells, before = counting.merged(minutes.items(), HOUR), dict(counting.stored(Span.HOUR, hour, hour + HOUR))
            if answers_in(cells) < answers_in(before) and not even_if_fewer:
                kept_hours, cells = kept_hours + 1, before
            else:
                starts = [hour + number * MINUTE for number in range(60)]
                updating.replace(Span.MINUTE, starts, minutes if keeps_minutes else {})
                quarters = counting.merged(minutes.items(), Span.QUARTER.length)
                updating.replace(Span.QUARTER, starts[::15], quarters if keeps_minutes else {})
                updating.replace(Span.HOUR, [hour], cells if keeps_hours else {})
        for key, cell in counting.merged(cells.items(), DAY).items():
            of_day.setdefault(key, counting.Cell()).add(cell)
    with transaction.atomic():
        _take_turn()
        before = dict(counting.stored(Span.DAY, day, day + DAY))
        if keeps_hours:
            # Another run may have written one of its hours meanwhile.
            for third in range(3):
                updating.merge(Span.HOUR, Span.THIRD, day + third * Span.THIRD.length)
            updating.merge(Span.HOUR, Span.DAY, day)
        elif answers_in(of_day) >= answers_in(before) or even_if_fewer:
            updating.replace(Span.DAY, [day], of_day)
        else:
            kept_hours, of_day = 24, before
    return Rebuilt(day.date(), answers_in(of_day), kept_hours)


def _take_turn() -> None:
    """Have every other run that is counting now give up, or wait for the end of this database transaction."""
    RollupProgress.objects.filter(pk=1).update(turn=F("turn") + 1)
