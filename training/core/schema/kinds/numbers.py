"""Numbers, integers, booleans, latitudes and longitudes."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from training.core.schema.kinds.kind import Kind, ValueRefused

if TYPE_CHECKING:
    from training.core.schema.values import Field


def _read_number(field: "Field", value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise ValueRefused("not_a_number", "Send a JSON number.", malformed=True)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueRefused("not_finite", "Send a finite number.", malformed=True)
    if not field.lowest <= number <= field.highest:
        raise ValueRefused("out_of_range", f"Send a number from {field.lowest:g} to {field.highest:g} ({field.unit}).")
    return number


def _takes_numbers(field: "Field", numbers: np.ndarray) -> np.ndarray:
    taken: np.ndarray = np.isfinite(numbers) & (numbers >= field.lowest) & (numbers <= field.highest)
    return taken


def _read_integer(field: "Field", value: Any) -> float:
    number = _read_number(field, value)
    if not number.is_integer():
        raise ValueRefused("not_whole", "Send a whole number.", malformed=True)
    return number


def _takes_integers(field: "Field", numbers: np.ndarray) -> np.ndarray:
    return _takes_numbers(field, numbers) & (np.trunc(numbers) == numbers)


def _read_boolean(field: "Field", value: Any) -> float:
    if type(value) is not bool:
        raise ValueRefused("not_a_boolean", "Send true or false.", malformed=True)
    return float(value)


def _rounded(degrees: float, token_of: Callable[[str], str]) -> float:
    """To about a kilometre."""
    return round(degrees, 2)


# Of greater whole numbers, several would be the same float64.
EXACT = 2.0**53 - 1
NUMBER = Kind(_read_number, {"type": "number"}, 0.0, is_number=True, declares_bounds=True, takes=_takes_numbers)
INTEGER = Kind(
    _read_integer,
    {"type": "integer"},
    0.0,
    is_number=True,
    declares_bounds=True,
    bounds=(-EXACT, EXACT),
    takes=_takes_integers,
)
BOOLEAN = Kind(_read_boolean, {"type": "boolean"}, False, is_number=True, bounds=(0.0, 1.0))
_DEGREES = partial(Kind, _read_number, {"type": "number"}, is_number=True, conceal=_rounded, takes=_takes_numbers)
LATITUDE = _DEGREES(52.52, bounds=(-90.0, 90.0))
LONGITUDE = _DEGREES(13.405, bounds=(-180.0, 180.0))
