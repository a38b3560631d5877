"""The scored validation and test rows of a model, and the format in which they are kept."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load, save


class ScoredRows(NamedTuple):
    """Rows that a model was not trained on, with its scores. Thresholds, curves and paired comparisons are made of
    them, without the dataset. `Dataset.scored` makes them.

    `labels` [n] int8, `scores` [n] float64, `amounts` [n] float32 in the schema's currency; NaN if the amount is not an
    input of the model. The scores of validation rows are by a calibration that did not see them.
    """

    labels: np.ndarray
    scores: np.ndarray
    amounts: np.ndarray

    def once(self, part: np.ndarray) -> "tuple[np.ndarray, ScoredRows, np.ndarray]":
        """The distinct numbers of a dataset's rows [m] among `part` [n], which these rows have; each row once; and how
        often it came, [m]."""
        numbers, first, counts = np.unique(part, return_index=True, return_counts=True)
        return numbers, ScoredRows(*(values[first] for values in self)), counts


def pack(parts: Mapping[str, ScoredRows]) -> bytes:
    """Safetensors with the arrays `validation/labels`, `test/scores` and so on, of parts by name."""
    return save({f"{part}/{name}": array for part, rows in parts.items() for name, array in rows._asdict().items()})


def unpack(content: bytes) -> dict[str, ScoredRows]:
    """The parts that `pack` packed."""
    arrays = load(content)
    parts = sorted({name.split("/")[0] for name in arrays})
    return {part: ScoredRows(*(arrays[f"{part}/{name}"] for name in ScoredRows._fields)) for part in parts}
