"""Checks the rows of a chunk column by column, and vouches for those that are plainly correct, which nearly all are.

It refuses nothing: a row that it does not vouch for is checked by itself, as a predict call is. Numbers are told by
`Kind.takes`, and of all else each distinct value is read by `Kind.read`, so both ways have the same rules.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import compress
from types import NoneType
from typing import Any, NamedTuple

import numpy as np

from scoring.api.validation import refuse_card_data
from scoring.exceptions import RequestRefused
from training.core.card_numbers import SHORTEST, holds_card_number
from training.core.schema import Schema
from training.core.schema.kinds.kind import ValueRefused
from training.core.schema.values import Field, Value

# No number below this has as many digits as a card number.
TOO_SHORT = 10.0 ** (SHORTEST - 1)
# Stands for a value that cannot be a text, true or false.
OTHER: Any = object()


class Numbers(NamedTuple):
    """A column of `n` numbers: `values` [n] float64, which are NaN where there is no number, and where one is `missing`
    [n] bool."""

    values: np.ndarray
    missing: np.ndarray


# Or objects of JSON; None is missing.
Column = Numbers | Sequence[Any]


class Columns(NamedTuple):
    """The values of some rows of a chunk, by their names. `places` are the rows' places in the chunk, from 0."""

    places: Sequence[int]
    by_name: Mapping[str, Column]


@dataclass(frozen=True, eq=False)
class Vouched:
    """Rows whose features are correct, and that have no card data. `places` are their places in the chunk, `features`
    their values in the order of the schema's, a column each, and `rest` what else was sent, by its name."""

    places: Sequence[int]
    features: list[Any]
    rest: dict[str, Sequence[str | None]]

    def those(self, chosen: np.ndarray) -> "Vouched":
        """Some of the rows: `chosen` [n] bool."""
        return Vouched(
            list(compress(self.places, chosen)),
            [_those(chosen, column) for column in self.features],
            {name: _those(chosen, column) for name, column in self.rest.items()},
        )

    def rows(self) -> Iterator[tuple[list[Value], dict[str, Any]]]:
        """The features and the rest of each row."""
        features = map(list, zip(*map(_listed, self.features), strict=True))
        for place, values in enumerate(features):
            yield values, {name: column[place] for name, column in self.rest.items() if column[place] is not None}


NOTHING = Vouched([], [], {})


def vouch(columns: Columns, schema: Schema) -> Vouched:
    """The rows that are plainly correct."""
    count = len(columns.places)
    if not count:
        return NOTHING
    try:
        refuse_card_data(dict.fromkeys(columns.by_name), {})  # the names
    except RequestRefused:
        return NOTHING
    fine = np.ones(count, bool)
    features: list[Any] = []
    for field in schema.sent_features:
        values, taken = _read(field, columns.by_name.get(field.name, [None] * count))
        features.append(values)
        fine &= taken
    rest = {name: _objects(column) for name, column in columns.by_name.items() if name not in schema.kind_of}
    for column in rest.values():
        if not _are_short(column):
            texts = {value for value in column if type(value) is str}
            clean = {value for value in texts if not holds_card_number(value)}
            fine &= [value is None or (type(value) is str and value in clean) for value in column]
    found = Vouched(columns.places, features, rest)
    return found if fine.all() else found.those(fine)


def _are_short(column: Sequence[Any]) -> bool:
    """Whether all values are missing or texts that are too short for a card number. Others may be longer than they
    seem: one character of theirs may stand for several."""
    if not set(map(type, column)) <= {str, NoneType}:
        return False
    texts = list(filter(None, column))
    return max(map(len, texts), default=0) < SHORTEST and "".join(texts).isascii()


def _those(chosen: np.ndarray, column: Any) -> Any:
    return column[chosen] if isinstance(column, np.ndarray) else list(compress(column, chosen))


def _listed(column: Sequence[Value] | np.ndarray) -> Sequence[Value]:
    return column.tolist() if isinstance(column, np.ndarray) else column


def _read(field: Field, column: Column) -> tuple[Sequence[Value] | np.ndarray, np.ndarray]:
    """The values of a column as they are read, and which of them are fine."""
    if field.of_kind.takes:
        values, missing = column if isinstance(column, Numbers) else _numbers(column)
        fine = field.of_kind.takes(field, values) & (np.abs(values) < TOO_SHORT)
        if not field.optional or not missing.any():
            return values, fine
        objects = values.astype(object)
        objects[missing] = None
        return objects, fine | missing
    told = [value if type(value) in (str, bool, NoneType) else OTHER for value in _objects(column)]
    read: dict[Any, Value] = {None: None} if field.optional else {}
    for value in set(told) - {None, OTHER}:
        if type(value) is bool or not holds_card_number(value):
            with suppress(ValueRefused):
                read[value] = field.of_kind.read(field, value)
    return list(map(read.get, told)), np.array([value in read for value in told], bool)


def _numbers(column: Sequence[Any]) -> Numbers:
    """Objects as numbers: JSON has whole numbers, too, which may be huge."""
    if not set(map(type, column)) <= {float, NoneType}:
        column = [
            value if type(value) in (float, NoneType) or (type(value) is int and abs(value) < TOO_SHORT) else np.nan
            for value in column
        ]
    return Numbers(np.array(column, np.float64), np.array([value is None for value in column], bool))


def _objects(column: Column) -> Sequence[Any]:
    return [None if gone else OTHER for gone in column.missing] if isinstance(column, Numbers) else column
