"""Keeps roll-ups up to date, each run from where the last one ended.

Minutes are counted from rows, quarters of an hour and hours from minutes, and what is longer from hours. A minute is
counted when it has more answers than its roll-ups say, and its roll-ups are replaced: a second run changes nothing, and
an answer that is committed after its minute, or by a worker whose clock is wrong, is found again. Counts, the longer
spans that they change, and how far the run has come are written in one database transaction, and only if no other run
has written since it began to count.
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
        # Also where a process of an earlier version, which knows fewer spans, has counted.
        _settle(progress, looked_at, looked_at + HOUR, now, merges=True)
    with transaction.atomic():
        if not _move(progress, counted_until=until):
            return written
        sums.update(since=before if start_of(before, HOUR) == start_of(now, HOUR) else None, now=now)
    while progress.merged_from and monotonic() < give_up:
        if not _merge_back(progress, progress.merged_from - DAY, now):
            return written
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


def _merge_back(progress: RollupProgress, day: datetime, now: datetime) -> bool:
    """Add up the quarters and thirds of a day, the days after which have them; False if another run has written."""
    first = TrafficRollup.objects.filter(span=Span.HOUR, client=ALL_CLIENTS).order_by("start").first()
    with transaction.atomic():
        if first is None or first.start >= day + DAY:
            return _move(progress, merged_from=None)
        if not _move(progress, merged_from=day):
            return False
        for span, parts in ((Span.QUARTER, Span.MINUTE), (Span.THIRD, Span.HOUR)):
            of_parts = TrafficRollup.objects.filter(span=parts, start__gte=day, start__lt=day + DAY)
            starts = of_parts.order_by().values_list("start", flat=True).distinct()
            for start in sorted({start_of(moment, span.length) for moment in starts}):
                merge(parts, span, start)
        sums.merge_back(day, now=now)
    return True


def _settle(
    progress: RollupProgress,
    start: datetime,
    end: datetime,
    now: datetime,
    *,
    merges: bool = False,
    **moved: datetime,
) -> int | None:
    """Count those minutes of an hour, from `start` to `end`, that have more answers than was counted, and add up the
    spans that they are in; with `merges`, those of the whole hour. Returns how many minutes; None if another run has
    written meanwhile, and nothing was."""
    stale = _stale_minutes(start, end, now)
    cells: Cells = {}
    for first, last in _runs(stale):
        cells |= counting.count(first, last + MINUTE)
    with transaction.atomic():
        if not _move(progress, **moved):
            return None
        replace(Span.MINUTE, stale, cells)
        changed = _counted(start, end) if merges else stale
        for span, parts in Span.longer():
            for begin in sorted({start_of(minute, span.length) for minute in changed}):
                merge(parts, span, begin)
        if stale and start < now - timedelta(days=settings.ROLLUP_MINUTES_DAYS):
            for span in (Span.MINUTE, Span.QUARTER):
                replace(span, sorted({start_of(minute, span.length) for minute in stale}), {})
    return len(stale)


def _move(progress: RollupProgress, **moved: datetime | bool | None) -> bool:
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
    counted, found = _counted(start, end), counting.answers_by_minute(start, end)
    return sorted(
        minute
        for minute, number in found.items()
        if number > counted.get(minute, 0) and (number <= settings.ROLLUP_BUSY_MINUTE or minute + MINUTE <= now)
    )


def _counted(start: datetime, end: datetime) -> dict[datetime, int]:
    """How many answers the roll-ups of each minute of [start, end) say."""
    rows = TrafficRollup.objects.filter(span=Span.MINUTE, client=ALL_CLIENTS, start__gte=start, start__lt=end)
    return dict(rows.order_by().values_list("start").annotate(number=Sum("transactions")))


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
    if not starts:
        return
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
    """Write the roll-ups of a longer span from its parts."""
    replace(span, [start], counting.merged(counting.stored(parts, start, start + span.length), span.length))
