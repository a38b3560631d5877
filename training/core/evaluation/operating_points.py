"""What each threshold would do: the numbers behind a slider."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.core.scored import ScoredRows

LIMIT = 500


def operating_points(
    scored: Mapping[str, ScoredRows], *, marked: Sequence[float] = (), limit: int = LIMIT
) -> dict[str, Any]:
    """Count what thresholds do to the rows that a model was not trained on.

    Args:
        scored: "validation", and "test" or what else there is; the thresholds are those that part the validation rows.
        marked: thresholds that must be among them.
        limit: at most so many, and the marked ones.

    Returns `{"thresholds": [k], "parts": {part: {"rows", "frauds", "fraud_amount", "alerts": [k], "caught": [k],
    "missed": [k]}}}`, the thresholds rising: how many rows score at a threshold or above, how many of them are frauds,
    and what money the other frauds were, out of the `fraud_amount` of all; both None where amounts are not known. Of
    many thresholds, those that change how many frauds are caught are kept before others, and of the others those at
    even ratios of the number of alerts.
    """
    thresholds = sorted({*_parting(scored["validation"], limit), *marked})
    return {"thresholds": thresholds, "parts": {part: _counts(rows, thresholds) for part, rows in scored.items()}}


def _parting(rows: ScoredRows, limit: int) -> list[float]:
    """Thresholds midway between neighbouring scores, so that the last digit of a float decides nothing."""
    order = np.argsort(-rows.scores, kind="stable")
    ranked = rows.scores[order]
    # So many alerts can there be: equal scores rise above a threshold together.
    possible = np.append(np.flatnonzero(np.diff(ranked)) + 1, len(ranked))
    if len(possible) > limit:
        fraud_at = np.searchsorted(possible, np.flatnonzero(rows.labels[order] == 1) + 1)
        at_frauds = _spread(np.unique(fraud_at), limit // 2)
        evenly = np.geomspace(1, len(ranked), limit - len(at_frauds)).astype(int)
        possible = possible[np.union1d(at_frauds, np.searchsorted(possible, evenly))]
    above, below = ranked[possible - 1], np.append(ranked, 0.0)[possible]
    middle = (above + below) / 2
    # Between two neighbouring floats there is no room, and the middle is one of them.
    return np.where(middle > below, middle, above).tolist()


def _spread(values: np.ndarray, limit: int) -> np.ndarray:
    if len(values) <= limit:
        return values
    return values[np.linspace(0, len(values) - 1, limit).astype(int)]


def _counts(rows: ScoredRows, thresholds: Sequence[float]) -> dict[str, Any]:
    fraud = rows.labels == 1
    order = np.argsort(rows.scores[fraud], kind="stable")
    fraud_scores, amounts = rows.scores[fraud][order], rows.amounts[fraud][order].astype(np.float64)
    below = np.searchsorted(fraud_scores, thresholds)
    alerts = len(rows.scores) - np.searchsorted(np.sort(rows.scores), thresholds)
    known = not np.isnan(rows.amounts).any()
    money = np.append(0.0, np.cumsum(amounts)).round(2)
    return {
        "rows": len(rows.scores),
        "frauds": int(fraud.sum()),
        "fraud_amount": float(money[-1]) if known else None,
        "alerts": alerts.tolist(),
        "caught": (int(fraud.sum()) - below).tolist(),
        "missed": money[below].tolist() if known else None,
    }
