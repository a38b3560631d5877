from collections.abc import Sequence

import numpy as np


class PopulationStabilityIndex:
    """Sum over bins of (current - reference) · ln(current / reference), of the shares of values in each bin.

    The usual reading: below 0.1 stable, 0.1 to 0.25 moderate, above 0.25 strong drift. By chance alone it is about
    (bins - 1) · (1/n + 1/m) for n recent and m reference values, so a minimum number of values is needed.

    Parameters
    ----------
    edges
        Inner bin edges, rising, [bins - 1]. A value belongs to the bin `np.searchsorted(edges, value, side="right")`.
    proportions
        Share of the reference in each bin, [bins], adding up to 1.

    Examples
    --------
    >>> psi = PopulationStabilityIndex(edges=[0.0], proportions=[0.5, 0.5])
    >>> psi.measure(np.array([-1.0, 1.0]))
    0.0
    >>> round(psi.measure(np.array([-1.0, 1.0, 1.0, 1.0])), 3)
    0.275

    References
    ----------
    Naeem Siddiqi: Credit Risk Scorecards. Wiley, 2006. B. Yurdakul and J. Naranjo: Statistical properties of the
    population stability index. Journal of Risk Model Validation 14(4), 2020 (for its size by chance).
    """

    MODERATE = 0.1
    STRONG = 0.25
    # An empty bin would make the logarithm infinite, so it counts as having this share.
    SMALLEST_SHARE = 1e-4

    def __init__(self, edges: Sequence[float], proportions: Sequence[float]) -> None:
        self._edges = np.asarray(edges)
        self._reference = np.maximum(proportions, self.SMALLEST_SHARE)

    def shares(self, values: np.ndarray) -> np.ndarray:
        """The share of values [n] in each bin, [bins]."""
        bins = np.searchsorted(self._edges, values, side="right")
        return np.asarray(np.bincount(bins, minlength=len(self._reference)) / len(values))

    def measure(self, values: np.ndarray) -> float:
        current = np.maximum(self.shares(values), self.SMALLEST_SHARE)
        return float(np.sum((current - self._reference) * np.log(current / self._reference)))
