"""How good scores are, and where to cut them."""

from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

CONFIDENCE = 0.95
# Every metric of a bundle, and what people call it. Keras's ROC-AUC is an estimate over 200 thresholds.
METRIC_NAMES = {
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
    "auprc": "AUPRC",
    "roc_auc": "ROC-AUC",
    "roc_auc_keras_binned": "ROC-AUC by Keras",
}
# Those of `keras.metrics.AUC`, from the highest: 198 between 0 and 1, and one on either side.
KERAS_THRESHOLDS = np.concatenate([[1 + 1e-7], np.arange(198, 0, -1) / 199, [-1e-7]])
# Beside these where rows have a day and a card.
CARD_METRIC_NAMES = {"card_precision_100": "card precision top-100"}


def threshold_for_precision(labels: np.ndarray, scores: np.ndarray, target: float) -> float | None:
    """The lowest threshold, and so the highest recall, whose alerts have at least the target precision.

    `labels` [n] of 0 and 1, `scores` [n] in [0, 1]. A score at or above the threshold is an alert. The threshold lies
    midway between two scores, so that the last digit of a float decides nothing. None when no threshold attains it.
    """
    precision, _, thresholds = precision_recall_curve(labels, scores)
    attaining = np.flatnonzero(precision[:-1] >= target)
    if not len(attaining):
        return None
    lowest = attaining[0]
    below = thresholds[lowest - 1] if lowest else 0.0
    middle = float(thresholds[lowest] + below) / 2
    # Between two neighbouring floats there is no room, and the middle is one of them.
    return middle if middle > below else float(thresholds[lowest])


def evaluate(labels: np.ndarray, scores: np.ndarray, *, threshold: float, resamples: int, seed: int) -> dict[str, Any]:
    """Metrics of scores [n] against labels [n] of 0 and 1, each with a bootstrap interval.

    Returns `{"precision": {"value", "low", "high"}, …}` for every key of `METRIC_NAMES`, and `confusion` as
    [[true negatives, false positives], [false negatives, true positives]]. Intervals are 95 % percentile intervals over
    rows drawn with replacement (Efron and Tibshirani, An Introduction to the Bootstrap, 1993), of those draws in which
    the metric is defined; None where it is in none.
    """
    ranking = Ranking(labels, scores, threshold=threshold)
    drawn = ranking.bootstrap(resamples=resamples, seed=seed)
    metrics: dict[str, Any] = {}
    for name, value in ranking.metrics().items():
        low, high = _interval(drawn[name])
        metrics[name] = {"value": 0.0 if np.isnan(value) else value, "low": low, "high": high}
    alerts = scores >= threshold
    metrics["confusion"] = [
        [int(((labels == label) & (alerts == alert)).sum()) for alert in (False, True)] for label in (0, 1)
    ]
    metrics["threshold"] = threshold
    metrics["rows"] = len(labels)
    return metrics


def paired(
    labels: np.ndarray,
    ours: tuple[np.ndarray, float],
    theirs: tuple[np.ndarray, float],
    *,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, float | None]]:
    """What the first of two models has more than the second of each metric, on the same rows: `{"auprc": {"value",
    "low", "high"}, …}`.

    Each model is its scores [n] and its threshold. Both meet the same draws of rows, so that what makes a draw hard for
    both of them cancels out: the interval is narrower than the two models' own. 0 outside of it is a difference.
    """
    one, other = (Ranking(labels, scores, threshold=threshold) for scores, threshold in (ours, theirs))
    values, others = one.metrics(), other.metrics()
    drawn, drawn_others = (ranking.bootstrap(resamples=resamples, seed=seed) for ranking in (one, other))
    differences: dict[str, dict[str, float | None]] = {}
    for name, value in values.items():
        low, high = _interval(drawn[name] - drawn_others[name])
        difference = float(value - others[name])
        differences[name] = {"value": None if np.isnan(difference) else difference, "low": low, "high": high}
    return differences


def _interval(drawn: np.ndarray) -> tuple[float | None, float | None]:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return None, None
    low, high = np.percentile(known, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]).tolist()
    return low, high


def _area(points: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """The area under some points of a curve, joined by straight lines."""
    x, y = x[points], y[points]
    return float(np.diff(x) @ (y[1:] + y[:-1])) / 2


class Ranking:
    """Labels [n] of 0 and 1 and scores [n] in [0, 1], sorted once by falling score, so that the metrics of a bootstrap
    draw, which is a weight per row, cost a few cumulative sums."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray, *, threshold: float) -> None:
        self._order = np.argsort(-scores, kind="stable")
        self._fraud, ranked = labels[self._order].astype(np.float64), scores[self._order]
        # Equal scores rise above a threshold together: curves have a point at the end of each run of equals.
        self._ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        self._alerts = int(np.searchsorted(-ranked, -threshold, side="right"))
        # Keras counts scores above its thresholds, not at them.
        self._above_keras_thresholds = np.searchsorted(-ranked, -KERAS_THRESHOLDS, side="left")

    def metrics(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Each metric, of rows that count `weights` [n] times, in the order in which they came; NaN where it is not
        defined: without alerts, without fraud, with nothing else."""
        weight = np.ones(len(self._fraud)) if weights is None else weights[self._order]
        caught, seen = (np.append(0.0, np.cumsum(each)) for each in (self._fraud * weight, weight))
        frauds, rows = caught[-1], seen[-1]
        true_positives, positives = caught[self._alerts], seen[self._alerts]
        with np.errstate(invalid="ignore", divide="ignore"):
            recall, false_alarms = caught / frauds, (seen - caught) / (rows - frauds)
            ends = self._ends + 1
            steps = np.diff(recall[ends], prepend=0.0)
            found = {
                "precision": true_positives / positives,
                "recall": true_positives / frauds,
                "accuracy": (rows - positives - frauds + 2 * true_positives) / rows,
                "auprc": np.nansum(steps * caught[ends] / seen[ends]) if frauds else np.nan,
                "roc_auc": _area(np.append(0, ends), false_alarms, recall),
                "roc_auc_keras_binned": _area(self._above_keras_thresholds, false_alarms, recall),
            }
        return {name: float(value) for name, value in found.items()}

    def bootstrap(self, *, resamples: int, seed: int) -> dict[str, np.ndarray]:
        """Each metric over `resamples` draws of rows with replacement: name to [resamples] float64. The same seed draws
        the same rows, whatever their scores."""
        random, rows = np.random.default_rng(seed), len(self._fraud)
        drawn = {name: np.full(resamples, np.nan) for name in METRIC_NAMES}
        for i in range(resamples):
            weights = np.bincount(random.integers(0, rows, rows), minlength=rows).astype(np.float64)
            for name, value in self.metrics(weights).items():
                drawn[name][i] = value
        return drawn


def card_precision(labels: np.ndarray, scores: np.ndarray, days: np.ndarray, cards: np.ndarray, *, top: int) -> float:
    """Of the `top` cards with the highest score of a day, the share that has a fraud that day; the mean over days.

    Labels of 0 and 1, scores, days and cards are [n]. What an investigator who looks at so many cards a day finds: a
    card that was found is blocked and left out of the days after ("Reproducible Machine Learning for Credit Card Fraud
    Detection", chapter 4). Of equal scores the lower card number comes first.
    """
    found = np.empty(0, cards.dtype)
    shares = []
    for day in np.unique(days):
        rows = (days == day) & ~np.isin(cards, found)
        seen, card = np.unique(cards[rows], return_inverse=True)
        highest, fraud = np.full(len(seen), -np.inf), np.zeros(len(seen), bool)
        np.maximum.at(highest, card, scores[rows])
        np.logical_or.at(fraud, card, labels[rows] == 1)
        first = np.argsort(-highest, kind="stable")[:top]
        shares.append(fraud[first].sum() / top)
        found = np.append(found, seen[first][fraud[first]])
    return float(np.mean(shares))
