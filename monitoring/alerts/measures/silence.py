"""Silence: how many transactions should have come since the last one.

Of each hour of the week, what is expected is the least of the same hours of the last `WEEKS` weeks, so a client that
now and then sends nothing at an hour is not missed at it. Silence is the sum of what was expected since the last
transaction. A source that sends by chance (Poisson) with at least that rate keeps silent for so long with a probability
of exp(-silence): 2 in a billion at 20. So a rule with that level says nothing false in years, and the time that it
takes depends on the client: as long as it takes to send 20 transactions, and `FEW_MINUTES` besides.

The last `BY_MINUTES` are read by the minute; before, a transaction within an hour counts as one in each of its steps.
"""

from datetime import datetime, timedelta

import numpy as np
from django.db.models import Sum

from monitoring.alerts.measures import traffic
from monitoring.alerts.measures.base import HOUR, Scope, SeriesBySubject, Subject, filled, start_of
from monitoring.alerts.measures.traffic import FEW_MINUTES
from monitoring.alerts.series import Kind, Series
from monitoring.rollups.models import Span

WEEKS = 4
FEWEST_WEEKS = 2
HOURS_OF_WEEK = 168
# How far back minutes are read; before, hours.
BY_MINUTES = timedelta(hours=3)


def silence(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    return _silence(scope, since, until, by_client=False)


def client_silence(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    return _silence(scope, since, until, by_client=True)


def _silence(scope: Scope, since: datetime, until: datetime, *, by_client: bool) -> SeriesBySubject:
    until = start_of(traffic.complete_until(until), FEW_MINUTES)
    first = start_of(min(since, until - BY_MINUTES), HOUR)
    hours = _counts(Span.HOUR, scope, first - timedelta(weeks=WEEKS), until + HOUR, HOUR, by_client)
    minutes = _counts(Span.MINUTE, scope, until - BY_MINUTES, until, FEW_MINUTES, by_client)
    found = {}
    steps, recent = (until - first) // FEW_MINUTES, BY_MINUTES // FEW_MINUTES
    for subject, counted in hours.items():
        expected = expected_of(counted.values)[HOURS_OF_WEEK * WEEKS :]
        in_steps = np.repeat(expected, HOUR // FEW_MINUTES)[:steps] / (HOUR // FEW_MINUTES)
        came = np.repeat(counted.values[HOURS_OF_WEEK * WEEKS :], HOUR // FEW_MINUTES)[:steps]
        came[-recent:] = minutes[subject].values if subject in minutes else 0.0
        values = missed(in_steps, came, before=_missed_before(counted.values))
        found[subject] = Series(first, FEW_MINUTES, values, np.full(steps, np.nansum(came) + 1), Kind.LEVEL)
    return {subject: series for subject, series in found.items() if not np.isnan(series.values).all()}


def expected_of(counts: np.ndarray) -> np.ndarray:
    """What is expected in each hour, [n], from the counts [n] of hours one after the other: the least of the same hours
    of up to `WEEKS` weeks before; NaN if there are fewer than `FEWEST_WEEKS` since the first transaction."""
    arrived = np.flatnonzero(counts > 0)
    known = counts.astype(float)
    known[: arrived[0] if len(arrived) else len(counts)] = np.nan
    weeks = np.full((WEEKS, len(counts)), np.nan)
    for week in range(1, WEEKS + 1):
        if (shift := week * HOURS_OF_WEEK) < len(counts):
            weeks[week - 1, shift:] = known[: len(counts) - shift]
    expected = np.full(len(counts), np.nan)
    enough = (~np.isnan(weeks)).sum(axis=0) >= FEWEST_WEEKS
    if enough.any():
        expected[enough] = np.nanmin(weeks[:, enough], axis=0)
    return expected


def missed(expected: np.ndarray, came: np.ndarray, *, before: float = 0.0) -> np.ndarray:
    """The silence at the end of each step, [n]: what was expected since the last step in which something came.

    >>> missed(np.array([2.0, 2.0, 2.0, 2.0]), np.array([0, 3, 0, 0]), before=1.0).tolist()
    [3.0, 0.0, 2.0, 4.0]
    """
    values, so_far = np.full(len(expected), np.nan), before
    for index, (should, did) in enumerate(zip(expected, came, strict=True)):
        so_far = 0.0 if did > 0 else so_far + (0.0 if np.isnan(should) else should)
        values[index] = np.nan if np.isnan(should) else so_far
    return values


def _missed_before(counts: np.ndarray) -> float:
    """The silence when the steps begin, by the hours before."""
    hours = len(counts) - HOURS_OF_WEEK * WEEKS
    earlier = counts[: len(counts) - hours]
    arrived = np.flatnonzero(earlier > 0)
    quiet = earlier[arrived[-1] + 1 :] if len(arrived) else earlier[:0]
    if not len(quiet):
        return 0.0
    return float(np.nansum(expected_of(earlier)[-len(quiet) :]))


def _counts(
    span: Span, scope: Scope, since: datetime, until: datetime, step: timedelta, by_client: bool
) -> dict[Subject, Series]:
    """Numbers of transactions by the step."""
    rows = traffic.cells(span, scope, since, until, by_client=by_client)
    groups = rows.values_list("schema", "client", "start").annotate(number=Sum("transactions"))
    by_step = (
        (Subject(schema, client or None), start, float(number), number) for schema, client, start, number in groups
    )
    return filled(by_step, since, until, step, Kind.COUNT, empty=0.0)
