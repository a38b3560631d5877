"""What is usual of each input of a model, so that a reason can be told in words: "212 km/h; 99 % are at most 90"."""

from collections.abc import Mapping, Sequence
from math import floor, isnan, log10

import msgspec
import numpy as np

from training.core.features.declaration import Calendar, Computed
from training.core.schema import Field, Schema

# The quantiles that are kept, and those at both ends that a value may lie beyond, the furthest first.
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
LOW_ENDS, HIGH_ENDS = (0.01, 0.05), (0.99, 0.95)
# Durations are told in the largest of these units of which there are two or more.
DURATIONS = {"days": 86_400, "h": 3_600, "min": 60}
SHOWN_SHARES = 50  # of the values of a category


class Typical(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is usual of an input among training rows.

    `missing` is the share of rows without it. Of the others, `quantiles` are those at `QUANTILES`, and `mean` is their
    mean. `shares` are those of the most frequent values of a category, of all rows.
    """

    missing: float = 0.0
    mean: float = 0.0
    quantiles: list[float] = []
    shares: dict[str, float] = {}


def measure(schema: Schema, rows: np.ndarray, vocabularies: Mapping[str, Sequence[str]]) -> dict[str, Typical]:
    """Measure what is usual of each input of a schema, by its name.

    `rows` are encoded training rows [n, len(schema.input_names)] float64, with the places in `vocabularies`, from 1, in
    the columns of categories: see `training.core.families.encoding`.
    """
    found = {}
    for declared, column in zip(schema.inputs, rows.T, strict=True):
        known = column[~np.isnan(column)]
        missing = 1 - len(known) / len(column)
        if is_category(declared):
            counts = np.bincount(known.astype(np.int64))[1:][:SHOWN_SHARES]
            # Not strict: counts end with the last value that the rows have.
            shares = {text: float(count / len(column)) for text, count in zip(vocabularies[declared.name], counts)}  # noqa: B905
            found[declared.name] = Typical(missing=missing, shares=shares)
        elif len(known):
            quantiles = np.quantile(known, QUANTILES).tolist()
            found[declared.name] = Typical(missing=missing, mean=float(known.mean()), quantiles=quantiles)
        else:
            found[declared.name] = Typical(missing=missing)
    return found


def is_category(declared: Field | Computed) -> bool:
    return isinstance(declared, Field) and declared.is_category


def is_flag(declared: Field | Computed) -> bool:
    """Whether an input is 1.0 for yes and 0.0 for no."""
    return (
        declared.kind == "boolean"
        if isinstance(declared, Field)
        else (isinstance(declared, Calendar) and declared.start is not None)
    )


def in_words(declared: Field | Computed, value: float | str | None, typical: Typical) -> str:
    """Tell an input's value, and what is usual of it. A category's value is its text, or None if no model knows it."""
    return f"{declared.description.rstrip('.')}: {_told(declared, value, typical)}"


def _told(declared: Field | Computed, value: float | str | None, typical: Typical) -> str:
    if isinstance(value, float) and isnan(value):
        return f"missing, as in {_percent(typical.missing)} of transactions"
    if value is None or isinstance(value, str):
        share = typical.shares.get(value or "")
        usual = f"as in {_percent(share)} of transactions" if share else "which is rare or new"
        return f"{value}, {usual}" if value else "a value that is rare or new"
    if is_flag(declared):
        share = typical.mean if value else 1 - typical.mean
        return f"{'yes' if value else 'no'}, as in {_percent(share)} of transactions"
    unit = getattr(declared, "unit", "")
    return (
        f"{quantity(value, unit)}; {_usual(value, unit, typical.quantiles)}"
        if typical.quantiles
        else (quantity(value, unit))
    )


def _usual(value: float, unit: str, quantiles: list[float]) -> str:
    at = dict(zip(QUANTILES, quantiles, strict=True))
    for share in HIGH_ENDS:
        if value > at[share]:
            return f"{_percent(share)} are at most {quantity(at[share], unit)}"
    for share in LOW_ENDS:
        if value < at[share]:
            return f"{_percent(1 - share)} are at least {quantity(at[share], unit)}"
    return f"half are between {quantity(at[0.25], unit)} and {quantity(at[0.75], unit)}"


def percentile(value: float, quantiles: Sequence[float]) -> float:
    """The per cent of training rows below a value, by straight lines between the kept quantiles. Beyond these it is the
    middle of what is left, as nothing more is known: 0.5 or 99.5.

    >>> percentile(3.0, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), percentile(7.0, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    (50.0, 99.5)
    """
    if value < quantiles[0]:
        return 100 * QUANTILES[0] / 2
    if value > quantiles[-1]:
        return 100 - 100 * (1 - QUANTILES[-1]) / 2
    return float(100 * np.interp(value, quantiles, QUANTILES))


def quantity(value: float, unit: str) -> str:
    """A number with about three digits, and its unit.

    >>> quantity(212.4, "km/h"), quantity(0.01234, "1"), quantity(5184000.0, "s"), quantity(45.0, "s")
    ('212 km/h', '0.0123', '60 days', '45 s')
    """
    if unit == "s":
        for name, seconds in DURATIONS.items():
            if abs(value) >= 2 * seconds:
                return quantity(value / seconds, name)
    decimals = min(6, max(0, 2 - floor(log10(abs(value))))) if value else 0
    text = f"{value:,.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{'0' if text == '-0' else text}{'' if unit in ('', '1') else f' {unit}'}"


def _percent(share: float) -> str:
    """A share in per cent, with the digits that matter.

    >>> _percent(0.99), _percent(0.123), _percent(0.0004)
    ('99 %', '12 %', '0.04 %')
    """
    percent = share * 100
    return f"{percent:.0f} %" if percent >= 10 or percent == round(percent) else f"{percent:.1g} %"
