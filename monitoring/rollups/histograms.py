"""Histograms that can be added: a row of counts with the bins of the score and of each stage's latency.

Adding two rows gives the histograms of both together. So quantiles of any stretch of time come from the sum of its
rows, which quantiles of the parts cannot give.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

SCORE_BINS = 20
SCORE_EDGES = tuple(i / SCORE_BINS for i in range(1, SCORE_BINS))
# Upper edges in ms, exclusive; one more bin holds the latencies above the last edge.
LATENCY_EDGES_MS = (0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000, 5000)
LATENCY_BINS = len(LATENCY_EDGES_MS) + 1
# The stages of an answer, as `scoring.models.Prediction` measures them. `total` is from arrival to commit.
STAGES = ("queue", "features", "model", "total")
# Where each histogram stands in a row of counts.
PLACES = {
    "score": slice(0, SCORE_BINS),
    **{
        stage: slice(SCORE_BINS + i * LATENCY_BINS, SCORE_BINS + (i + 1) * LATENCY_BINS)
        for i, stage in enumerate(STAGES)
    },
}
BINS = SCORE_BINS + len(STAGES) * LATENCY_BINS
STORED = np.dtype("<u4")


def counted(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """A row of counts [BINS] of values [n]: of scores in [0, 1] by "score", and of latencies in ms by their stage."""
    row = np.zeros(BINS, np.int64)
    for name, found in values.items():
        edges = SCORE_EDGES if name == "score" else LATENCY_EDGES_MS
        row[PLACES[name]] = np.bincount(np.searchsorted(edges, found, side="right"), minlength=len(edges) + 1)
    return row


def packed(row: np.ndarray) -> bytes:
    """A row of counts as it is stored."""
    return row.astype(STORED).tobytes()


def unpacked(stored: Iterable[Any]) -> np.ndarray:
    """Rows of counts [n, BINS] of what is stored in n rows."""
    return np.frombuffer(b"".join(stored), STORED).reshape(-1, BINS).astype(np.int64)


def quantile_ms(histogram: Any, q: float) -> float | None:
    """A quantile from counts per bin of `LATENCY_EDGES_MS`, linear within its bin; None if the histogram is empty.

    `q` lies in (0, 1]. The last bin has no upper edge: a quantile in it is given as its lower edge.
    """
    counts = np.cumsum(histogram)
    if not counts[-1]:
        return None
    rank = q * counts[-1]
    bin_ = int(np.searchsorted(counts, rank))
    if bin_ == len(LATENCY_EDGES_MS):
        return float(LATENCY_EDGES_MS[-1])
    low = LATENCY_EDGES_MS[bin_ - 1] if bin_ else 0.0
    before = counts[bin_ - 1] if bin_ else 0
    return float(low + (LATENCY_EDGES_MS[bin_] - low) * (rank - before) / histogram[bin_])
