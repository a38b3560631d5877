"""Categories as families take them: of each, the values that training rows have are numbered, the most frequent first.

A bundle keeps these vocabularies as texts. So the same value has the same number wherever the model scores.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from training.core.bundle import Bundle
from training.core.configuration.sections import Columns
from training.core.schema import Field, Schema
from training.core.schema.kinds.categories import code_of

if TYPE_CHECKING:
    from training.core.datasets.storage import Dataset

# With fewer training rows, a value says too little: it is rare, and the same to a model as one that it has never seen.
FEWEST_ROWS = 5


@dataclass(frozen=True, eq=False)
class Encoding:
    """Turns the model's inputs into the rows that families take. `vocabularies` are the learned values of each category
    input, by its name."""

    schema: Schema
    vocabularies: Mapping[str, Sequence[str]]

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Encode inputs [n, f] float64, which have codes of texts in the columns of categories.

        Returns rows [n, f] float64: in these columns the place of the value in its vocabulary from 1, or 0 for an
        unseen or rare one. All else, and NaN for a missing value, stays. As float32 they are exact.
        """
        if not self._by_column:
            return inputs
        rows = inputs.copy()
        for column, (codes, places) in self._by_column.items():
            values = inputs[:, column]
            at = np.minimum(np.searchsorted(codes, values), len(codes) - 1)
            rows[:, column] = np.where(codes[at] == values, places[at], np.where(np.isnan(values), np.nan, 0.0))
        return rows

    def value_of(self, column: int, encoded: float) -> float | str | None:
        """The value of an encoded input: of a category its text, None if it is unseen or rare. NaN is missing."""
        name = self.schema.input_names[column]
        if column not in self._by_column or math.isnan(encoded):
            return encoded
        return self.vocabularies[name][int(encoded) - 1] if encoded else None

    def applied_to(self, dataset: "Dataset") -> "Dataset":
        """The dataset with encoded features."""
        return replace(dataset, features=self(dataset.features)) if self._by_column else dataset

    @cached_property
    def columns(self) -> Columns | None:
        """What families must know of the inputs; None if all are numbers, and none may be missing."""
        names = self.schema.input_names
        sizes = [len(self.vocabularies.get(name, ())) for name in names]
        optional = [column for column, name in enumerate(names) if name in self.schema.optional_inputs]
        return Columns(values=sizes, optional=optional) if self._by_column or optional else None

    @cached_property
    def _by_column(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Of each column of categories the rising codes and their places. The last one is no code, so that there is
        always one to compare with."""
        found = {}
        for column, name in _categories(self.schema):
            codes = np.array([*map(code_of, self.vocabularies.get(name, ())), np.inf])
            order = np.argsort(codes)
            found[column] = codes[order], np.append(np.arange(1.0, len(codes)), 0.0)[order]
        return found


def learn(dataset: "Dataset", part: np.ndarray) -> Encoding:
    """Learn the vocabularies of the rows with these numbers, which are the training rows."""
    fields = {field.name: field for field in dataset.schema.features}
    return Encoding(
        dataset.schema,
        {
            name: _vocabulary(dataset.features[part, column], dataset.texts[name], fields[name])
            for column, name in _categories(dataset.schema)
        },
    )


def of_bundle(bundle: Bundle) -> Encoding:
    """The encoding of the inputs of a bundle's model."""
    return Encoding(bundle.declared, bundle.description.vocabularies)


def _categories(schema: Schema) -> list[tuple[int, str]]:
    """The columns and the names of the inputs that are categories."""
    return [
        (column, each.name) for column, each in enumerate(schema.inputs) if isinstance(each, Field) and each.is_category
    ]


def _vocabulary(codes: np.ndarray, texts: Mapping[float, str], field: Field) -> list[str]:
    """The most frequent values that are not rare, at most `field.max_values`; equally frequent ones by the alphabet."""
    known, counts = np.unique(codes[~np.isnan(codes)], return_counts=True)
    ranked = sorted((-count, texts[code]) for code, count in zip(known.tolist(), counts.tolist(), strict=True))
    return [text for count, text in ranked if -count >= FEWEST_ROWS][: field.max_values]
