"""What is usual at an hour of the week, and how far a value is from it. Pure.

The usual is the median of the same hour of up to `WEEKS` earlier weeks: an outage or a sale in one of them does not
move it. Distances are measured on a scale where chance varies alike at any level: the square root of counts and the
arcsine of shares (F. J. Anscombe: The transformation of Poisson, binomial and negative-binomial data. Biometrika 35,
1948). The spread is told by the median absolute difference between one week and the next, pooled over all hours, and is
never taken to be below what chance alone makes of counts. So traffic that is more restless than chance, or that grows,
widens what counts as usual. The median and the MAD in place of mean and deviation: O. Vallis, J. Hochenbaum,
A. Kejariwal: A novel technique for long-term anomaly detection in the cloud. USENIX HotCloud 2014.

Holidays are not known: a quiet Monday is unusual. Levels of rules are wide, and a silence can be set ahead.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from monitoring.alerts.series import Kind, Series

WEEK = timedelta(days=7)
WEEKS = 5
FEWEST_WEEKS = 3
# From the median absolute deviation to the standard deviation of a normal distribution.
TO_SIGMA = 1.4826
# The least spread of a level, as a share of it: smaller changes are of no interest to anybody.
LEAST_SPREAD = 0.05


@dataclass(frozen=True, eq=False)
class Usual:
    """Of each step [n]: the `deviation` of its value in standard deviations, positive above the usual, and the usual
    value itself as it is shown; NaN where there are fewer than `FEWEST_WEEKS` earlier weeks."""

    deviation: np.ndarray
    expected: np.ndarray


def usual(series: Series) -> Usual:
    """Compare each step with the same hour of the weeks before it. Only earlier steps are used."""
    period, length = round(WEEK / series.step), len(series)
    scaled, unit = _scaled(series)
    earlier = np.full((WEEKS, length), np.nan)
    for week in range(1, WEEKS + 1):
        if (shift := week * period) < length:
            earlier[week - 1, shift:] = scaled[: length - shift]
    known = (~np.isnan(earlier)).sum(axis=0)
    expected = np.full(length, np.nan)
    enough = known >= FEWEST_WEEKS
    if enough.any():
        expected[enough] = np.nanmedian(earlier[:, enough], axis=0)
    spread = _spread(scaled, unit, period)
    # The median of w values has about pi / 2w of the variance of one (M. G. Kendall and A. Stuart: The Advanced Theory
    # of Statistics, vol. 1).
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = (scaled - expected) / (unit * spread * np.sqrt(1 + np.pi / (2 * np.maximum(known, 1))))
    return Usual(deviation, _unscaled(expected, series.kind))


def _scaled(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Values on the scale, and the standard deviation that chance alone gives each of them there, [n] both."""
    values, samples = series.values, np.asarray(series.samples, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        match series.kind:
            case Kind.COUNT:
                return np.sqrt(values + 0.375), np.full(len(values), 0.5)
            case Kind.SHARE:
                share = np.clip((values + 0.375) / (samples + 0.75), 0.0, 1.0)
                return np.where(samples > 0, np.arcsin(np.sqrt(share)), np.nan), 0.5 / np.sqrt(samples + 0.5)
            case _:
                return np.log(np.maximum(values, 1e-9)), np.full(len(values), LEAST_SPREAD)


def _unscaled(scaled: np.ndarray, kind: Kind) -> np.ndarray:
    match kind:
        case Kind.COUNT:
            return np.maximum(scaled**2 - 0.375, 0.0)
        case Kind.SHARE:
            return np.sin(scaled) ** 2
        case _:
            return np.exp(scaled)


def _spread(scaled: np.ndarray, unit: np.ndarray, period: int) -> np.ndarray:
    """How many times as restless as chance the weeks before each step were, [n], at least 1. It is looked at once for
    each day of steps, in the `WEEKS` before."""
    spread = np.ones(len(scaled))
    if len(scaled) <= period:
        return spread
    chance = np.sqrt(unit[period:] ** 2 + unit[:-period] ** 2)
    steps = np.abs(scaled[period:] - scaled[:-period]) / chance
    day = max(1, period // 7)
    for first in range(period, len(scaled), day):
        before = steps[max(0, first - WEEKS * period) : first - period]
        before = before[~np.isnan(before)]
        if len(before):
            spread[first : first + day] = max(1.0, TO_SIGMA * float(np.median(before)))
    return spread
