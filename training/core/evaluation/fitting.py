"""Finds the calibration of a model on validation rows. `calibration` tells what one is."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from training.core.evaluation.calibration import HIGHEST, LOWEST, METHODS, Calibration, probabilities_of, terms

FOLDS = 5
# With a smaller slope, low scores would differ only in their last bits.
LOWEST_SLOPE = 1e-3


def fit(method: str, labels: np.ndarray, scores: np.ndarray) -> Calibration:
    """The calibration of a method with the lowest log loss on labels [n] of 0 and 1 and scores [n].

    As Platt does, it adds one fraud and one legitimate row of unknown score: even if scores separate a few dozen
    frauds perfectly, probabilities of 0 and 1 would be too certain.
    """
    if method == "none":
        return Calibration()
    above, below = terms(scores.astype(np.float64))
    slopes = [above + below] if method == "platt" else [above, below]
    columns = np.column_stack([*slopes, np.ones(len(scores))])
    frauds = labels.sum()
    targets = np.where(labels == 1, (frauds + 1) / (frauds + 2), 1 / (len(labels) - frauds + 2))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits = columns @ parameters
        losses = np.logaddexp(0, logits) - targets * logits
        return float(losses.mean()), (probabilities_of(logits) - targets) @ columns / len(labels)

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
