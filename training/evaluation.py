"""How good scores are, and where to cut them."""

from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    auc,
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    precision_score,
    recall_score,
    roc_auc_score,
)

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

    Returns `{"precision": {"value", "low", "high"}, …}` for precision, recall, accuracy, ROC-AUC and AUPRC (average
    precision), and `confusion` as [[true negatives, false positives], [false negatives, true positives]]. Intervals
    are 95 % percentile intervals over rows drawn with replacement (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993), of those draws in which the metric is defined; None where it is in none.
    """
    alerts = scores >= threshold
    values = {
        "precision": precision_score(labels, alerts, zero_division=0.0),
        "recall": recall_score(labels, alerts, zero_division=0.0),
        "accuracy": accuracy_score(labels, alerts),
        "roc_auc": roc_auc_score(labels, scores),
        "auprc": average_precision_score(labels, scores),
    }
    drawn = bootstrap(labels, scores, threshold=threshold, resamples=resamples, seed=seed)
    tails = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
    metrics: dict[str, Any] = {}
    for name, value in values.items():
        known = drawn[name][~np.isnan(drawn[name])]
        low, high = np.percentile(known, tails).tolist() if len(known) else (None, None)
        metrics[name] = {"value": float(value), "low": low, "high": high}
    metrics["confusion"] = confusion_matrix(labels, alerts, labels=[0, 1]).tolist()
    metrics["threshold"] = threshold
    metrics["rows"] = len(labels)
    return metrics


def bootstrap(
    labels: np.ndarray, scores: np.ndarray, *, threshold: float, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Each metric of `evaluate` over `resamples` draws of rows with replacement: name to [resamples] float64.

    A draw is a weight per row. Rows are sorted once, so that a draw costs three cumulative sums instead of a sort.
    """
    order = np.argsort(-scores, kind="stable")
    fraud, ranked = labels[order].astype(np.float64), scores[order]
    # Equal scores rise above a threshold together: curves have a point at the end of each run of equals.
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    alerts = int(np.searchsorted(-ranked, -threshold, side="right"))
    random = np.random.default_rng(seed)
    names = ("precision", "recall", "accuracy", "roc_auc", "auprc")
    drawn = {name: np.full(resamples, np.nan) for name in names}
    for i in range(resamples):
        weights = np.bincount(random.integers(0, len(labels), len(labels)), minlength=len(labels)).astype(np.float64)
        for name, value in weighted_metrics(fraud, weights, ends, alerts).items():
            drawn[name][i] = value
    return drawn


def weighted_metrics(fraud: np.ndarray, weights: np.ndarray, ends: np.ndarray, alerts: int) -> dict[str, float]:
    """Metrics of rows sorted by falling score: labels [n], weights [n], the last row of each run of equal scores, and
    how many rows are alerts. NaN where a metric is not defined: without alerts, without fraud, with nothing else."""
    caught, seen = np.cumsum(fraud * weights), np.cumsum(weights)
    frauds, rows = caught[-1], seen[-1]
    true_positives, positives = (caught[alerts - 1], seen[alerts - 1]) if alerts else (0.0, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = caught[ends] / frauds, caught[ends] / seen[ends]
        false_alarms = (seen[ends] - caught[ends]) / (rows - frauds)
        return {
            "precision": true_positives / positives if positives else np.nan,
            "recall": true_positives / frauds,
            "accuracy": (rows - positives - frauds + 2 * true_positives) / rows,
            "roc_auc": float(auc(np.append(0.0, false_alarms), np.append(0.0, recall))),
            "auprc": float(np.nansum(np.diff(recall, prepend=0.0) * precision)) if frauds else np.nan,
        }


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
