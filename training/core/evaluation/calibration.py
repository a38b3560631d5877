"""Calibration: maps a model's scores to probabilities. Of transactions with a score of 0.3, 30 % should be fraud.

Every method has the form logit(q) = a · ln p − b · ln(1 − p) + c for a score p, with a > 0 and b ≥ 0. It rises with p,
so the ranking of transactions stays, and with it the alerts of a threshold with a given precision.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from training.core.description import StoredCalibration
from training.core.exceptions import BundleRefused

# A score in float32 may be rounded to 0 or 1, so scores are clipped to these bounds.
LOWEST, HIGHEST = 1e-38, 1 - 2**-25
FOLDS = 5
# With a smaller slope, low scores would differ only in their last bits.
LOWEST_SLOPE = 1e-3


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
        return scores.astype(np.float64) if self.method == "none" else expit(self.logits(scores))

    def logits(self, scores: np.ndarray) -> np.ndarray:
        """Logits [n] float64, all finite, of the probabilities of scores [n] in [0, 1]."""
        above, below = _terms(scores.astype(np.float64))
        # Elementwise, as the rounding of a matrix product can depend on the size of the batch.
        return self.a * above + self.b * below + self.c

    def logits_of_answers(self, probabilities: np.ndarray) -> np.ndarray:
        """Logits [n] float64, all finite, of probabilities [n] that this returned."""
        if self.method == "none":
            return self.logits(probabilities)
        return logit(probabilities.clip(np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg))

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


def fit(method: str, labels: np.ndarray, scores: np.ndarray) -> Calibration:
    """The calibration of a method with the lowest log loss on labels [n] of 0 and 1 and scores [n].

    As Platt does, it adds one fraud and one legitimate row of unknown score: even if scores separate a few dozen
    frauds perfectly, probabilities of 0 and 1 would be too certain.
    """
    if method == "none":
        return Calibration()
    above, below = _terms(scores.astype(np.float64))
    slopes = [above + below] if method == "platt" else [above, below]
    terms = np.column_stack([*slopes, np.ones(len(scores))])
    frauds = labels.sum()
    targets = np.where(labels == 1, (frauds + 1) / (frauds + 2), 1 / (len(labels) - frauds + 2))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits = terms @ parameters
        losses = np.logaddexp(0, logits) - targets * logits
        return float(losses.mean()), (expit(logits) - targets) @ terms / len(labels)

    start = np.append(np.ones(len(slopes)), 0.0)
    bounds = [(LOWEST_SLOPE, None), *[(0.0, None)] * (len(slopes) - 1), (None, None)]
    *found, offset = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12}).x
    return Calibration(method, float(found[0]), float(found[-1]), float(offset))


class Choice(NamedTuple):
    """The chosen calibration, fitted on all rows; the cross-validated log loss by method; and `held_out`, the
    probabilities [n] of the same method that were fitted without the row's own fold. Thresholds are chosen on these,
    as they are what the calibration gives for rows that it did not see."""

    calibration: Calibration
    losses: dict[str, float]
    held_out: np.ndarray


def choose(labels: np.ndarray, scores: np.ndarray) -> Choice:
    """The method with the lowest cross-validated log loss.

    Labels [n] of 0 and 1 and scores [n] are of validation rows, never of test rows. Of equal methods the one with fewer
    parameters is chosen. With fewer frauds than folds, nothing is calibrated.
    """
    rarest = int(min(labels.sum(), len(labels) - labels.sum()))
    if rarest < FOLDS:
        return Choice(Calibration(), {}, scores.astype(np.float64))
    losses = dict.fromkeys(METHODS, 0.0)
    held_out = {method: np.empty(len(scores)) for method in METHODS}
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(scores, labels))
    for method in METHODS:
        for fitted, rest in folds:
            probabilities = fit(method, labels[fitted], scores[fitted])(scores[rest])
            held_out[method][rest] = probabilities
            losses[method] += log_loss(labels[rest], probabilities.clip(LOWEST, HIGHEST), labels=[0, 1]) / FOLDS
    best = min(METHODS, key=lambda method: losses[method])
    return Choice(fit(best, labels, scores), losses, held_out[best])


def _terms(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln p and −ln(1 − p), [n] each."""
    scores = scores.clip(LOWEST, HIGHEST)
    return np.log(scores), -np.log1p(-scores)
