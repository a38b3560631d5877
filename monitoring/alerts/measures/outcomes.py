"""Precision by labels, of the days whose labels are no longer to be expected."""

from datetime import UTC, datetime, timedelta

import numpy as np
from django.conf import settings

from monitoring.alerts.measures.base import DAY, Scope, SeriesBySubject, Subject, start_of
from monitoring.alerts.series import Kind, Series
from monitoring.matured import estimates, report, selectors
from monitoring.matured.selectors import Window
from training import registry


def precision_at_best(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    """The upper end of the 95 % interval of each champion's precision in its last matured days. A step is a day, and
    stands for the days that had matured by its end."""
    maturity = timedelta(days=settings.LABEL_MATURITY_DAYS)
    since = start_of(since, DAY)
    length = max(0, (until - since) // DAY)
    found = {}
    for champion in registry.champions():
        subject = Subject(champion.schema)
        if not scope.has(subject):
            continue
        last_days = [
            (since + (index + 1) * DAY - maturity).astimezone(UTC).date() - timedelta(days=1) for index in range(length)
        ]
        values, known = np.full(length, np.nan), np.zeros(length)
        if not last_days:
            continue
        first = last_days[0] - report.LATEST + DAY
        window = Window(champion.schema, first, last_days[-1], last_days[-1] + DAY, champion.pk)
        by_day = {day: counts for [day], counts in selectors.counts(window, "day").items()}
        for index, last in enumerate(last_days):
            parts = [counts for day, counts in by_day.items() if last - report.LATEST < day <= last]
            together = report.together(parts)
            if not together:
                continue
            caught = estimates.caught(together, estimates.coverage(together))
            values[index] = np.nan if caught.precision.high is None else caught.precision.high
            known[index] = caught.known
        if not np.isnan(values).all():
            found[subject] = Series(since, DAY, values, known, Kind.LEVEL)
    return found
