"""Keeps fewer drift reports of long ago, as roll-ups do: each measurement of the last days, then one an hour, then one
a day. A plot of weeks shows no more."""

from datetime import datetime, timedelta
from itertools import groupby

from django.conf import settings
from django.utils import timezone

from monitoring.models import DriftReport
from monitoring.rollups.counting import DAY, HOUR, start_of

ROWS = 5_000  # of a statement


def thin(*, now: datetime | None = None) -> int:
    """Of reports older than `ROLLUP_MINUTES_DAYS` keep the last of each hour, and of those older than
    `ROLLUP_HOURS_DAYS` the last of each day, for each model version. Returns how many were deleted."""
    now = now or timezone.now()
    steps = {HOUR: settings.ROLLUP_MINUTES_DAYS, DAY: settings.ROLLUP_HOURS_DAYS}
    return sum(_thin(step, start_of(now - timedelta(days=days), DAY)) for step, days in steps.items())


def _thin(step: timedelta, before: datetime) -> int:
    old = DriftReport.objects.filter(created_at__lt=before).order_by("model_version", "created_at")
    times = old.values_list("pk", "model_version", "created_at").iterator()
    surplus = [
        pk
        for _, of_step in groupby(times, key=lambda row: (row[1], start_of(row[2], step)))
        for pk, *_ in list(of_step)[:-1]
    ]
    for first in range(0, len(surplus), ROWS):
        DriftReport.objects.filter(pk__in=surplus[first : first + ROWS]).delete()
    return len(surplus)
