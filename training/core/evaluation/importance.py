"""Which features a model leans on: permutation importance (Breiman, Random Forests, Machine Learning 45, 2001)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

# The work is bounded by rows and not by time, so that a seed repeats it. Of the legitimate rows, those with the highest
# scores decide about precision: they all take part, and a draw of the others stands for the others.
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
) -> dict[str, Any]:
    """What a model loses in AUPRC when the values of one feature are dealt out anew among the rows.

    Args:
        score: [n, f] float32 to [n] scores; higher is riskier.
        features: rows [n, f] that the model was not trained on, in the order of `names`.
        labels: [n] of 0 and 1, both among them.
        scores: [n], what the model says of these rows.
        seed: draws the rows and deals out the values.

    Returns `{"rows", "repeats", "auprc", "features": {name: {"value", "low", "high"}}}`: the mean of some repeats, the
    least and the most of them. All frauds take part, and at most 1,000 legitimate rows, which weigh as much as all of
    theirs do. Two features that tell the same stand in for each other, and both lose little.
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
            # As values are dealt out among all rows, each as often as its row weighs.
            inputs[:, column] = random.choice(original, len(rows), p=weights / weights.sum())
            losses.append(whole - auprc())
        inputs[:, column] = original
        found[name] = {"value": float(np.mean(losses)), "low": min(losses), "high": max(losses)}
    return {"rows": len(rows), "repeats": REPEATS, "auprc": whole, "features": found}
