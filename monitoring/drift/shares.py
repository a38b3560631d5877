"""How the inputs and the score of recent traffic are distributed beside the reference, and which shares of values are
missing or new to the model. Pure: no database."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
from msgspec import Struct

from monitoring.drift.psi import PopulationStabilityIndex
from training.core.bundle import Bundle
from training.core.description import Histogram
from training.core.features import typical

SCORE = "score"
# Chance alone passes a bound of four standard deviations once in 30,000 measurements.
SIGMAS = 4.0
LONGEST_VALUE = 60


class Value(Struct, frozen=True):
    """A value of a category, and its share among training rows and in recent traffic."""

    text: str
    before: float
    now: float


class Moved(Struct, frozen=True):
    """An input, or the score, of recent traffic beside the reference.

    `edges`, `before` and `now` are of the histogram that `psi` is measured with: see `reference_histogram`. The shares
    of missing values are None for an input that is always given. `values` are those of a category: the most frequent,
    and `unseen` is the share of those that the model does not know, `unseen_before` that among training rows, and
    `newest` the most frequent of them; all three are empty for what is no category, the last for personal values.
    """

    name: str
    psi: float
    edges: list[float]
    before: list[float]
    now: list[float]
    missing_before: float | None = None
    missing: float | None = None
    values: list[Value] = []
    unseen: float | None = None
    unseen_before: float | None = None
    newest: str = ""


def of_inputs(bundle: Bundle, rows: np.ndarray, fields: Sequence[Mapping[str, Any]]) -> list[Moved]:
    """Each input of a model, of encoded rows [n, f] float32 of recent traffic, which had these `fields`."""
    return [
        _of_input(bundle, column, name, rows[:, column].astype(np.float64), fields)
        for column, name in enumerate(bundle.feature_names)
    ]


def of_score(bundle: Bundle, scores: np.ndarray) -> Moved:
    """The score, of scores [n] of recent traffic."""
    return _moved(SCORE, bundle.reference["score"], scores)


def unusual(inputs: Sequence[Moved], rows: int) -> dict[str, dict[str, Any]]:
    """For each category, and each value that may be missing: the shares now, of so many `rows`, and in training rows.

    Returns by input `unseen` and `missing`, where they can be: `share`, `reference`, and `excess`, by how much the
    share lies above the reference at the least, 0 if that may be chance. Of unseen values `value` is the most frequent
    one, but for personal ones.
    """
    found = {}
    for each in inputs:
        shares = {"unseen": (each.unseen, each.unseen_before), "missing": (each.missing, each.missing_before)}
        parts: dict[str, dict[str, Any]] = {}
        for part, (share, reference) in shares.items():
            if share is not None and reference is not None:
                excess = max(0.0, lower_bound(round(share * rows), rows) - reference)
                parts[part] = {"share": share, "reference": reference, "excess": excess}
        if each.newest and parts["unseen"]["excess"]:
            parts["unseen"]["value"] = each.newest
        if parts:
            found[each.name] = parts
    return found


def lower_bound(hits: int, rows: int) -> float:
    """The lower end of the interval of a share, `SIGMAS` standard deviations wide (E. B. Wilson, Journal of the
    American Statistical Association 22, 1927).

    >>> lower_bound(0, 500), round(lower_bound(25, 500), 4)
    (0.0, 0.0231)
    """
    if not hits:
        return 0.0
    share, square = hits / rows, SIGMAS**2
    middle = share + square / (2 * rows)
    half = SIGMAS * sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    return max(0.0, (middle - half) / (1 + square / rows))


def _of_input(bundle: Bundle, column: int, name: str, values: np.ndarray, fields: Sequence[Mapping[str, Any]]) -> Moved:
    schema, usual = bundle.declared, bundle.description.typical.get(name)
    histogram = bundle.reference["features"][name]
    parts: dict[str, Any] = {}
    if name in schema.optional_inputs:
        # The last bin of an optional input is that of missing values.
        parts = {"missing_before": histogram["proportions"][-1], "missing": float(np.isnan(values).mean())}
    if typical.is_category(schema.inputs[column]):
        # Rare training values are encoded as 0. The lowest bin has them alone if its edge is at most 1, the most
        # frequent value; otherwise its share is more than theirs, never less.
        parts |= {"unseen_before": histogram["proportions"][0], "unseen": float((values == 0).mean())}
        # Who may see personal values depends on who looks, and this is stored for all.
        if name not in schema.personal_names:
            parts["newest"] = _newest(name, values, fields)
            if usual:
                parts["values"] = _values(list(bundle.description.vocabularies[name]), usual.shares, values)
    return _moved(name, histogram, values, **parts)


def _newest(name: str, values: np.ndarray, fields: Sequence[Mapping[str, Any]]) -> str:
    """The most frequent value that the model does not know; empty without any."""
    counts = Counter(str(fields[row].get(name)) for row in np.flatnonzero(values == 0).tolist())
    return counts.most_common(1)[0][0][:LONGEST_VALUE] if counts else ""


def _values(vocabulary: list[str], usual: dict[str, float], values: np.ndarray) -> list[Value]:
    counts = np.bincount(values[~np.isnan(values)].astype(np.int64), minlength=len(vocabulary) + 1)
    return [
        Value(text, usual[text], float(counts[place]) / len(values))
        for place, text in enumerate(vocabulary, start=1)
        if text in usual
    ]


def _moved(name: str, histogram: Histogram, recent: np.ndarray, **parts: Any) -> Moved:
    index = PopulationStabilityIndex(**histogram)
    now = [round(share, 6) for share in index.shares(recent).tolist()]
    before = [round(share, 6) for share in histogram["proportions"]]
    return Moved(name, index.measure(recent), histogram["edges"], before, now, **parts)
