"""Bands of the score: unions of the bins of `scoring.policies.bins`, about equally wide in log odds.

A thousand bins a day for a year are too many for a page. Ranking and calibration are well told by some eighty bands, as
those near 0 and 1, where most scores are, are narrow.
"""

import numpy as np

from scoring.policies import bins

# In log odds.
WIDTH = 0.2


def _bands_of_bins() -> np.ndarray:
    """The band of each bin, [bins.COUNT]. The first bin has no finite log odds, and is a band of its own."""
    edges = np.array(bins.edges())
    edges[-1] = 1 - 1e-5
    log_odds = np.log(edges[1:] / (1 - edges[1:]))
    steps = np.floor((log_odds - log_odds[0]) / WIDTH + bins.HAIR)
    # Where a bin is wider than a band, numbers are left out.
    return np.append(0, 1 + np.unique(steps, return_inverse=True)[1])


BAND_OF_BIN = _bands_of_bins()
COUNT = int(BAND_OF_BIN[-1]) + 1
# Where each band begins, [COUNT].
EDGES = np.array(bins.edges())[np.searchsorted(BAND_OF_BIN, np.arange(COUNT))]


def bands_of(scores: np.ndarray) -> np.ndarray:
    """The bands [n] of scores [n] in [0, 1].

    >>> bands_of(np.array([0.0, 0.00009, 0.5, 1.0])).tolist() == [0, 0, bands_of(np.array([0.52]))[0], COUNT - 1]
    True
    """
    return np.asarray(BAND_OF_BIN[bins.bins_of(scores)])
