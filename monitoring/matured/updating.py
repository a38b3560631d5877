"""Keeps the counts of outcomes up to date: which days may have changed, and counting them again.

A day is counted again when a label of one of its transactions arrives, a correction and a reversal among them. What
leaves no label (new traffic, a review that moves to another queue, the random sample's draw) is found by counting
yesterday and today every hour, and every day that is not long matured once a day. The counts of a day are replaced in
one database transaction, and a count that began later is never replaced by one that began earlier: a second scheduler
changes nothing, and a run that is killed leaves the day stale, for the next.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from time import monotonic

from django.conf import settings
from django.db import transaction
from django.db.models import F, Max, Min, Q
from django.db.models.functions import TruncDate
from django.utils import timezone

from monitoring.matured import counting, selectors
from monitoring.matured.counting import start_of
from monitoring.matured.models import LabelDelay, OutcomeCount, OutcomeDay, OutcomeProgress, ScoreOutcome
from scoring.models import Label, Prediction

DAY = timedelta(days=1)
# A label may be committed a while after its `created_at`, by a worker whose clock is ahead or behind.
SETTLED = timedelta(minutes=10)
# After how long a day is counted again without a label: while it goes on, and until it is long matured.
YOUNG, OLD = timedelta(hours=1), timedelta(hours=24)
LONG_MATURED = timedelta(days=31)
LABELS_AT_ONCE = 20_000


def update(*, now: datetime | None = None, seconds: float = 30.0) -> int:
    """Mark the days that may have changed, and count those that are stale, the newest first. No day is begun after so
    many seconds; the next run goes on. Returns how many days were counted."""
    now = now or timezone.now()
    _discover(now)
    _mark_labelled(now)
    _mark_by_age(now)
    begun, counted = monotonic(), 0
    for day, mark in OutcomeDay.objects.filter(counted__lt=F("marked")).order_by("-day").values_list("day", "marked"):
        if monotonic() - begun > seconds:
            break
        counted += _count(day, mark, now)
    return counted


def recount(*, since: date | None = None, now: datetime | None = None) -> Iterator[date]:
    """Count every day with predictions again, from `since` on if it is given. Yields each that was counted. Days of
    which predictions are gone keep their counts."""
    now = now or timezone.now()
    begin = start_of(since) if since else None
    if complete := selectors.complete_since():
        begin = max(begin or complete, complete)
    for day in _days_with_predictions(begin, now):
        _mark([day])
        if _count(day, OutcomeDay.objects.get(pk=day).marked, now):
            yield day


def _count(day: date, mark: int, now: datetime) -> bool:
    """Count a day, and replace its counts unless another run has done so with what this mark is about."""
    counts = counting.count(day)
    with transaction.atomic():
        if _is_incomplete(day):  # asked after the count: retention says so before it deletes
            OutcomeDay.objects.filter(pk=day, counted__lt=mark).update(counted=mark)
            return False
        if not OutcomeDay.objects.filter(pk=day, counted__lt=mark).update(counted=mark, counted_at=now):
            return False
        OutcomeCount.objects.filter(day=day).delete()
        OutcomeCount.objects.bulk_create(counts.outcomes, batch_size=500)
        ScoreOutcome.objects.filter(day=day).delete()
        ScoreOutcome.objects.bulk_create(counts.scores, batch_size=500)
        LabelDelay.objects.filter(day=day).delete()
        LabelDelay.objects.bulk_create(counts.delays)
    return True


def _is_incomplete(day: date) -> bool:
    """Whether predictions of a day are deleted. Its counts stay as they were made when they were all there."""
    complete = selectors.complete_since()
    return complete is not None and start_of(day) < complete


def _discover(now: datetime) -> None:
    """Make the rows of days that have predictions, after the latest that is known."""
    latest = OutcomeDay.objects.filter(day__lte=now.astimezone(UTC).date()).order_by("-day").first()
    found = list(_days_with_predictions(start_of(latest.day) + DAY if latest else None, now))
    OutcomeDay.objects.bulk_create([OutcomeDay(day=day) for day in found], ignore_conflicts=True)


def _days_with_predictions(since: datetime | None, now: datetime) -> Iterator[date]:
    """Every day with a prediction, from a midnight on if it is given, up to today."""
    moments = Prediction.objects.filter(created_at__lte=now).order_by("created_at").values_list("created_at", flat=True)
    while moment := (moments.filter(created_at__gte=since) if since else moments).first():
        day = moment.astimezone(UTC).date()
        yield day
        since = start_of(day) + DAY


def _mark_labelled(now: datetime) -> None:
    """Mark the days whose transactions have new labels."""
    progress, _ = OutcomeProgress.objects.get_or_create(pk=1)
    new = Label.objects.filter(pk__gt=progress.labels_until)
    # One with a lower key may not be committed yet. So those of the last minutes are looked at again.
    unsettled = new.filter(created_at__gte=now - SETTLED).aggregate(first=Min("pk"))["first"]
    settled = (new.filter(pk__lt=unsettled) if unsettled else new).aggregate(last=Max("pk"))["last"] or 0
    last = progress.labels_until
    while keys := list(new.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:LABELS_AT_ONCE]):
        of_part = Label.objects.filter(pk__gt=last, pk__lte=keys[-1])
        days = of_part.annotate(day=TruncDate("transaction__prediction__created_at", tzinfo=UTC))
        found = days.order_by().values_list("day", flat=True).distinct()
        last = keys[-1]
        until = min(last, settled)
        with transaction.atomic():
            _mark(day for day in found if day)  # none while the transaction waits for its score
            OutcomeProgress.objects.filter(pk=1, labels_until__lt=until).update(labels_until=until)


def _mark_by_age(now: datetime) -> None:
    yesterday = now.astimezone(UTC).date() - DAY
    young = Q(day__gte=yesterday, counted_at__lt=now - YOUNG)
    since = yesterday - timedelta(days=settings.LABEL_MATURITY_DAYS) - LONG_MATURED
    old = Q(day__gte=since, counted_at__lt=now - OLD)
    # Those that are stale already need no mark.
    OutcomeDay.objects.filter(young | old, counted__gte=F("marked")).update(marked=F("marked") + 1)


def _mark(days: Iterable[date]) -> None:
    found = sorted(set(days))
    OutcomeDay.objects.bulk_create([OutcomeDay(day=day, marked=0) for day in found], ignore_conflicts=True)
    # One by one and sorted, so that two runs at the same time cannot deadlock.
    for day in found:
        OutcomeDay.objects.filter(pk=day).update(marked=F("marked") + 1)
