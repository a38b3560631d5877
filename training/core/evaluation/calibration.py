"""Calibration: maps a model's scores to probabilities. Of transactions with a score of 0.3, 30 % should be fraud.

Every method has the form logit(q) = a · ln p − b · ln(1 − p) + c for a score p, with a > 0 and b ≥ 0. It rises with p,
so the ranking of transactions stays, and with it the alerts of a threshold with a given precision.

`fitting` finds the calibration of a model. It needs SciPy and scikit-learn; this module does not, as web processes
import it.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from training.core.description import StoredCalibration
from training.core.exceptions import BundleRefused

# A score in float32 may be rounded to 0 or 1, so scores are clipped to these bounds.
LOWEST, HIGHEST = 1e-38, 1 - 2**-25


@dataclass(frozen=True)
class Calibration:
    """`method` is "none", "platt" (a = b; Platt, Probabilistic Outputs for Support Vector Machines, 1999) or "beta"
    (Kull, Silva Filho and Flach, Beta calibration, AISTATS 2017).

    >>> Calibration("platt", a=2.0, b=2.0, c=0.0)(np.array([0.5, 0.9]))
    array([0.5       , 0.98780488])
    """

    method: str = "none"
    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities [n] float64 of scores [n] in [0, 1]; NaN stays NaN."""
        return scores.astype(np.float64) if self.method == "none" else probabilities_of(self.logits(scores))

    def logits(self, scores: np.ndarray) -> np.ndarray:
        """Logits [n] float64, all finite, of the probabilities of scores [n] in [0, 1]."""
        above, below = terms(scores.astype(np.float64))
        # Elementwise, as the rounding of a matrix product can depend on the size of the batch.
        return self.a * above + self.b * below + self.c

    def logits_of_answers(self, probabilities: np.ndarray) -> np.ndarray:
        """Logits [n] float64, all finite, of probabilities [n] that this returned."""
        if self.method == "none":
            return self.logits(probabilities)
        certain = probabilities.clip(np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)
        return np.log(certain) - np.log1p(-certain)

    def slopes(self, scores: np.ndarray) -> np.ndarray:
        """The derivatives of `logits` by the logits of the scores themselves, [n] each."""
        return self.a * (1 - scores) + self.b * scores

    def as_json(self) -> StoredCalibration:
        return StoredCalibration(method=self.method, a=self.a, b=self.b, c=self.c)

    @classmethod
    def from_json(cls, stored: StoredCalibration | None) -> Self:
        """Read the calibration of a bundle; older bundles have none, and their scores are not calibrated.

        Raises:
            BundleRefused: it is not a valid calibration.
        """
        try:
            found = cls(**stored or {})
            valid = (
                found.method in METHODS
                and found.a > 0
                and found.b >= 0
                and np.isfinite([found.a, found.b, found.c]).all()
            )
        except TypeError:
            valid = False
        if not valid:
            raise BundleRefused(f"The calibration {stored} is not valid.")
        return found


METHODS = ("none", "platt", "beta")


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """The probabilities [n] of logits [n]."""
    with np.errstate(over="ignore"):  # exp gives infinity, and its inverse the 0 that is right
        return 1 / (1 + np.exp(-logits))


def terms(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln p and −ln(1 − p), [n] each."""
    scores = scores.clip(LOWEST, HIGHEST)
    return np.log(scores), -np.log1p(-scores)
