"""Makes the estimates of each day, and keeps them as they were once the day is over.

An estimate of a day knows what was known of the days before it. It is made again whenever the counts of its day are,
until `SETTLED` after midnight; from then on it is kept, so that what came true can be held against it. Two runs at the
same time make the same estimate, and one that is killed leaves days for the next.
"""

from datetime import UTC, date, datetime, timedelta
from time import monotonic
from zlib import crc32

import numpy as np
from django.conf import settings
from django.utils import timezone

from monitoring.label_free import evidence
from monitoring.label_free.estimator import Expected, Shift, expect, shift
from monitoring.label_free.evidence import OTHERS, part_of
from monitoring.label_free.models import LabelFreeEstimate
from monitoring.matured import selectors
from monitoring.matured.counting import start_of
from monitoring.matured.models import OutcomeDay, ScoreOutcome
from monitoring.matured.selectors import Window
from scoring.decisions import ALERTS

DAY = timedelta(days=1)
# The last rows of a day are committed and counted a while after it.
SETTLED = timedelta(hours=2)
# An estimate that is first made later than this after its day may know labels of that day's decisions.
LATE = timedelta(days=2)


def update(*, now: datetime | None = None, seconds: float = 30.0) -> int:
    """Make the estimates of open days that are due, the newest first. None is begun after so many seconds; the next run
    goes on. Returns how many were made."""
    now = now or timezone.now()
    matured_before = selectors.matured_before(now, settings.LABEL_MATURITY_DAYS)
    days = {"day__gte": matured_before, "day__lte": now.astimezone(UTC).date()}
    made_at = {
        (day, version): at
        for day, version, at in LabelFreeEstimate.objects.filter(**days).values_list(
            "day", "model_version_id", "made_at"
        )
    }
    counted_at = dict(OutcomeDay.objects.filter(**days).values_list("day", "counted_at"))
    scored = ScoreOutcome.objects.filter(**days).order_by("-day", "schema", "model_version_id")
    begun, made = monotonic(), 0
    for day, schema, version in scored.values_list("day", "schema", "model_version_id").distinct():
        if monotonic() - begun > seconds:
            break
        if _is_due(day, made_at.get((day, version)), counted_at.get(day), now):
            _make(Window(schema, day, day, matured_before, version), now)
            made += 1
    return made


def _is_due(day: date, made_at: datetime | None, counted_at: datetime | None, now: datetime) -> bool:
    settles_at = start_of(day) + DAY + SETTLED
    if not counted_at or (made_at and (made_at >= settles_at or made_at >= counted_at)):
        return False
    # What is made from now on is kept, so it has to be made of all rows of the day.
    return now < settles_at or counted_at >= settles_at


def _make(window: Window, now: datetime) -> None:
    expected, factors = of_day(window)
    LabelFreeEstimate.objects.update_or_create(
        schema=window.schema,
        day=window.since,
        model_version_id=window.version,
        defaults={
            "made_at": now,
            "is_late": now > start_of(window.since) + DAY + LATE,
            "alerts": expected.alerts,
            "caught": expected.caught.tolist(),
            "missed": expected.missed.tolist(),
            "factors": factors,
        },
    )


def of_day(window: Window) -> tuple[Expected, dict[str, list[float]]]:
    """What is expected of a window's decisions, and the factors of the parts of which outcomes are known. The draws
    depend on version and day alone, and those of the shifts on the version alone: what its days have in common."""
    parts: dict[str, list[selectors.Banded]] = {part: [] for part in (*sorted(map(str, ALERTS)), OTHERS)}
    for fate, sums in evidence.banded(window).items():
        parts[part_of(fate.decision)].append(sums)
    known = evidence.before(window)
    of_version = np.random.default_rng(crc32(window.version.encode()))
    shifts = {part: shift(known[part], of_version) for part in parts}
    scores = {part: evidence.scores(found) for part, found in parts.items()}
    expected = expect(
        [(scores[part], shifts[part]) for part in parts if part != OTHERS],
        (scores[OTHERS], shifts[OTHERS]),
        np.random.default_rng([crc32(window.version.encode()), window.since.toordinal()]),
    )
    return expected, _factors(shifts)


def _factors(shifts: dict[str, Shift]) -> dict[str, list[float]]:
    return {part: [round(value, 6) for value in found.factor] for part, found in shifts.items() if found.is_known}
