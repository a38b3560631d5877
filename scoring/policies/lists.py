"""Lists at run time: which transactions are on them, held in memory by each worker process."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from scoring.decisions import Decision
from scoring.policies.evidence import Hit
from scoring.policies.expressions import Case
from scoring.policies.names import ON
from training.core.schema import Schema


@dataclass(slots=True)
class HeldList:
    """A list of a schema, in memory.

    It is about the entity or the value at `index` of the schema's entities or features. `members` have the time, in
    seconds since the epoch, at which each expires; infinity for never. A transaction of more than `max_amount` is not
    decided by it. `action` is None for a list that only rules refer to.
    """

    name: str
    action: Decision | None
    of_entity: bool
    index: int
    max_amount: float | None = None
    members: dict[str | float, float] = field(default_factory=dict)

    def has(self, case: Case) -> bool:
        """Whether a transaction is on the list at the time of its event."""
        key = case.tokens[self.index] if self.of_entity else case.values[self.index]
        if key is None:
            return False
        expires = self.members.get(key)
        return expires is not None and expires > case.event_time


@dataclass(slots=True)
class PastList(HeldList):
    """A list as it was `since` a time and `until` another, while its action and largest amount stayed the same. `spans`
    have, for each key that was ever on it, three times for each of its entries: since when and until when it was on the
    list, and when it expired."""

    spans: dict[str | float, tuple[float, ...]] = field(default_factory=dict)
    since: float = -math.inf
    until: float = math.inf

    def put(self, key: str | float, added: float, removed: float, expires: float) -> None:
        self.spans[key] = (*self.spans.get(key, ()), added, removed, expires)

    def has(self, case: Case) -> bool:
        """Whether a transaction was on the list when it was decided about."""
        if not self.since <= case.decided_at < self.until:
            return False
        key = case.tokens[self.index] if self.of_entity else case.values[self.index]
        spans = () if key is None else self.spans.get(key, ())
        return any(
            added <= case.decided_at < removed and expires > case.event_time
            for added, removed, expires in zip(*[iter(spans)] * 3, strict=True)
        )


class HeldLists:
    """The lists of a schema, in memory.

    `faulty` are the names of lists that cannot be used or lack entries, and whether they would decide.
    """

    def __init__(self, schema: Schema, lists: Sequence[HeldList], faulty: Mapping[str, bool] | None = None) -> None:
        self.schema = schema
        self._lists = tuple(lists)
        self._faulty = faulty or {}
        self._amount = schema.amount_index

    @classmethod
    def none(cls, schema: Schema) -> Self:
        return cls(schema, ())

    def __bool__(self) -> bool:
        return bool(self._lists)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(held.name for held in self._lists)

    @property
    def used(self) -> set[str]:
        """The names of the values that lists are about."""
        return {self.schema.feature_names[held.index] for held in self._lists if not held.of_entity}

    def are_missed(self, used: Collection[str]) -> bool:
        """Whether a faulty list should decide, by itself or in expressions that use these names."""
        return any(decides or ON + name in used for name, decides in self._faulty.items())

    def on(self, case: Case) -> Iterator[str]:
        """The names of the lists that a transaction is on."""
        return (held.name for held in self._lists if held.has(case))

    def hits(self, case: Case) -> list[Hit]:
        """The lists that decide about a transaction."""
        return [
            Hit(list=held.name, action=held.action)
            for held in self._lists
            if held.action is not None and held.has(case) and not self._is_too_large(held, case)
        ]

    def _is_too_large(self, held: HeldList, case: Case) -> bool:
        return held.max_amount is not None and float(case.values[self._amount] or 0.0) > held.max_amount
