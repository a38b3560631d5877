"""When an alert fires and when it clears. Pure: the same function judges the present and the past fortnight."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from math import ceil

import numpy as np

from monitoring.alerts import baseline
from monitoring.alerts.series import Series


class Direction(StrEnum):
    ABOVE = "above"
    BELOW = "below"


class NoData(StrEnum):
    """What a step without a value, or with too few samples, stands for."""

    KEEP = "keep"  # nothing: it is passed over
    FIRE = "fire"  # a breach: figures that should be there are missing


class Verdict(Enum):
    BREACH = 1
    CALM = 2
    BETWEEN = 3  # between both levels
    UNKNOWN = 4


@dataclass(frozen=True)
class Condition:
    """Fires when each step of the time `lasts` was beyond `fires_at`, and clears when each of the time `calm` was back
    at `clears_at`.

    The level to clear is the calmer one, so that a value that swings around one level causes one alert. Steps with
    fewer than `min_samples` samples are unknown; they are passed over, unless more than half are. A seasonal condition
    compares deviations from the usual of the hour of the week, and fires only if the value is also `least_ratio` times
    the usual, or that part of it below.
    """

    direction: Direction
    fires_at: float
    clears_at: float
    lasts: timedelta = timedelta()
    calm: timedelta = timedelta()
    min_samples: int = 0
    no_data: NoData = NoData.KEEP
    is_seasonal: bool = False
    least_ratio: float = 1.0

    def steps(self, step: timedelta, *, is_open: bool) -> int:
        """How many steps in a row it takes to fire, or to clear an open alert."""
        return max(1, ceil((self.calm if is_open else self.lasts) / step))

    def looked_at(self, step: timedelta) -> timedelta:
        """How far back a judgement looks."""
        return 2 * step * max(self.steps(step, is_open=True), self.steps(step, is_open=False))


@dataclass(frozen=True, eq=False)
class Judged:
    """A series with what is compared with the levels, `compared` [n], the usual [n] of a seasonal one, and verdicts."""

    series: Series
    compared: np.ndarray
    expected: np.ndarray | None
    verdicts: list[Verdict]


@dataclass(frozen=True)
class Episode:
    """From the step at whose end an alert fired, to the step at whose end it cleared; None while it has not."""

    first: int
    last: int | None


def judge(series: Series, condition: Condition) -> Judged:
    """Judge each step."""
    shown = series.shown
    compared, expected = shown, None
    if condition.is_seasonal:
        found = baseline.usual(series)
        compared, expected = found.deviation, found.expected
    sign = 1.0 if condition.direction is Direction.ABOVE else -1.0
    with np.errstate(invalid="ignore"):
        breach = sign * compared >= sign * condition.fires_at
        calm = sign * compared <= sign * condition.clears_at
        if expected is not None and condition.least_ratio > 1.0:
            ratio = condition.least_ratio
            breach &= (shown >= ratio * expected) if sign > 0 else (shown * ratio <= expected)
    unknown = np.isnan(compared) | (np.asarray(series.samples) < condition.min_samples)
    missing = Verdict.BREACH if condition.no_data is NoData.FIRE else Verdict.UNKNOWN
    verdicts = [
        missing if absent else Verdict.BREACH if fires else Verdict.CALM if clears else Verdict.BETWEEN
        for absent, fires, clears in zip(unknown, breach, calm, strict=True)
    ]
    return Judged(series, compared, expected, verdicts)


def change(judged: Judged, condition: Condition, *, is_open: bool) -> Verdict | None:
    """What the last steps ask for: BREACH to fire, CALM to clear an open alert, None to leave all as it is."""
    steps = condition.steps(judged.series.step, is_open=is_open)
    return _change(judged.verdicts, steps, is_open=is_open)


def _change(verdicts: Sequence[Verdict], steps: int, *, is_open: bool) -> Verdict | None:
    wanted = Verdict.CALM if is_open else Verdict.BREACH
    known = [verdict for verdict in verdicts[-2 * steps :] if verdict is not Verdict.UNKNOWN][-steps:]
    return wanted if len(known) == steps and all(verdict is wanted for verdict in known) else None


def episodes(judged: Judged, condition: Condition, *, since: datetime | None = None) -> list[Episode]:
    """When the alert would have fired and cleared, judged after each step; of all, or of those that fired after
    `since`."""
    found = _episodes(judged, condition)
    return [each for each in found if since is None or judged.series.end_of(each.first) > since]


def _episodes(judged: Judged, condition: Condition) -> Iterator[Episode]:
    steps = {is_open: condition.steps(judged.series.step, is_open=is_open) for is_open in (False, True)}
    opened = None
    for index, verdict in enumerate(judged.verdicts):
        is_open = opened is not None
        if verdict is not (Verdict.CALM if is_open else Verdict.BREACH):
            continue  # an unknown step changes nothing either
        latest = judged.verdicts[max(0, index + 1 - 2 * steps[is_open]) : index + 1]
        if not _change(latest, steps[is_open], is_open=is_open):
            continue
        if opened is None:
            opened = index
        else:
            yield Episode(opened, index)
            opened = None
    if opened is not None:
        yield Episode(opened, None)
