"""Which rows train, which choose, which judge."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

SEED_SYSTEM_RANDOM_STATE = 42


@dataclass(frozen=True)
class Split:
    """Row numbers of the dataset, [n] int64 each, without a row in two of them."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def stratified(features: np.ndarray, labels: np.ndarray, *, test: float, validation: float, seed: int) -> Split:
    """A random split that keeps the share of fraud. `validation` is a share of what `test` leaves.

    Of exact duplicates only the first takes part: a copy on each side of the split would be a question whose answer
    the model has read.
    """
    rows = np.flatnonzero(~pd.DataFrame(features).assign(label=labels).duplicated())
    rest, judged = train_test_split(rows, test_size=test, random_state=seed, stratify=labels[rows])
    trained, chosen = train_test_split(rest, test_size=validation, random_state=seed, stratify=labels[rest])
    return Split(trained, chosen, judged)


def seed_system(labels: np.ndarray) -> Split:
    """The seed system's own split: plain random 80/20, then 80/20 again, duplicates and all."""
    rows = np.arange(len(labels))
    rest, judged = train_test_split(rows, test_size=0.2, random_state=SEED_SYSTEM_RANDOM_STATE)
    trained, chosen = train_test_split(rest, test_size=0.2, random_state=SEED_SYSTEM_RANDOM_STATE)
    return Split(trained, chosen, judged)
