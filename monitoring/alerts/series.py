"""What is measured of one subject over time, in steps of equal length. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

import numpy as np


class Kind(StrEnum):
    """What the values are, which tells how they vary by chance."""

    COUNT = "count"  # how many there were in a step
    SHARE = "share"  # how many of the samples: values are numerators, so that steps can be added
    LEVEL = "level"  # anything else: a latency, an age, an index


@dataclass(frozen=True, eq=False)
class Series:
    """Steps of a length `step`, the first of which begins at `since`, oldest first.

    `values` [n] float64 are NaN where nothing is known; of a share they are numerators. `samples` [n] say how many
    rows each value rests on. `notes` say of single steps, by their number, what stood out, such as names of features.
    """

    since: datetime
    step: timedelta
    values: np.ndarray
    samples: np.ndarray
    kind: Kind = Kind.LEVEL
    notes: dict[int, str] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shown(self) -> np.ndarray:
        """The values as people read them: shares as shares, NaN without samples."""
        if self.kind is not Kind.SHARE:
            return self.values
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.samples > 0, self.values / self.samples, np.nan)

    def end_of(self, index: int) -> datetime:
        return self.since + (index + 1) * self.step

    def note(self, index: int) -> str:
        return (self.notes or {}).get(index % len(self) if len(self) else index, "")

    def rolled(self, width: int) -> Self:
        """Each step's value and samples added to those of the `width - 1` steps before it. Unknown if one of them is.

        >>> day = Series(datetime(2026, 1, 1), timedelta(hours=1), np.array([1.0, 2.0, 4.0]), np.array([1, 1, 1]))
        >>> day.rolled(2).values.tolist()
        [nan, 3.0, 6.0]
        """
        if width <= 1:
            return self
        return replace(self, values=_sums(self.values, width), samples=np.nan_to_num(_sums(self.samples, width)))

    def last(self, steps: int) -> Self:
        """Its last steps."""
        first = max(0, len(self) - steps)
        notes = {index - first: note for index, note in (self.notes or {}).items() if index >= first}
        return replace(
            self,
            since=self.since + first * self.step,
            values=self.values[first:],
            samples=self.samples[first:],
            notes=notes,
        )


def _sums(values: np.ndarray, width: int) -> np.ndarray:
    sums = np.full(len(values), np.nan)
    if len(values) >= width:
        sums[width - 1 :] = np.lib.stride_tricks.sliding_window_view(values.astype(float), width).sum(axis=1)
    return sums
