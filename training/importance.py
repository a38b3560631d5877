"""Which features a model leans on: permutation importance (Breiman, Random Forests, Machine Learning 45, 2001)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

# The work is bounded by rows and not by time, so that a seed repeats it: of ULB's validation rows it takes a second.
LEGITIMATE_ROWS = 5_000
REPEATS = 3


def permutation_importance(
    score: Callable[[np.ndarray], np.ndarray],
    features: np.ndarray,
    labels: np.ndarray,
    *,
    names: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """What a model loses in AUPRC when the values of one feature are dealt out anew among the rows.

    Args:
        score: [n, f] float32 to [n] scores; higher is riskier.
        features: rows [n, f] that the model was not trained on, in the order of `names`.
        labels: [n] of 0 and 1, both among them.
        seed: draws the rows and deals out the values.

    Returns `{"rows", "repeats", "auprc", "features": {name: {"value", "low", "high"}}}`: the mean of some repeats, the
    least and the most of them. All frauds take part, and at most 5,000 legitimate rows, which weigh as much as all of
    theirs do. Two features that tell the same stand in for each other, and both lose little.
    """
    random = np.random.default_rng(seed)
    frauds, legitimate = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    taken = random.choice(legitimate, min(LEGITIMATE_ROWS, len(legitimate)), replace=False)
    rows = np.concatenate([frauds, taken])
    truth, inputs = labels[rows], features[rows].astype(np.float32)
    weights = np.where(truth == 1, 1.0, len(legitimate) / len(taken))

    def auprc() -> float:
        return float(average_precision_score(truth, score(inputs), sample_weight=weights))

    whole = auprc()
    found = {}
    for column, name in enumerate(names):
        original = inputs[:, column].copy()
        losses = []
        for _ in range(REPEATS):
            # Dealt out among the taken rows as if each stood for as many as it weighs: mostly legitimate values.
            inputs[:, column] = random.choice(original, len(rows), p=weights / weights.sum())
            losses.append(whole - auprc())
        inputs[:, column] = original
        found[name] = {"value": float(np.mean(losses)), "low": min(losses), "high": max(losses)}
    return {"rows": len(rows), "repeats": REPEATS, "auprc": whole, "features": found}
