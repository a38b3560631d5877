"""Statistics of the training rows that the model's graph and the drift reference are made of."""

from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

REFERENCE_BINS = 10


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale, [f] float32 each, of training rows [n, f]."""
    scaler = StandardScaler().fit(features)
    return scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32)


def reference_histogram(values: np.ndarray) -> dict[str, list[float]]:
    """Inner bin edges at the deciles of `values` [n], and the share of values in each bin.

    Equal deciles fall together, so a value that is very frequent has fewer, wider neighbours. A value x belongs to bin
    `np.searchsorted(edges, x, side="right")`; there is one proportion more than there are edges.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, REFERENCE_BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "proportions": (counts / len(values)).tolist()}


def reference(names: tuple[str, ...], features: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """What recent traffic is compared with: histograms of training rows [n, f] and of validation scores [m]."""
    return {
        "features": {name: reference_histogram(features[:, i]) for i, name in enumerate(names)},
        "score": reference_histogram(scores),
        "samples": len(features),
    }
