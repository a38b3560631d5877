"""Reads the kept estimates of a window's periods, and holds those of matured periods against what came true."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from math import hypot
from typing import NamedTuple, Self

import numpy as np

from monitoring.label_free.estimator import Expected
from monitoring.label_free.models import LabelFreeEstimate
from monitoring.matured.models import ScoreOutcome
from monitoring.matured.report import Period
from monitoring.matured.selectors import Window
from scoring.policies.backtesting import Share


class Foreseen(NamedTuple):
    """What was expected of a period. It `is_timely` if there is an estimate of all its decisions, and each was made
    before labels could have told."""

    period: Period
    expected: Expected
    is_timely: bool


class Interval(NamedTuple):
    """A share that is known, with the ends of its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, share: Share) -> Self | None:
        if share.value is None or share.low is None or share.high is None:
            return None
        return cls(share.value, share.low, share.high)


class Held(NamedTuple):
    """An estimate of a matured period beside what came true."""

    period: Period
    expected: Interval
    truth: Interval

    @property
    def error(self) -> float:
        return self.expected.value - self.truth.value

    @property
    def is_within(self) -> bool:
        """Whether the two are as close as their intervals allow. What came true is an estimate as well, by the control
        group and the random sample, so its own interval counts: in quadrature, as the two err independently."""
        expected, truth = self.expected, self.truth
        if self.error > 0:
            return self.error <= hypot(expected.value - expected.low, truth.high - truth.value)
        return -self.error <= hypot(expected.high - expected.value, truth.value - truth.low)


class Record(NamedTuple):
    """How good the estimates of a measure have been."""

    held: list[Held]

    @property
    def within(self) -> int:
        return sum(each.is_within for each in self.held)

    @property
    def mean_error(self) -> float | None:
        """The mean absolute error, as a share; None without estimates."""
        return float(np.mean([abs(each.error) for each in self.held])) if self.held else None

    @classmethod
    def of(cls, foreseen: Sequence[Foreseen], measure: str) -> Self:
        """Of "precision" or "recall", over matured periods with timely estimates where both can be told."""
        found = []
        for each in foreseen:
            if each.period.is_matured and each.is_timely:
                expected = Interval.of(getattr(each.expected, measure))
                truth = Interval.of(getattr(each.period.figures, measure))
                if expected and truth:
                    found.append(Held(each.period, expected, truth))
        return cls(found)


def foreseen(window: Window, periods: Sequence[Period]) -> list[Foreseen]:
    """What was expected of those of a window's periods of which anything was."""
    days = {"schema": window.schema, "day__gte": window.since, "day__lte": window.until}
    if window.version:
        days["model_version_id"] = window.version
    rows = LabelFreeEstimate.objects.filter(**days)
    estimates: dict[date, list[Expected]] = defaultdict(list)
    timely = set()
    for day, version, is_late, alerts, caught, missed in rows.values_list(
        "day", "model_version_id", "is_late", "alerts", "caught", "missed"
    ):
        estimates[day].append(Expected(alerts, np.array(caught, float), np.array(missed, float)))
        if not is_late:
            timely.add((day, version))
    decided = set(ScoreOutcome.objects.filter(**days).order_by().values_list("day", "model_version_id").distinct())
    found = []
    for period in periods:
        parts = [part for day, of_day in estimates.items() if period.since <= day <= period.until for part in of_day]
        if parts:
            of_period = {key for key in decided if period.since <= key[0] <= period.until}
            found.append(Foreseen(period, Expected.together(parts), of_period <= timely))
    return found


def factors(window: Window) -> dict[str, dict[str, list[float]]]:
    """By what the newest estimate of each version multiplied the odds of fraud, by part: see `LabelFreeEstimate`."""
    rows = LabelFreeEstimate.objects.filter(schema=window.schema, day__gte=window.since, day__lte=window.until)
    rows = rows.filter(model_version_id=window.version) if window.version else rows
    return dict(rows.order_by("day").values_list("model_version_id", "factors"))
