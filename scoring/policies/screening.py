"""Tells which transactions no condition can match, for many of them at once.

Most rules match few transactions, and handing the values of one to an expression costs more than the expression. So
comparisons with numbers and texts, joined by `&&` and `||`, are first made by NumPy for all transactions together.
Whatever it cannot tell, an absent value among it, may match: the expressions decide about that.
"""

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from scoring.policies.expressions import Bound, Case
from scoring.policies.names import FRAUD_SCORE, ON, Name, Type
from training.core.schema import Schema

Columns = Mapping[str, np.ndarray]
# From columns [n] which transactions a part of a condition may match, [n] bool; None if that may be any.
Screen = Callable[[Columns], np.ndarray] | None

# Fewer transactions are faster without.
MANY = 16
# From here on, a float64 does not hold every whole number.
EXACT = 2.0**53
STRING = re.compile(r"""("[^"'\\\n]*"|'[^"'\\\n]*')""")
# Outside of strings: a comment, a negation, an escape, or a string of another form.
OTHERWISE_IN_PYTHON = re.compile(r"""//|!(?!=)|[\\"'#]""")
# What may be so of numbers: with NaN, every comparison is false.
MAY_BE: dict[type[ast.cmpop], Callable[[Any, Any], np.ndarray]] = {
    ast.Lt: lambda left, right: ~(left >= right),
    ast.LtE: lambda left, right: ~(left > right),
    ast.Gt: lambda left, right: ~(left <= right),
    ast.GtE: lambda left, right: ~(left < right),
    ast.Eq: lambda left, right: ~((left < right) | (left > right)),
    ast.NotEq: lambda left, right: ~(left == right),
}
# The same of texts.
ABSENT: Any = None
TEXTS_MAY_BE: dict[type[ast.cmpop], Callable[[Any, Any], np.ndarray]] = {
    ast.Eq: lambda left, right: (left == right) | np.equal(left, ABSENT) | np.equal(right, ABSENT),
    ast.NotEq: lambda left, right: (left != right) | np.equal(left, ABSENT) | np.equal(right, ABSENT),
}


class Screening:
    """Tells which transactions these conditions may match. It is of no use if one of them may match any."""

    def __init__(
        self, schema: Schema, sources: Sequence[str], names: Mapping[str, Name], constants: Mapping[str, Bound]
    ) -> None:
        self._names, self._constants = names, constants
        self._fields = {name: index for index, name in enumerate(schema.feature_names) if name != FRAUD_SCORE}
        self._computed = {name: index for index, name in enumerate(schema.derived_names) if name != FRAUD_SCORE}
        self._used: set[str] = set()
        screens = [self._screen(source) for source in sources]
        self._screens = [screen for screen in screens if screen]
        self.is_of_use = len(self._screens) == len(screens) > 0

    def may_match(
        self,
        cases: Sequence[Case],
        derived: Sequence[Sequence[float | None]],
        scores: Sequence[float],
        on: Sequence[Collection[str]],
    ) -> list[bool]:
        """Whether any condition may match each of the transactions, with the lists that it is `on`."""
        values = [case.values for case in cases]
        columns: dict[str, np.ndarray] = {}
        for name in self._used:
            if name in self._fields:
                columns[name] = _column(values, self._fields[name], self._names[name].type)
            elif name in self._computed:
                columns[name] = _column(derived, self._computed[name], Type.NUMBER)
            elif name == FRAUD_SCORE:
                columns[name] = np.array(scores, np.float64)
            else:
                columns[name] = np.array([name.removeprefix(ON) in each for each in on])
        found = reduce(operator.or_, (screen(columns) for screen in self._screens), np.zeros(len(cases), bool))
        return found.tolist()

    def _screen(self, source: str) -> Screen:
        """Read a condition. The part of CEL that is understood here means the same in Python, once && is `and`."""
        parts = STRING.split(source)
        if '""' in source or "''" in source:  # perhaps a string between three quotes
            return None
        for place in range(0, len(parts), 2):
            if OTHERWISE_IN_PYTHON.search(parts[place]):
                return None
            parts[place] = parts[place].replace("&&", " and ").replace("||", " or ")
        try:
            return self._part(ast.parse("(" + "".join(parts) + "\n)", mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None

    def _part(self, node: ast.expr) -> Screen:
        match node:
            case ast.BoolOp(op=ast.And()):
                return _joined(operator.and_, [part for each in node.values if (part := self._part(each))])
            case ast.BoolOp(op=ast.Or()):
                return _joined(operator.or_, [self._part(each) for each in node.values])
            case ast.Compare(left=left, ops=[sign], comparators=[right]):
                return self._comparison(left, type(sign), right)
            case ast.Name(id=name) if self._is_list(name):
                self._used.add(name)
                return lambda columns: columns[name]
        return None

    def _comparison(self, left: ast.expr, sign: type[ast.cmpop], right: ast.expr) -> Screen:
        one, other = self._side(left), self._side(right)
        if one is None or other is None or one.kind != other.kind or not (one.name or other.name):
            return None
        may_be = MAY_BE if one.kind == Type.NUMBER else TEXTS_MAY_BE
        if sign not in may_be:
            return None
        self._used |= {side.name for side in (one, other) if side.name}
        return lambda columns: may_be[sign](one.of(columns), other.of(columns))

    def _side(self, node: ast.expr) -> "_Side | None":
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=float(value) | int(value))):
                return None if isinstance(value, bool) else _constant(-value)
            case ast.Constant(value=value):
                return _constant(value)
            case ast.Name(id=name) if name in self._constants:
                return _constant(self._constants[name])
            case ast.Name(id=name) if name in self._fields or name in self._computed or name == FRAUD_SCORE:
                kind = self._names[name].type if name in self._names else Type.TRUTH
                return _Side(kind, name) if kind in (Type.NUMBER, Type.TEXT) else None
        return None

    def _is_list(self, name: str) -> bool:
        return name.startswith(ON) and name in self._names and not (name in self._constants or name in self._fields)


class _Side(NamedTuple):
    """A side of a comparison: a name, or a constant."""

    kind: Type
    name: str = ""
    constant: float | str = ""

    def of(self, columns: Columns) -> Any:
        return columns[self.name] if self.name else self.constant


def _constant(value: object) -> _Side | None:
    if isinstance(value, str):
        return _Side(Type.TEXT, constant=value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < EXACT:
        return _Side(Type.NUMBER, constant=float(value))
    return None


def _column(rows: Sequence[Sequence[Any]], place: int, kind: Type) -> np.ndarray:
    """The values of a name, [n]: texts, or numbers with NaN for what is none."""
    values = [row[place] for row in rows]
    if kind == Type.TEXT:
        return np.array(values, object)
    column = np.array(values)
    if column.dtype.kind not in "iuf":
        column = np.array([value if type(value) in (int, float) else np.nan for value in values])
    return np.where(np.abs(column) < EXACT, column, np.nan)


def _joined(how: Callable[[Any, Any], Any], parts: Sequence[Screen]) -> Screen:
    known = [part for part in parts if part]
    if not known or len(known) < len(parts):
        return None
    return lambda columns: reduce(how, (part(columns) for part in known))
