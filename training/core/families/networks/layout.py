"""Where a network has which of its inputs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.core.configuration.sections import Columns

LARGEST_EMBEDDING = 16


@dataclass(frozen=True)
class Layout:
    """How the inputs of a network are encoded.

    The encoder's numbers are, in this order: `per_number` for each of `numbers`, the columns that are no categories;
    one for each of `flags`, those among them that may be missing; and for each of `categories` as many as `places`
    says, one of which is 1.
    """

    width: int
    numbers: Sequence[int]
    flags: Sequence[int]
    categories: Sequence[int]
    places: Sequence[int]
    may_miss: Sequence[bool]
    per_number: int

    @property
    def encoded(self) -> int:
        """How many numbers the encoder makes."""
        return len(self.numbers) * self.per_number + len(self.flags) + sum(self.places)

    @property
    def column_of(self) -> np.ndarray:
        """The column that each of the encoder's numbers is of, [encoded] int32."""
        repeats = [*[self.per_number] * len(self.numbers), *[1] * len(self.flags), *self.places]
        return np.repeat(np.array([*self.numbers, *self.flags, *self.categories], np.int32), repeats)

    @property
    def embeddings(self) -> list[int]:
        """The size of each category's embedding, by fastai's rule of thumb: 1.6 times the number of values to the power
        of 0.56 (Howard and Gugger, fastai: A Layered API for Deep Learning, Information 11(2), 2020)."""
        return [min(LARGEST_EMBEDDING, math.ceil(1.6 * places**0.56)) for places in self.places]


def layout_of(width: int, columns: Columns | None, *, per_number: int) -> Layout:
    """The layout of `width` inputs. A category has a place for unseen values, one for each value, and, if it may be
    missing, one more."""
    values = columns.values if columns else [0] * width
    optional = set(columns.optional if columns else [])
    numbers = [column for column in range(width) if not values[column]]
    categories = [column for column in range(width) if values[column]]
    return Layout(
        width=width,
        numbers=numbers,
        flags=[column for column in numbers if column in optional],
        categories=categories,
        places=[1 + values[column] + (column in optional) for column in categories],
        may_miss=[column in optional for column in categories],
        per_number=per_number,
    )
