"""Metrics of scores, their intervals, and thresholds."""

import numpy as np
from msgspec.structs import replace

from training.core.description import Measured, Metrics

CONFIDENCE = 0.95
# Every metric of a bundle between 0 and 1, and its title.
METRIC_NAMES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "accuracy": "accuracy",
    "auprc": "AUPRC",
    "roc_auc": "ROC-AUC",
    "roc_auc_keras_binned": "ROC-AUC by Keras",
    "precision_100": "precision top-100",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
# In the schema's currency, if amounts are known.
COST_METRIC_NAMES = {"cost_per_1000": "cost per 1,000 transactions"}
LOWER_IS_BETTER = {"brier", "calibration_error", *COST_METRIC_NAMES}
# The metrics on test rows that the seed system's README reports; its ROC-AUC is Keras's estimate.
PUBLISHED = {"precision": 0.8889, "recall": 0.7347, "roc_auc_keras_binned": 0.9432, "accuracy": 0.9994}
TOP = 100
CALIBRATION_BINS = 15
# The thresholds of `keras.metrics.AUC`, falling: 198 between 0 and 1, and one beyond either end.
KERAS_THRESHOLDS = np.concatenate([[1 + 1e-7], np.arange(198, 0, -1) / 199, [-1e-7]])
# Further metrics, if rows have a day and a card.
CARD_METRIC_NAMES = {"card_precision_100": "card precision top-100"}


def threshold_for_precision(labels: np.ndarray, scores: np.ndarray, target: float) -> float | None:
    """The lowest threshold, and so the highest recall, whose alerts have at least the target precision.

    `labels` [n] of 0 and 1, `scores` [n] in [0, 1]. A score at or above the threshold is an alert. The threshold lies
    midway between two scores, so that rounding does not matter. None if no threshold attains the target.
    """
    thresholds, alerts, caught = _cuts(scores, labels)
    attaining = np.flatnonzero(caught / alerts >= target)
    return _midway(thresholds, attaining[-1]) if len(attaining) else None


def threshold_for_f1(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold of the highest F1, 2 · precision · recall / (precision + recall); of equal ones the one with more
    alerts. There is one for any model, however weak."""
    thresholds, alerts, caught = _cuts(scores, labels)
    f1 = 2 * caught / (alerts + labels.sum())
    return _midway(thresholds, len(f1) - 1 - int(np.argmax(f1[::-1])))


def threshold_for_cost(
    labels: np.ndarray, scores: np.ndarray, amounts: np.ndarray, *, review_cost: float
) -> float | None:
    """The threshold of the lowest cost: `review_cost` for each alert, and the amount [n] of each missed fraud.

    Of equal costs the one with more alerts. None if no alerts at all cost least.
    """
    thresholds, alerts, saved = _cuts(scores, labels * amounts.astype(np.float64))
    spared = saved - review_cost * alerts
    best = len(spared) - 1 - int(np.argmax(spared[::-1]))
    return _midway(thresholds, best) if spared[best] > 0 else None


def threshold_for_alerts(scores: np.ndarray, *, alerts: float) -> float | None:
    """The lowest threshold with at most so many alerts. None if more rows than that share the highest score."""
    thresholds, counts, _ = _cuts(scores, np.zeros(len(scores)))
    within = np.flatnonzero(counts <= alerts)
    return _midway(thresholds, within[-1]) if len(within) else None


def _cuts(scores: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct scores, falling; for each, how many rows score at least that, and the sum of `counted` [n] of those
    rows."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    return ranked[ends], ends + 1, np.cumsum(counted[order])[ends]


def _midway(thresholds: np.ndarray, lowest: int) -> float:
    """The middle between one of the falling scores and the next."""
    below = thresholds[lowest + 1] if lowest + 1 < len(thresholds) else 0.0
    middle = float(thresholds[lowest] + below) / 2
    # Between two adjacent floats, the middle is one of them.
    return middle if middle > below else float(thresholds[lowest])


def evaluate(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    threshold: float,
    resamples: int,
    seed: int,
    amounts: np.ndarray | None = None,
    review_cost: float = 0.0,
    weights: np.ndarray | None = None,
) -> Metrics:
    """Metrics of scores [n] against labels [n] of 0 and 1, each with a bootstrap interval. `weights` [n] are how many
    transactions each row stands for, by default one.

    It measures all of `METRIC_NAMES`, with amounts [n] those of `COST_METRIC_NAMES` too. Intervals are 95 % percentile
    intervals over rows drawn with replacement (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). They use
    the draws in which the metric is defined, and are None if there are none.
    """
    ranking = Ranking(labels, scores, threshold=threshold, amounts=amounts, review_cost=review_cost, weights=weights)
    drawn = ranking.bootstrap(resamples=resamples, seed=seed)
    measured = {}
    for name, value in ranking.metrics().items():
        low, high = interval(drawn[name])
        measured[name] = Measured(value=0.0 if np.isnan(value) else value, low=low, high=high)
    alerts, counted = scores >= threshold, np.ones(len(labels)) if weights is None else weights
    confusion = [
        [int(counted[(labels == label) & (alerts == alert)].sum()) for alert in (False, True)] for label in (0, 1)
    ]
    return replace(Metrics(threshold=threshold, rows=int(counted.sum()), confusion=confusion), **measured)


def paired(
    labels: np.ndarray,
    ours: tuple[np.ndarray, float],
    theirs: tuple[np.ndarray, float],
    *,
    resamples: int,
    seed: int,
    amounts: np.ndarray | None = None,
    review_cost: float = 0.0,
    weights: np.ndarray | None = None,
) -> dict[str, dict[str, float | None]]:
    """The differences of each metric, first model minus second, on the same rows: `{"auprc": {"value", "low", "high"},
    …}`.

    Each model is given as its scores [n] and its threshold; `weights` [n] as in `evaluate`. Both are evaluated on the
    same draws of rows, so that what they have in common cancels out, and the interval is narrower than the two models'
    own. An interval without 0 is a difference.
    """
    first, second = (
        Ranking(labels, scores, threshold=threshold, amounts=amounts, review_cost=review_cost, weights=weights)
        for scores, threshold in (ours, theirs)
    )
    values, others = first.metrics(), second.metrics()
    drawn, drawn_others = (ranking.bootstrap(resamples=resamples, seed=seed) for ranking in (first, second))
    differences: dict[str, dict[str, float | None]] = {}
    for name, value in values.items():
        low, high = interval(drawn[name] - drawn_others[name])
        difference = float(value - others[name])
        differences[name] = {"value": None if np.isnan(difference) else difference, "low": low, "high": high}
    return differences


def _area(points: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """The area under a curve through some of its points, by the trapezoidal rule."""
    x, y = x[points], y[points]
    return float(np.diff(x) @ (y[1:] + y[:-1])) / 2


def interval(drawn: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % percentile interval of draws [n]; NaN is left out."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return None, None
    low, high = np.percentile(known, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]).tolist()
    return low, high


class Ranking:
    """Labels [n] of 0 and 1, scores [n] in [0, 1] and, for costs, amounts [n], sorted once by falling score, so that
    the metrics of a bootstrap draw, which is a weight per row, cost a few sums. A row counts `weights` [n] times in
    each draw that has it."""

    def __init__(
        self,
        labels: np.ndarray,
        scores: np.ndarray,
        *,
        threshold: float,
        amounts: np.ndarray | None = None,
        review_cost: float = 0.0,
        weights: np.ndarray | None = None,
    ) -> None:
        self._order = np.argsort(-scores, kind="stable")
        self._weights = np.ones(len(scores)) if weights is None else weights[self._order].astype(np.float64)
        self._fraud, ranked = labels[self._order].astype(np.float64), scores[self._order].astype(np.float64)
        # Rows with equal scores cross a threshold together: curves have a point at the end of each run of equal scores.
        self._ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) + 1
        self._alerts = int(np.searchsorted(-ranked, -threshold, side="right"))
        # Keras counts scores above its thresholds, not at them.
        self._above_keras_thresholds = np.searchsorted(-ranked, -KERAS_THRESHOLDS, side="left")
        self._excess = ranked - self._fraud
        starts = np.unique(np.searchsorted(-ranked, -np.arange(CALIBRATION_BINS, 0, -1) / CALIBRATION_BINS))
        self._bin_starts = starts[starts < len(ranked)]
        self._review_cost = review_cost
        missed = np.arange(len(ranked)) >= self._alerts
        self._lost = None if amounts is None else self._fraud * missed * amounts[self._order].astype(np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        return (*METRIC_NAMES, *(() if self._lost is None else COST_METRIC_NAMES))

    def metrics(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """Each metric, with `weights` [n] in the given order of rows; NaN if it is not defined: without alerts,
        without fraud, or with fraud alone.

        The Brier score is the mean squared error of the scores. The calibration error is the expected calibration error
        over 15 bins of equal width (Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using
        Bayesian Binning, AAAI 2015). Rows that share the score at place 100 count with their mean in the precision
        top-100.
        """
        weight = self._weights if weights is None else self._weights * weights[self._order]
        caught, seen = (np.append(0.0, np.cumsum(each)) for each in (self._fraud * weight, weight))
        frauds, rows = caught[-1], seen[-1]
        true_positives, positives = caught[self._alerts], seen[self._alerts]
        points = np.append(0, self._ends)
        excess = weight * self._excess
        with np.errstate(invalid="ignore", divide="ignore"):
            recall, false_alarms = caught / frauds, (seen - caught) / (rows - frauds)
            steps, precision = np.diff(recall[points]), caught[self._ends] / seen[self._ends]
            top = min(TOP, rows)
            found = {
                "precision": true_positives / positives,
                "recall": true_positives / frauds,
                "f1": 2 * true_positives / (positives + frauds),
                "accuracy": (rows - positives - frauds + 2 * true_positives) / rows,
                "auprc": np.nansum(steps * precision) if frauds else np.nan,
                "roc_auc": _area(points, false_alarms, recall),
                "roc_auc_keras_binned": _area(self._above_keras_thresholds, false_alarms, recall),
                "precision_100": np.interp(top, seen[points], caught[points]) / top,
                "brier": excess @ self._excess / rows,
                "calibration_error": np.abs(np.add.reduceat(excess, self._bin_starts)).sum() / rows,
            }
            if self._lost is not None:
                found["cost_per_1000"] = 1000 * (self._review_cost * positives + weight @ self._lost) / rows
        return {name: float(value) for name, value in found.items()}

    def bootstrap(self, *, resamples: int, seed: int) -> dict[str, np.ndarray]:
        """Each metric over `resamples` draws of rows with replacement: name to [resamples] float64. The same seed draws
        the same rows, whatever their scores."""
        random, rows = np.random.default_rng(seed), len(self._fraud)
        drawn = {name: np.full(resamples, np.nan) for name in self.names}
        for i in range(resamples):
            weights = np.bincount(random.integers(0, rows, rows), minlength=rows).astype(np.float64)
            for name, value in self.metrics(weights).items():
                drawn[name][i] = value
        return drawn


def card_precision(labels: np.ndarray, scores: np.ndarray, days: np.ndarray, cards: np.ndarray, *, top: int) -> float:
    """The share of the `top` cards with the highest score of a day that have a fraud that day; the mean over days.

    Labels of 0 and 1, scores, days and cards are [n]. It is what an investigator finds who looks at so many cards a
    day: a card with a found fraud is blocked, and left out of later days ("Reproducible Machine Learning for Credit
    Card Fraud Detection", chapter 4). Of equal scores the lower card number comes first.
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
