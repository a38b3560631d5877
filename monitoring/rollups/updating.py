"""Keeps roll-ups up to date, each run from where the last one ended.

Minutes are counted from rows, hours from minutes and days from hours. A minute is counted when it has more answers than
its roll-ups say, and its roll-ups are replaced: a second run changes nothing, and an answer that is committed after its
minute, or by a worker whose clock is wrong, is found again. Counts, the hours and days that they change, and how far
the run has come are written in one database transaction, and only if no other run has written since it began to count.
So a second scheduler does no harm, and a run that is killed leaves what was there.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from time import monotonic

from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone

from monitoring.rollups import counting, histograms, sums
from monitoring.rollups.counting import ALL_CLIENTS, DAY, HOUR, MINUTE, Cells, start_of
from monitoring.rollups.models import RollupProgress, Span, TrafficRollup

# Answers that are committed so long after the moment that they bear, or before it, are found by the next run; in a busy
# minute only those of `LITTLE_LATE`, and the others by the first run of the next minute.
LATE, LITTLE_LATE = timedelta(minutes=15), timedelta(minutes=2)
# Those that come later still are found within so many hours: each minute, one of the last hours is looked at again.
LOOKED_BACK_H = 48
WRITTEN_AT_ONCE = 500


def update(*, now: datetime | None = None, seconds: float = 30.0) -> int:
    """Count all answers since the last run, late ones among them, and then the hours before the first run, the latest
    first. No hour is begun after so many seconds; the next run goes on. Returns how many minutes were written."""
    now = now or timezone.now()
    give_up = monotonic() + seconds
    progress, _ = RollupProgress.objects.get_or_create(pk=1)
    if progress.counted_until is None:
        progress.counted_from = progress.counted_until = start_of(now, DAY)
    before = progress.counted_until
    is_busy = _is_busy(start_of(now, MINUTE))
    until = max(before, start_of(now, MINUTE) if is_busy else now)
    begins_minute = start_of(before, MINUTE) != start_of(now, MINUTE)
    late = LITTLE_LATE if is_busy and not begins_minute else LATE
    written = 0
    for start, end in _hours_since(before - late, now + LATE):
        minutes = _settle(progress, start, end, now, counted_until=max(before, min(end, until)))
        written += minutes or 0
        if minutes is None or monotonic() > give_up:
            return written
    if begins_minute:
        looked_at = start_of(now, HOUR) - HOUR * (1 + start_of(now, MINUTE).timestamp() // 60 % LOOKED_BACK_H)
        _settle(progress, looked_at, looked_at + HOUR, now)
    with transaction.atomic():
        if not _move(progress, counted_until=until):
            return written
        sums.update(since=before if start_of(before, HOUR) == start_of(now, HOUR) else None, now=now)
    while not progress.whole and monotonic() < give_up:
        minutes = _step_back(progress, now)
        if minutes is None:
            break
        written += minutes
    return written


def _hours_since(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Begin and end of the hours between two moments that have answers; of the first, the minutes after `since`."""
    at = start_of(since, MINUTE)
    while (first := counting.first_answer(at)) and first <= until:
        hour = start_of(first, HOUR)
        yield max(at, hour), hour + HOUR
        at = hour + HOUR


def _step_back(progress: RollupProgress, now: datetime) -> int | None:
    """Count the latest hour before all that is counted; None if another run has written."""
    last = counting.last_answer(progress.counted_from) if progress.counted_from else None
    if last is None:
        return 0 if _move(progress, whole=True) else None
    hour = start_of(last, HOUR)
    return _settle(progress, hour, hour + HOUR, now, counted_from=hour)


def _settle(progress: RollupProgress, start: datetime, end: datetime, now: datetime, **moved: datetime) -> int | None:
    """Count those minutes of an hour, from `start` to `end`, that have more answers than was counted. Returns how many;
    None if another run has written meanwhile, and nothing was."""
    stale = _stale_minutes(start, end, now)
    cells: Cells = {}
    for first, last in _runs(stale):
        cells |= counting.count(first, last + MINUTE)
    with transaction.atomic():
        if not _move(progress, **moved):
            return None
        if stale:
            replace(Span.MINUTE, stale, cells)
            merge(Span.MINUTE, Span.HOUR, start_of(start, HOUR))
            merge(Span.HOUR, Span.DAY, start_of(start, DAY))
            if start < now - timedelta(days=settings.ROLLUP_MINUTES_DAYS):
                replace(Span.MINUTE, stale, {})
    return len(stale)


def _move(progress: RollupProgress, **moved: datetime | bool) -> bool:
    """Take this run's turn and note how far it has come; False if another run has written since the last turn.

    `counted_from` is as it was when all began, unless it is moved."""
    moved = {"counted_from": progress.counted_from, "counted_until": progress.counted_until} | moved  # type: ignore
    mine = RollupProgress.objects.filter(pk=progress.pk, turn=progress.turn)
    if not mine.update(turn=F("turn") + 1, **moved):
        return False
    progress.turn += 1
    for name, value in moved.items():
        setattr(progress, name, value)
    return True


def _is_busy(minute: datetime) -> bool:
    return sum(counting.answers_by_minute(minute, minute + MINUTE).values()) > settings.ROLLUP_BUSY_MINUTE


def _stale_minutes(start: datetime, end: datetime, now: datetime) -> list[datetime]:
    """The minutes of [start, end) with more answers than their roll-ups say, without busy ones that are not over. Rows
    are only ever added: a minute with fewer has lost rows to their retention, and its roll-ups stay."""
    rows = TrafficRollup.objects.filter(span=Span.MINUTE, client=ALL_CLIENTS, start__gte=start, start__lt=end)
    counted = dict(rows.order_by().values_list("start").annotate(number=Sum("transactions")))
    found = counting.answers_by_minute(start, end)
    return sorted(
        minute
        for minute, number in found.items()
        if number > counted.get(minute, 0) and (number <= settings.ROLLUP_BUSY_MINUTE or minute + MINUTE <= now)
    )


def _runs(minutes: list[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """The first and the last of each run of minutes without a gap."""
    first = last = None
    for minute in minutes:
        if last is not None and first is not None and minute - last > MINUTE:
            yield first, last
            first = None
        first, last = first or minute, minute
    if first is not None and last is not None:
        yield first, last


def replace(span: Span, starts: list[datetime], cells: Cells) -> None:
    """Write cells in place of the roll-ups that begin at these moments."""
    TrafficRollup.objects.filter(span=span, start__in=starts).delete()
    rows = (
        TrafficRollup(
            span=span,
            **key._asdict(),
            transactions=cell.transactions,
            amount=cell.amount,
            histograms=histograms.packed(cell.histograms),
        )
        for key, cell in cells.items()
    )
    TrafficRollup.objects.bulk_create(rows, batch_size=WRITTEN_AT_ONCE)


def merge(parts: Span, span: Span, start: datetime) -> None:
    """Write the roll-ups of an hour or a day from its parts."""
    length = timedelta(minutes=span)
    replace(span, [start], counting.merged(counting.stored(parts, start, start + length), length))
