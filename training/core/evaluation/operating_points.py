"""Operating points: the results of each threshold, for the slider on a model's page."""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from training.core.scored import ScoredRows

LIMIT = 500


class Counts(Struct, frozen=True, kw_only=True):
    """What a part's rows give at each of k thresholds: how many rows score at least that, how many of them are frauds,
    and the amount of the missed frauds, out of the `fraud_amount` of all. Amounts are None if not known."""

    rows: int
    frauds: int
    fraud_amount: float | None
    alerts: list[int]
    caught: list[int]
    missed: list[float] | None


class OperatingPoints(Struct, frozen=True, kw_only=True):
    """Rising thresholds [k], and the counts of each part by its name."""

    thresholds: list[float]
    parts: dict[str, Counts]


def operating_points(
    scored: Mapping[str, ScoredRows], *, marked: Sequence[float] = (), limit: int = LIMIT
) -> OperatingPoints:
    """Count alerts, caught frauds and missed amounts at each threshold.

    Args:
        scored: "validation", and perhaps further parts such as "test". The thresholds separate the validation scores.
        marked: thresholds that must be included.
        limit: the most thresholds, without the marked ones.

    If there are too many thresholds, half of the limit is for those at which the number of caught frauds changes, and
    the rest for even ratios of the number of alerts.
    """
    thresholds = sorted({*_parting(scored["validation"], limit), *marked})
    parts = {part: _counts(rows, thresholds) for part, rows in scored.items()}
    return OperatingPoints(thresholds=thresholds, parts=parts)


def _parting(rows: ScoredRows, limit: int) -> list[float]:
    """Thresholds midway between adjacent scores, so that rounding does not matter."""
    order = np.argsort(-rows.scores, kind="stable")
    ranked = rows.scores[order]
    # The possible numbers of alerts: rows with equal scores cross a threshold together.
    possible = np.append(np.flatnonzero(np.diff(ranked)) + 1, len(ranked))
    if len(possible) > limit:
        fraud_at = np.searchsorted(possible, np.flatnonzero(rows.labels[order] == 1) + 1)
        at_frauds = _spread(np.unique(fraud_at), limit // 2)
        evenly = np.geomspace(1, len(ranked), limit - len(at_frauds)).astype(int)
        possible = possible[np.union1d(at_frauds, np.searchsorted(possible, evenly))]
    above, below = ranked[possible - 1], np.append(ranked, 0.0)[possible]
    middle = (above + below) / 2
    # Between two adjacent floats, the middle is one of them.
    return np.where(middle > below, middle, above).tolist()


def _spread(values: np.ndarray, limit: int) -> np.ndarray:
    if len(values) <= limit:
        return values
    return values[np.linspace(0, len(values) - 1, limit).astype(int)]


def _counts(rows: ScoredRows, thresholds: Sequence[float]) -> Counts:
    fraud = rows.labels == 1
    order = np.argsort(rows.scores[fraud], kind="stable")
    fraud_scores, amounts = rows.scores[fraud][order], rows.amounts[fraud][order].astype(np.float64)
    below = np.searchsorted(fraud_scores, thresholds)
    alerts = len(rows.scores) - np.searchsorted(np.sort(rows.scores), thresholds)
    known = not np.isnan(rows.amounts).any()
    money = np.append(0.0, np.cumsum(amounts)).round(2)
    return Counts(
        rows=len(rows.scores),
        frauds=int(fraud.sum()),
        fraud_amount=float(money[-1]) if known else None,
        alerts=alerts.tolist(),
        caught=(int(fraud.sum()) - below).tolist(),
        missed=money[below].tolist() if known else None,
    )
