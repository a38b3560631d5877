"""Deletes old minutes and hours; days are kept for ever."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from monitoring.rollups.models import RefusalRollup, ReviewRollup, RollupProgress, RuleRollup, Span, TrafficRollup

# The rows of one statement, and the statements of one run for each kind: other writers wait for none of them long.
STEP = 5_000
STEPS = 200


def delete_old(*, now: datetime | None = None) -> int:
    """Delete minutes older than `ROLLUP_MINUTES_DAYS` and hours older than `ROLLUP_HOURS_DAYS`; the next run goes on
    where many are. Nothing while days before the first run are still being counted. Returns how many were deleted."""
    now = now or timezone.now()
    if not RollupProgress.objects.filter(whole=True).exists():
        return 0
    minutes, hours = (now - timedelta(days=days) for days in (settings.ROLLUP_MINUTES_DAYS, settings.ROLLUP_HOURS_DAYS))
    return _delete(TrafficRollup, Span.MINUTE, minutes) + sum(
        _delete(model, Span.HOUR, hours) for model in (TrafficRollup, RefusalRollup, RuleRollup, ReviewRollup)
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
