"""How far two analysts who judge the same cases agree, and how long decisions take."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 4_000
# Added to each of the four counts: Jeffreys' prior of a multinomial.
PRIOR = 0.5


class Kappa(NamedTuple):
    """Cohen's kappa of `cases`, of which `agreed` got the same judgement twice, with its 95 % interval.

    Kappa is 1 if all agree, and 0 if they agree as often as if each judged by chance at their own rates (Cohen, A
    Coefficient of Agreement for Nominal Scales, 1960). It is None if all judgements are the same, where chance alone
    explains the agreement. The interval is that of the posterior under Jeffreys' prior, as the usual normal interval
    has no width for a handful of cases that agree.
    """

    cases: int
    agreed: int
    value: float | None
    low: float
    high: float


def kappa_of(pairs: Iterable[tuple[bool, bool]]) -> Kappa | None:
    """The agreement of pairs of judgements. None for no pairs."""
    counts: Mapping[tuple[bool, bool], int] = Counter(pairs)
    table = np.array([[counts[first, second] for second in (True, False)] for first in (True, False)], np.float64)
    cases = int(table.sum())
    if not cases:
        return None
    draws = np.random.default_rng(0).dirichlet(table.ravel() + PRIOR, DRAWS).reshape(DRAWS, 2, 2)
    low, high = np.quantile(_kappa(draws), [0.025, 0.975])
    value = float(_kappa(table[None] / cases)[0])
    return Kappa(cases, int(np.trace(table)), None if np.isnan(value) else value, float(low), float(high))


def _kappa(shares: np.ndarray) -> np.ndarray:
    """Kappa of each table of shares (n, 2, 2), NaN where all judgements are the same."""
    observed = shares[:, 0, 0] + shares[:, 1, 1]
    expected = (shares.sum(axis=2) * shares.sum(axis=1)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)


class Pace(NamedTuple):
    """How long decisions took, in seconds: quantiles of `cases`."""

    cases: int
    tenth: float
    quarter: float
    median: float
    three_quarters: float
    nine_tenths: float


def pace_of(seconds: Sequence[float]) -> Pace:
    """The pace of at least one decision."""
    return Pace(len(seconds), *map(float, np.quantile(seconds, [0.1, 0.25, 0.5, 0.75, 0.9])))
