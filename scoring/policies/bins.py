"""Bins of the score: a thousand and some, narrow near 0 and 1, where thresholds need more digits."""

from typing import Any

import numpy as np
from django.db.models import Case, F, FloatField, IntegerField, Value, When
from django.db.models.functions import Cast, Floor

# Each zone of scores: where it begins and how many bins it has for each unit.
ZONES = ((0.0, 10_000), (0.01, 1_000), (0.99, 10_000))
# A score that rounding puts a hair below an edge belongs to the bin that begins there.
HAIR = 1e-9


def _first_bins() -> list[int]:
    ends = [*(start for start, _ in ZONES[1:]), 1.0]
    widths = [round((end - start) * per_unit) for (start, per_unit), end in zip(ZONES, ends, strict=True)]
    return [0, *np.cumsum(widths).tolist()]


*FIRST, LAST = _first_bins()
COUNT = LAST + 1  # the last bin has the score 1 alone


def edges() -> list[float]:
    """Where each bin begins, [COUNT]. A threshold at an edge takes that bin and all above it."""
    found = [
        round(start + index / per_unit, 4)
        for (start, per_unit), first, end in zip(ZONES, FIRST, [*FIRST[1:], LAST], strict=True)
        for index in range(end - first)
    ]
    return [*found, 1.0]


def nearest(threshold: float) -> int:
    """The bin whose edge is nearest to a threshold."""
    return int(np.abs(np.array(edges()) - threshold).argmin())


def bins_of(scores: np.ndarray) -> np.ndarray:
    """The bins [n] of scores [n] in [0, 1]."""
    found = np.zeros(len(scores), int)
    for (start, per_unit), first in zip(ZONES, FIRST, strict=True):
        here = scores >= start
        found[here] = first + np.floor((scores[here] - start) * per_unit + HAIR).astype(int)
    return found


def bin_of(column: str) -> Any:
    """The bin of a column's score, as an expression that works on every database."""
    whens = [
        When(
            **{f"{column}__gte": start},
            then=Value(first) + Floor((F(column) - Value(start)) * Value(float(per_unit)) + Value(HAIR)),
        )
        for (start, per_unit), first in reversed(list(zip(ZONES, FIRST, strict=True)))
    ]
    return Cast(Case(*whens, default=Value(0), output_field=FloatField()), IntegerField())
