"""Permutation importance of features (Breiman, Random Forests, Machine Learning 45, 2001)."""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import average_precision_score

from training.core.description import Importance, Loss

# The work is limited by rows and not by time, so that a seed repeats it. The legitimate rows with the highest scores
# determine precision, so all of these are used; a sample of the others stands for the rest.
HIGHEST_ROWS = 500
DRAWN_ROWS = 500
REPEATS = 3


def permutation_importance(
    score: Callable[[np.ndarray], np.ndarray],
    features: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    names: Sequence[str],
    seed: int,
) -> Importance:
    """The loss of a model's AUPRC when the values of one feature are shuffled among the rows.

    Args:
        score: [n, f] float32 to [n] scores; higher is riskier.
        features: encoded rows [n, f] that the model was not trained on, in the order of `names`.
        labels: [n] of 0 and 1, both among them.
        scores: [n], the model's scores of these rows.
        seed: draws the rows and shuffles the values.

    Returns the mean, minimum and maximum over the repeats by name. All frauds are used, and at most 1,000 legitimate
    rows, weighted to stand for all of them. Two features with the same information replace each other, so both lose
    little.
    """
    random = np.random.default_rng(seed)
    frauds, legitimate = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    falling = legitimate[np.argsort(-scores[legitimate], kind="stable")]
    highest, others = falling[:HIGHEST_ROWS], falling[HIGHEST_ROWS:]
    drawn = random.choice(others, min(DRAWN_ROWS, len(others)), replace=False)
    rows = np.concatenate([frauds, highest, drawn])
    truth, inputs = labels[rows], features[rows].astype(np.float32)
    weights = np.ones(len(rows))
    weights[len(frauds) + len(highest) :] = len(others) / max(1, len(drawn))

    def auprc() -> float:
        return float(average_precision_score(truth, score(inputs), sample_weight=weights))

    whole = auprc()
    found = {}
    for column, name in enumerate(names):
        original = inputs[:, column].copy()
        losses = []
        for _ in range(REPEATS):
            # Each value is drawn with the weight of its row, as if all rows were shuffled.
            inputs[:, column] = random.choice(original, len(rows), p=weights / weights.sum())
            losses.append(whole - auprc())
        inputs[:, column] = original
        found[name] = Loss(value=float(np.mean(losses)), low=min(losses), high=max(losses))
    return Importance(rows=len(rows), repeats=REPEATS, auprc=whole, features=found)
