"""The values of a request: their declarations, and the two forms in which Fraudsite has them.

A value is *read* once, in a web process or at ingest: it is checked and normalised to what is stored, a float, a text,
or None if it is missing. It is *encoded* as a float64 wherever features are computed and models score, by `encode`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.core.exceptions import SchemaInvalid, did_you_mean
from training.core.schema.kinds import KINDS
from training.core.schema.kinds.kind import Kind

Value = float | str | None
# Models take numbers as float32, whose limit is ten million times greater, so that no difference of two overflows.
MOST = 1e31


@dataclass(frozen=True)
class Field:
    """One value of a request.

    `minimum` and `maximum` are inclusive, in `unit`, and within the bounds of the kind; only numbers and integers
    declare them. `model` says whether it is
    an input of the model. An `optional` field may be missing. Of a category, a model learns at most `max_values`
    values; with `fold_case` upper and lower case are the same. A date after the event is refused unless `future` is
    set. Of a `personal` value less is stored: see `Kind.conceal`.
    """

    name: str
    description: str
    kind: str = "number"
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    model: bool = True
    optional: bool = False
    max_values: int = 200
    fold_case: bool = False
    future: bool = False
    personal: bool = False

    @property
    def of_kind(self) -> Kind:
        return KINDS[self.kind]

    @property
    def lowest(self) -> float:
        """The least number; -inf for texts."""
        least = self.of_kind.bounds[0]
        return least if self.minimum is None else max(self.minimum, least)

    @property
    def highest(self) -> float:
        """The largest number; inf for texts."""
        most = self.of_kind.bounds[1]
        return most if self.maximum is None else min(self.maximum, most)

    @property
    def is_number(self) -> bool:
        return self.of_kind.is_number

    @property
    def is_category(self) -> bool:
        """Whether a model learns its values one by one."""
        return self.of_kind.is_category

    @property
    def is_concealed(self) -> bool:
        """Whether something else is stored in place of the value."""
        return self.personal or self.of_kind.is_always_personal

    @property
    def is_input(self) -> bool:
        """Whether it is an input of the model."""
        return self.model and (self.is_number or self.is_category)


def check(fields: Sequence[Field]) -> None:
    """Check the declarations.

    Raises:
        SchemaInvalid: one makes no sense; names it and the reason.
    """
    for field in fields:
        if field.kind not in KINDS:
            raise SchemaInvalid(
                f"{field.name}: kind is one of {', '.join(KINDS)}, not {field.kind!r}.{did_you_mean(field.kind, KINDS)}"
            )
        bounded = field.minimum is not None, field.maximum is not None
        if field.of_kind.declares_bounds:
            if not all(bounded):
                raise SchemaInvalid(f"{field.name}: a {field.kind} needs minimum and maximum")
            if not field.unit:
                raise SchemaInvalid(f'{field.name}: a {field.kind} needs a unit, "1" if it has none')
            if not field.lowest < field.highest:
                raise SchemaInvalid(f"{field.name}: minimum is not below maximum")
            if field.is_input and max(-field.lowest, field.highest) > MOST:
                raise SchemaInvalid(f"{field.name}: minimum and maximum of an input of the model lie within ±{MOST:g}")
        elif any(bounded):
            raise SchemaInvalid(f"{field.name}: only a number has minimum and maximum, not a {field.kind}")
        if field.personal and not field.of_kind.conceal:
            personal = ", ".join(name for name, kind in KINDS.items() if kind.conceal)
            raise SchemaInvalid(f"{field.name}: a {field.kind} cannot be personal, only one of {personal}")
        if field.max_values < 1:
            raise SchemaInvalid(f"{field.name}: max_values is at least 1")


def encode(fields: Sequence[Field], rows: Sequence[Sequence[Value]]) -> np.ndarray:
    """Encode rows of stored values, in the order of `fields`. Returns [n, len(fields)] float64.

    Missing values are NaN. A category is its `code_of`, a date the days since 1970, a mere text NaN.
    """
    if all(field.is_number for field in fields):
        return np.array(rows, np.float64).reshape(len(rows), len(fields))  # None becomes NaN
    encoded = [list(row) for row in rows]
    for index, field in enumerate(fields):
        if field.is_number:
            continue
        encode_text = field.of_kind.encode
        for row in encoded:
            value = row[index]
            if isinstance(value, str):
                row[index] = encode_text(value)
    return np.array(encoded, np.float64).reshape(len(rows), len(fields))  # None becomes NaN
