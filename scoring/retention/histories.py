"""Deletes histories of entities that had no event for long: HISTORY_RETENTION_DAYS.

No index finds them, as it would have to be written with each event. So all are walked over in the order of their
tokens, in steps.
"""

import time
from datetime import datetime
from math import inf

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from scoring.acts import acted
from scoring.models import History
from scoring.retention import deleting, periods


def idle(now: datetime) -> QuerySet[History]:
    """The histories that are to be deleted."""
    before = periods.cutoff(settings.HISTORY_RETENTION_DAYS, now)
    return History.objects.filter(updated_at__lt=before) if before else History.objects.none()


def delete_idle(*, after: str = "", now: datetime | None = None, seconds: float = inf) -> tuple[int, str]:
    """Walk on from a token, and delete the idle histories. One that gets an event meanwhile is kept. No step begins
    after so many seconds. Returns how many were deleted, and the token to go on from, "" at the end."""
    if not settings.HISTORY_RETENTION_DAYS:
        return 0, ""
    old = idle(now or timezone.now())
    ends_at = time.monotonic() + seconds
    deleted = 0
    while tokens := _next(after):
        began = time.monotonic()
        deleted += deleting.delete_rows(old.filter(token__in=tokens))
        after = tokens[-1]
        if time.monotonic() > ends_at:
            break
        deleting.rest(began)
    if deleted:
        acted.send(History, action="deleted", key="", detail=f"{deleted:,} idle histories", person=None)
    return deleted, after if tokens else ""


def _next(after: str) -> list[str]:
    tokens = History.objects.filter(token__gt=after).order_by("token").values_list("token", flat=True)
    return list(tokens[: settings.RETENTION_STEP_ROWS])
