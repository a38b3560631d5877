"""Deletes old counts of rules, refusals and scores, which grow by the minute for ever otherwise."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from scoring.models import RefusalCount, RefusalOfClientCount, RuleCount, RuleOfClientCount, ScoreCount

# The rows of one statement, and the statements of one run: other writers wait for none of them long.
STEP = 5_000
STEPS = 200
COUNTS: list[tuple[Any, str]] = [
    (RuleCount, "minute"),
    (RuleOfClientCount, "minute"),
    (RefusalCount, "minute"),
    (RefusalOfClientCount, "minute"),
    (ScoreCount, "hour"),
]


def delete_old_counts(*, now: datetime | None = None) -> int:
    """Delete the counts that are older than `COUNTS_RETENTION_DAYS`, at most `STEPS` times `STEP` a kind; the next
    run goes on. Returns how many were deleted."""
    before = (now or timezone.now()) - timedelta(days=settings.COUNTS_RETENTION_DAYS)
    return sum(_delete(model, column, before) for model, column in COUNTS)


def _delete(model: Any, column: str, before: datetime) -> int:
    deleted = 0
    for _ in range(STEPS):
        old = model.objects.filter(**{f"{column}__lt": before}).order_by(column).values_list("pk", flat=True)[:STEP]
        count, _ = model.objects.filter(pk__in=list(old)).delete()
        deleted += count
        if count < STEP:
            break
    return deleted
