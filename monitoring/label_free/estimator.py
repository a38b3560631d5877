"""Expects frauds among decisions that nobody has judged, from their scores. Pure: no database, no clock.

The method is confidence-based performance estimation (CBPE; Kivimäki, Białek, Kuberski and Nurminen, Performance
Estimation in Binary Classification Using Calibrated Confidence, arXiv:2505.05295, 2025). If a score is the probability
of fraud, the number of frauds among some decisions is a sum of independent draws with these probabilities (a
Poisson-binomial variable), and so the cells of the confusion matrix, and with them precision and recall, have a known
distribution. It is simulated.

Scores are seldom calibrated for ever. So all log odds of a part of the decisions are moved by one `shift`, which is
recalibration in the large (Steyerberg, Clinical Prediction Models, chapter 15, 2nd edition, 2019). It is estimated from
decisions of that part whose outcome is known: those under review, the control group, the random sample. Its prior is
normal around 0, so that a small sample moves little; its posterior is computed on a grid, and its doubt is part of the
interval. Known outcomes count with their weights as an effective number of unweighted ones (Kish, Survey Sampling,
1965). Without known outcomes the shift is 0: the estimate then assumes that scores are calibrated, and its interval
tells chance alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log
from typing import Self

import numpy as np

from scoring.policies.backtesting import Share

# Joint draws of an estimate. They are kept, and add up draw by draw, so they are few.
DRAWS = 400
# Before any outcome is known, the odds of fraud are off by a factor below two with a probability of 68 %.
PRIOR_SD = log(2)
# Shifts that are looked at, in log odds: e to the power of 5 is a factor of about 150.
SHIFTS = np.linspace(-5.0, 5.0, 401)
# With fewer, an outcome says too little to give up the assumption: effective alerts, and frauds found or expected.
FEWEST_ALERTS, FEWEST_FRAUDS = 5.0, 1.0
LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class Scores:
    """Decisions by bands of their score: how many `rows` [b] there are, and the `mean` [b] of their scores."""

    rows: np.ndarray
    mean: np.ndarray

    @property
    def expected(self) -> float:
        """The number of frauds if scores are calibrated."""
        return float(self.rows @ self.mean)


@dataclass(frozen=True)
class Judged:
    """Decisions whose outcome is known, in weighted numbers by bands of their score: all of them [b], the `frauds` [b]
    among them, the mean score [b]; and the sum of the squares of the weights."""

    weight: np.ndarray
    frauds: np.ndarray
    mean: np.ndarray
    squares: float

    @property
    def effective(self) -> float:
        return float(self.weight.sum()) ** 2 / self.squares if self.squares else 0.0

    def likelihood(self) -> np.ndarray | None:
        """The logarithm of the likelihood of each of `SHIFTS`, up to a constant; None if too little is known."""
        if self.effective < FEWEST_ALERTS:
            return None
        chances = moved(self.mean[:, None], SHIFTS)
        others = np.maximum(0.0, self.weight - self.frauds)
        total = self.frauds @ np.log(chances) + others @ np.log1p(-chances)
        return np.asarray(self.effective / self.weight.sum() * total)


@dataclass(frozen=True)
class Counted:
    """Decisions of which only the number of frauds is estimated: their scores, that number, and its variance; `scale`
    is what a fraud would weigh if none was found."""

    scores: Scores
    frauds: float
    variance: float
    scale: float

    def likelihood(self) -> np.ndarray | None:
        """As of `Judged`. The number is Poisson in units that give it its variance, as in Fay and Feuer (1997)."""
        unit = self.variance / self.frauds if self.frauds > 0 and self.variance > 0 else self.scale
        if max(self.frauds, self.scores.expected) / unit < FEWEST_FRAUDS:
            return None
        expected = self.scores.rows @ moved(self.scores.mean[:, None], SHIFTS) / unit
        return np.asarray(max(0.0, self.frauds) / unit * np.log(expected) - expected)


Evidence = Judged | Counted | None


@dataclass(frozen=True)
class Shift:
    """How far the log odds of a part are moved: as draws [DRAWS]. `is_known` is false if nothing is known of it, and
    all draws are 0."""

    draws: np.ndarray
    is_known: bool

    @property
    def factor(self) -> tuple[float, float, float]:
        """By how much the odds of fraud are multiplied: the median, and the 95 % interval."""
        low, middle, high = np.exp(np.quantile(self.draws, [LEVELS[0], 0.5, LEVELS[1]])).tolist()
        return middle, low, high


@dataclass(frozen=True)
class Expected:
    """What is expected of some decisions: the number of `alerts`, and draws [DRAWS] of the frauds that are `caught`,
    which are among them, and of those that are `missed`."""

    alerts: int
    caught: np.ndarray
    missed: np.ndarray

    @property
    def precision(self) -> Share:
        return _share(self.caught, np.full(len(self.caught), float(self.alerts)))

    @property
    def recall(self) -> Share:
        return _share(self.caught, self.caught + self.missed)

    @classmethod
    def together(cls, parts: Iterable[Self]) -> Self:
        """Of several days or versions. Draws add up one by one, so what the days of a version have in common, their
        shift, does not average out."""
        found = list(parts)
        return cls(
            sum(part.alerts for part in found),
            np.sum([part.caught for part in found], axis=0),
            np.sum([part.missed for part in found], axis=0),
        )


def shift(evidence: Evidence, random: np.random.Generator) -> Shift:
    """Draws from the posterior of a part's shift. They are quantiles in an order of chance: with the same state of
    `random`, a shift that hardly differs has nearly the same draws."""
    likelihood = evidence.likelihood() if evidence else None
    order = random.permutation(DRAWS)
    if likelihood is None:
        return Shift(np.zeros(DRAWS), is_known=False)
    posterior = likelihood - SHIFTS**2 / (2 * PRIOR_SD**2)
    density = np.exp(posterior - posterior.max())
    share = np.cumsum(density) - density / 2
    quantiles = np.interp((order + 0.5) / DRAWS, share / density.sum(), SHIFTS)
    return Shift(quantiles, is_known=True)


def frauds(scores: Scores, moves: Shift, random: np.random.Generator) -> np.ndarray:
    """Draws [DRAWS] of the number of frauds among decisions, one for each draw of the shift."""
    seen = scores.rows > 0
    chances = moved(scores.mean[seen], moves.draws[:, None])
    return np.asarray(random.binomial(scores.rows[seen].astype(np.int64), chances).sum(axis=1))


def expect(
    alerts: Sequence[tuple[Scores, Shift]], others: tuple[Scores, Shift], random: np.random.Generator
) -> Expected:
    """Expect what became of decisions: alerts in parts, such as those to review and those that were blocked, and all
    that was no alert."""
    caught = [frauds(scores, moves, random) for scores, moves in alerts]
    return Expected(
        int(sum(scores.rows.sum() for scores, _ in alerts)),
        np.sum(caught, axis=0) if caught else np.zeros(DRAWS),
        frauds(*others, random),
    )


def moved(chances: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Probabilities with their log odds moved. The two are broadcast.

    >>> moved(np.array([0.5]), np.array([0.0, np.log(3)])).round(3).tolist()
    [0.5, 0.75]
    """
    certain = np.clip(chances, 1e-12, 1 - 1e-9)
    odds = certain / (1 - certain) * np.exp(shifts)
    return np.asarray(np.clip(odds / (1 + odds), 1e-15, 1 - 1e-12))


def _share(part: np.ndarray, whole: np.ndarray) -> Share:
    """A share, and the interval of its draws; those without a whole do not count."""
    known = whole > 0
    if not known.any() or not whole.mean():
        return Share()
    low, high = np.quantile(part[known] / whole[known], LEVELS).tolist()
    value = float(part.sum() / whole.sum())
    return Share(value, min(low, value), max(high, value))
