"""Deletes old roll-ups; days are kept for ever."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from monitoring.rollups.models import RefusalRollup, ReviewRollup, RollupProgress, RuleRollup, Span, TrafficRollup

# The rows of one statement, and the statements of one run for each kind: other writers wait for none of them long.
STEP = 5_000
STEPS = 200


def delete_old(*, now: datetime | None = None) -> int:
    """Delete minutes and quarters of an hour older than `ROLLUP_MINUTES_DAYS`, and hours and thirds of a day older than
    `ROLLUP_HOURS_DAYS`; the next run goes on where many are. Nothing while days before the first run are still being
    counted. Returns how many were deleted."""
    now = now or timezone.now()
    if not RollupProgress.objects.filter(whole=True).exists():
        return 0
    minutes, hours = (now - timedelta(days=days) for days in (settings.ROLLUP_MINUTES_DAYS, settings.ROLLUP_HOURS_DAYS))
    return sum(
        _delete(model, span, hours if span >= Span.HOUR else minutes)
        for model in (TrafficRollup, RefusalRollup, RuleRollup, ReviewRollup)
        for span in Span
        if span != Span.DAY
    )


def _delete(model: Any, span: Span, before: datetime) -> int:
    deleted = 0
    # Whole days only: a day is made from all of its hours, and an hour from all of its minutes.
    midnight = before.replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(STEPS):
        old = model.objects.filter(span=span, start__lt=midnight).order_by("start").values_list("pk", flat=True)[:STEP]
        count, _ = model.objects.filter(pk__in=list(old)).delete()
        deleted += count
        if count < STEP:
            break
    return deleted
