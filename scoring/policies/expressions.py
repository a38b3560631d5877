"""Expressions at run time: CEL, the Common Expression Language (https://cel.dev), compiled once and run in Rust.

`checking` has accepted an expression before it gets here, so it has no loops and ends soon.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from scoring.policies.names import FRAUD_SCORE, HAS, ON, Name, Type
from training.core.schema import EVENT_TIME, Schema
from training.core.schema.values import Value

if TYPE_CHECKING:
    import cel

Bound = bool | float | str | datetime


class Case(NamedTuple):
    """A transaction as a policy sees it, apart from its computed features. `values` are its stored values, in the
    schema's order, `tokens` those of its entities, `event_time` is in seconds since the epoch, and `key` is our id.
    `decided_at` is when it was decided about, in seconds since the epoch; infinity if that is now. `client` is the key
    of its client, 0 where that does not matter."""

    values: Sequence[Value]
    tokens: Sequence[str]
    event_time: float
    key: str = ""
    decided_at: float = math.inf
    client: int = 0


class Outcome(Enum):
    """What became of an expression, unless it just does not match. With an `ABSENT` value it does not match either, nor
    if its calculation `FAILED`."""

    MATCHED = "matched"
    ABSENT = "absent"
    FAILED = "failed"


class Expression:
    """A compiled expression.

    Raises:
        ValueError: it cannot be compiled.
    """

    def __init__(self, source: str) -> None:
        # Imported late, here and below: it brings a command line along, which a web process does not need.
        import cel

        program = cel.compile(source)
        self.execute = program.execute
        self.names: tuple[str, ...] = tuple(program.variables())

    def failure(self, context: "Context") -> Outcome:
        """Why the expression could not be calculated."""
        absent = any(name not in context.bound for name in self.names)
        return Outcome.ABSENT if absent else Outcome.FAILED


class Conditions:
    """Several compiled expressions. Nearly always none of them matches, which one expression of them all finds out at
    half the cost; those with names that may be absent are left out of it, as an absent value is an error in CEL.

    Raises:
        ValueError: one of them cannot be compiled.
    """

    def __init__(self, sources: Sequence[str], names: Mapping[str, Name]) -> None:
        self.expressions = [Expression(source) for source in sources]
        certain = [
            index
            for index, expression in enumerate(self.expressions)
            if not any(name in names and names[name].optional for name in expression.names)
        ]
        # The newline ends a comment of CEL.
        self._any = Expression(" || ".join(f"({sources[index]}\n)" for index in certain)) if certain else None
        self._all = list(enumerate(self.expressions))
        self._uncertain = [pair for pair in self._all if pair[0] not in certain]

    @property
    def names(self) -> set[str]:
        return {name for expression in self.expressions for name in expression.names}

    def outcomes(self, context: "Context") -> list[tuple[int, Outcome]]:
        """What became of the expressions, by their index, in order. Those that just do not match are left out."""
        of_cel, tried = context.of_cel, self._all
        if self._any:
            try:
                tried = self._all if self._any.execute(of_cel) is True else self._uncertain
            except Exception:  # the library raises errors of many types
                tried = self._all
        found = []
        for index, expression in tried:
            try:
                if expression.execute(of_cel) is True:
                    found.append((index, Outcome.MATCHED))
            except Exception:  # likewise
                found.append((index, expression.failure(context)))
        return found


class Context(NamedTuple):
    """The values of the names for one transaction. A name whose value is absent is not in it: then CEL raises an error,
    which the other side of `||` or `&&` may make up for."""

    bound: dict[str, Bound]
    of_cel: "cel.Context"


class Binder:
    """Makes the context of a transaction. It has only the names that some expressions use, as each costs time."""

    def __init__(
        self, schema: Schema, names: Mapping[str, Name], used: Iterable[str], constants: Mapping[str, Bound]
    ) -> None:
        from cel import Context as ContextOfCel

        self._of_cel = ContextOfCel
        wanted = [name for name in sorted(set(used)) if name in names]
        fields = {name: index for index, name in enumerate(schema.feature_names) if name != FRAUD_SCORE}
        computed = {feature.name: index for index, feature in enumerate(schema.derived) if feature.name != FRAUD_SCORE}
        are_truths = {name for name in wanted if names[name].type == Type.TRUTH}
        self._values = [(name, fields[name]) for name in wanted if name in fields and name not in are_truths]
        self._truths = [(name, fields[name]) for name in wanted if name in fields and name in are_truths]
        self._computed = [(name, computed[name]) for name in wanted if name in computed]
        others = [name for name in wanted if name not in fields and name not in computed]
        self._score = FRAUD_SCORE in others
        self._time = EVENT_TIME in others
        presence = [(name, name.removeprefix(HAS)) for name in others if name.startswith(HAS)]
        self._has_value = [(name, fields[of]) for name, of in presence if of in fields]
        self._has_computed = [(name, computed[of]) for name, of in presence if of in computed]
        known = {name for name, of in presence if of in fields or of in computed}
        self._constants = {name: constants[name] for name in others if name in constants and name not in known}
        self._lists = [
            (name, name.removeprefix(ON)) for name in others if name.startswith(ON) and name not in constants
        ]

    def context(self, case: Case, derived: Sequence[float | None], fraud_score: float, on: Collection[str]) -> Context:
        """The context of a transaction with this score, which is on the lists `on`. Computed features that are NaN or
        None are absent."""
        values = case.values
        bound: dict[str, Bound] = {name: value for name, index in self._values if (value := values[index]) is not None}
        if self._constants:
            bound.update(self._constants)
        for name, index in self._truths:
            if (value := values[index]) is not None:
                bound[name] = bool(value)
        for name, index in self._computed:
            if (number := derived[index]) is not None and not math.isnan(number):
                bound[name] = number
        for name, index in self._has_value:
            bound[name] = values[index] is not None
        for name, index in self._has_computed:
            bound[name] = (number := derived[index]) is not None and not math.isnan(number)
        for name, list_name in self._lists:
            bound[name] = list_name in on
        if self._score:
            bound[FRAUD_SCORE] = fraud_score
        if self._time:
            bound[EVENT_TIME] = datetime.fromtimestamp(case.event_time, UTC)
        return Context(bound, self._of_cel(bound))
