"""Statistics of the training rows, for the model's preprocessing and the drift reference."""

from collections.abc import Container, Sequence

import numpy as np
from sklearn.preprocessing import StandardScaler

from training.core.description import Histogram, Reference

REFERENCE_BINS = 10


def statistics(features: np.ndarray, labels: np.ndarray, *, bins: int) -> dict[str, np.ndarray]:
    """The statistics of training rows [n, f] float64 and labels [n] of 0 and 1 for the model's preprocessing, as
    float32: `mean` and `scale` [f], and `edges` [f, bins + 1] unless `bins` is 0. Missing values, NaN, do not count."""
    # A feature that all rows miss is as good as 0 in all of them.
    scaler = StandardScaler().fit(np.where(np.isnan(features).all(axis=0), 0.0, features))
    found = {"mean": scaler.mean_, "scale": scaler.scale_}
    if bins:
        found["edges"] = bin_edges(features, labels, bins)
    return {name: values.astype(np.float32) for name, values in found.items()}


def bin_edges(features: np.ndarray, labels: np.ndarray, bins: int) -> np.ndarray:
    """Weighted quantiles [f, bins + 1] of each feature, with equal total weights of frauds and other rows.

    With plain quantiles, the few frauds would mostly be in one bin. Missing values, NaN, do not count.
    """
    weights = np.where(labels == 1, 0.5 / (labels == 1).sum(), 0.5 / (labels == 0).sum())
    shares = np.linspace(0, 1, bins + 1)
    edges = np.empty((features.shape[1], bins + 1))
    for feature, values in enumerate(features.T):
        order = np.argsort(values)  # NaN come last
        known = len(values) - np.isnan(values).sum()
        if not known:
            edges[feature] = 0.0
            continue
        sums = np.cumsum(weights[order[:known]])
        reached = np.searchsorted(sums, shares if known == len(values) else shares * sums[-1])
        edges[feature] = values[order][np.minimum(reached, known - 1)]
    return edges


def frequencies(categories: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """The share of rows in which each value of each category occurs, [sum of places] float32. `categories` [n, c] are
    numbered from 0; missing values, NaN, have the last of the `places`."""
    shares = [
        np.bincount(np.where(np.isnan(values), last, values).astype(np.int64), minlength=last + 1) / len(values)
        for values, last in zip(categories.T, np.array(places) - 1, strict=True)
    ]
    return np.concatenate(shares).astype(np.float32)


def reference_histogram(values: np.ndarray, *, optional: bool = False) -> Histogram:
    """Inner bin edges at the deciles of `values` [n], and the share of values in each bin.

    A decile whose value is frequent has an upper edge as well, so that this value has a bin of its own. Otherwise, in a
    feature that is mostly zero or has few values, drift to higher values would stay in the same bin. A value x belongs
    to bin `np.searchsorted(edges, x, side="right")`; there is one more proportion than edges. If the values are
    `optional`, the last bin is that of missing ones, NaN.
    """
    # Sorting and looking up the edges among the values is faster than looking up each value among the edges.
    rising = np.sort(values)
    if optional:
        known = rising[: len(rising) - np.isnan(rising).sum()]
        of_known = reference_histogram(known) if len(known) else {"edges": [], "proportions": [0.0]}
        share = len(known) / len(values)
        # NumPy sorts NaN behind all numbers, so they lie above the highest.
        return {
            "edges": [*of_known["edges"], float(np.finfo(values.dtype).max)],
            "proportions": [*(proportion * share for proportion in of_known["proportions"]), 1 - share],
        }
    deciles = np.linspace(0, len(rising) - 1, REFERENCE_BINS + 1)[1:-1]
    lower = np.unique(np.interp(deciles, np.arange(len(rising)), rising).astype(values.dtype))
    held = np.searchsorted(rising, lower, side="right") - np.searchsorted(rising, lower, side="left")
    frequent = lower[held * 2 * REFERENCE_BINS >= len(rising)]
    edges = np.unique(np.concatenate([lower, np.nextafter(frequent, frequent.dtype.type(np.inf))]))
    counts = np.diff(np.searchsorted(rising, edges, side="left"), prepend=0, append=len(rising))
    return {"edges": edges.tolist(), "proportions": (counts / len(values)).tolist()}


def reference(
    names: tuple[str, ...], features: np.ndarray, scores: np.ndarray, optional: Container[str] = ()
) -> Reference:
    """The drift reference: histograms of training rows [n, f], as float32 like the rows of families, and of validation
    scores [m]. Values of the `optional` names may be missing."""
    return {
        "features": {
            name: reference_histogram(features[:, i].astype(np.float32), optional=name in optional)
            for i, name in enumerate(names)
        },
        "score": reference_histogram(scores),
        "samples": len(features),
    }
