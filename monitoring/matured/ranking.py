"""How well a version's scores rank decisions, and how well they are calibrated, by the labels that have come. Pure.

Decisions are counted by bands of their score, with the weights of `monitoring.matured.estimates`: a known outcome of an
alert stands for those whose outcome is not known, and the random sample tells of frauds that nobody reports. Rows of a
band count as evenly mixed, which costs average precision less than a hundredth. Intervals take each count of frauds as
Poisson, a weighted one as an effective count (Fay and Feuer, 1997), as there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from monitoring.matured import bands, estimates
from monitoring.matured.estimates import DRAWS, PRIOR, Fate, Missed
from monitoring.matured.selectors import Banded
from scoring.decisions import ALERTS
from scoring.policies.backtesting import Share

GROUPS = 10
LEVELS = (0.025, 0.975)


class Group(NamedTuple):
    """Decisions with similar scores: their mean score, the share of fraud among them, and how many they are."""

    score: float
    share: Share
    rows: float


@dataclass(frozen=True)
class Ranked:
    """A version's decisions by bands of their score, [bands.COUNT] each: the sum of the scores, weighted numbers of
    `rows` and `frauds`, which in a small band may be more, and `squares`, sums of the squared weights of the frauds.
    `is_sampled` if the random sample told of frauds that nobody reports."""

    scores: np.ndarray
    rows: np.ndarray
    frauds: np.ndarray
    squares: np.ndarray
    is_sampled: bool

    @property
    def auprc(self) -> Share:
        """The area under the precision-recall curve, as average precision; None without fraud."""
        if self.frauds.sum() <= 0:
            return Share()
        value = float(average_precision(self.frauds, self.rows))
        low, high = np.quantile(average_precision(self._drawn(), self.rows), LEVELS).tolist()
        # In a small band the draws may be more than the rows.
        return Share(value, min(low, value), min(1.0, max(high, value)))

    @property
    def groups(self) -> list[Group]:
        """Decisions in up to `GROUPS` groups of neighbouring bands, with about equal numbers of expected frauds: of
        groups of equal width, the first would have nearly all rows."""
        return list(self._groups())

    def _groups(self) -> Iterator[Group]:
        expected = np.cumsum(self.scores)
        if not expected[-1]:
            return
        numbers = np.minimum((expected / expected[-1] * GROUPS).astype(int), GROUPS - 1)
        drawn = self._drawn()
        for number in np.unique(numbers):
            chosen = numbers == number
            rows = float(self.rows[chosen].sum())
            if rows > 0:
                value = float(self.frauds[chosen].sum()) / rows
                low, high = np.quantile(drawn[:, chosen].sum(axis=1) / rows, LEVELS).tolist()
                score = float(self.scores[chosen].sum()) / rows
                yield Group(score, Share(min(value, 1.0), min(low, value, 1.0), min(1.0, max(high, value))), rows)

    def _drawn(self) -> np.ndarray:
        """Draws [DRAWS, bands.COUNT] of the frauds. All bands share the prior, so that it is half a fraud in all and
        not in each."""
        scale = np.divide(self.squares, self.frauds, out=np.ones(bands.COUNT), where=self.frauds > 0)
        prior = np.where(self.rows > 0, PRIOR / bands.COUNT, 0.0)
        shape = np.maximum(self.frauds, 0.0) / scale + prior
        return np.asarray(np.random.default_rng(0).standard_gamma(shape, (DRAWS, bands.COUNT)) * scale)


def ranked(counts: Mapping[Fate, Banded], covered: Mapping[str, float], missed: Missed) -> Ranked:
    """A version's decisions, from its sums; `covered` and `missed` are those of the same days."""
    frauds, squares = np.zeros(bands.COUNT), np.zeros(bands.COUNT)
    told: list[Banded] = []
    for decision in sorted(str(each) for each in ALERTS):
        of_alerts = {fate: sums for fate, sums in counts.items() if fate.decision == decision}
        weights = {fate: estimates.weight(fate, covered) for fate in of_alerts}
        known = sum(weights[fate] * float(_known(fate, sums).sum()) for fate, sums in of_alerts.items())
        if known <= 0:
            continue  # nobody knows what became of these
        told += of_alerts.values()
        # Those whose outcome is known stand for all with this decision.
        each = sum(float(sums["rows"].sum()) for sums in of_alerts.values()) / known
        for fate, sums in of_alerts.items():
            frauds += each * weights[fate] * sums["frauds"]
            squares += (each * weights[fate]) ** 2 * sums["frauds"]
    others = [sums for fate, sums in counts.items() if fate.decision not in ALERTS]
    unreported = sum(float(sums["unreported"].sum()) for sums in others)
    factor = missed.unreported / unreported if unreported else 1.0
    for sums in others:
        frauds += sums["reported"] + factor * sums["unreported"]
        squares += sums["reported"] + factor**2 * sums["unreported_square"]
    rows, scores = (_added(name, [*told, *others]) for name in ("rows", "score"))
    return Ranked(scores, rows, np.maximum(frauds, 0.0), squares, is_sampled=missed.judged > 0)


def _known(fate: Fate, sums: Banded) -> np.ndarray:
    """The alerts of each band whose outcome is known, as in `estimates.caught`."""
    return sums["rows"] - sums["undecided"] if fate.let_through else sums["labelled"]


def _added(name: str, parts: list[Banded]) -> np.ndarray:
    return np.sum([sums[name] for sums in parts], axis=0) if parts else np.zeros(bands.COUNT)


def average_precision(frauds: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Average precision of bands, rising by score: their frauds [..., b] and all their rows [b].

    Within a band, frauds are spread evenly: the curve between two points is that of Davis and Goadrich (The
    Relationship Between Precision-Recall and ROC Curves, ICML 2006), and its integral is exact.

    >>> float(average_precision(np.array([0.0, 1.0]), np.array([9.0, 1.0])))
    1.0
    >>> round(float(average_precision(np.array([1.0, 1.0]), np.array([9.0, 1.0]))), 3)
    0.669
    """
    found, seen = frauds[..., ::-1], rows[::-1]
    kept = seen > 0
    found, seen = found[..., kept], seen[kept]
    caught, alerts = np.cumsum(found, axis=-1) - found, np.cumsum(seen) - seen
    share = found / seen
    stretch = np.log1p(np.divide(seen, alerts, out=np.zeros_like(seen), where=alerts > 0))
    precision = share + (caught - share * alerts) / seen * stretch
    return np.asarray((precision * found).sum(axis=-1) / found.sum(axis=-1))
