"""Tries a policy on stored transactions: what it would have decided, beside what was decided.

A transaction is decided on by its stored values, computed features and score, so the rules that match are those that
would have matched live.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import NormalDist
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from scoring.decisions import ALERTS, Decision
from scoring.policies.document import Document
from scoring.policies.engine import Policy
from scoring.policies.evidence import Evidence
from scoring.policies.expressions import Binder, Expression, Outcome
from scoring.policies.lists import HeldLists
from scoring.policies.names import ON, names_of
from scoring.policies.stored import Row
from training.core.schema import Schema

EXAMPLES = 20
GROUPS = 50
OTHERS = "others"
ORDER = [str(decision) for decision in Decision]
IS_ALERT = {str(decision): decision in ALERTS for decision in Decision}
NOTHING = Evidence()
# So many standard deviations to either side hold 95 % of a normal distribution.
WITHIN_95 = NormalDist().inv_cdf(0.975)


class Sum(Struct):
    """How many transactions, and their amount in the schema's currency."""

    count: int = 0
    amount: float = 0.0

    def add(self, amount: float, count: int = 1) -> None:
        self.count += count
        self.amount += amount


class Share(Struct):
    """A share with its 95 % interval (Wilson, 1927); None if nothing was counted."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, part: float, whole: float) -> "Share":
        if not whole:
            return cls()
        share, spread = part / whole, WITHIN_95**2 / whole
        middle = (share + spread / 2) / (1 + spread)
        reach = sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
        return cls(share, max(middle - reach, 0.0), min(middle + reach, 1.0))


class Quality(Struct):
    """How good alerts are by labels. `honest` are the customers, by the first entity of the schema, with an alert that
    is not known as fraud; without entities, such alerts. Precision is over alerts with a label."""

    caught: Sum = msgspec.field(default_factory=Sum)
    missed: Sum = msgspec.field(default_factory=Sum)
    false_alerts: Sum = msgspec.field(default_factory=Sum)
    honest: int = 0
    precision: Share = msgspec.field(default_factory=Share)
    recall: Share = msgspec.field(default_factory=Share)


class Side(Struct):
    """What one of the two policies decided, with its quality by labels as known at the end of the period and as known
    now."""

    decisions: dict[str, Sum] = {}
    then: Quality = msgspec.field(default_factory=Quality)
    now: Quality = msgspec.field(default_factory=Quality)


class Change(Struct):
    """Transactions whose decision changes."""

    before: str
    after: str
    sum: Sum
    frauds: int
    examples: list[str]


class RuleResult(Struct):
    """What a rule matched, or which transactions were on a list: its name is that in expressions, with `on_`, and its
    state "list". `alone` are those that no other rule or list had; `overlap` counts those that another had, too.
    Frauds and legitimate ones are by labels as known now."""

    rule: str
    state: str
    matched: Sum
    alone: int
    frauds: int
    legitimate: int
    precision: Share
    overlap: dict[str, int]
    absent: int
    failed: int
    examples: list[str]


class Part(Struct):
    """A day, a segment or a group: its transactions, those whose decision changes, and the alerts of both sides, with
    the known frauds among them and those that are known as legitimate."""

    name: str
    transactions: int = 0
    before: int = 0
    after: int = 0
    frauds: int = 0
    caught_before: int = 0
    caught_after: int = 0
    false_before: int = 0
    false_after: int = 0
    changed: Sum = msgspec.field(default_factory=Sum)

    def add(self, cell: "_Cell", count: int, amount: float) -> None:
        before, after = IS_ALERT[cell.before], IS_ALERT[cell.after]
        self.transactions += count
        self.before += before * count
        self.after += after * count
        if cell.now:
            self.frauds += count
            self.caught_before += before * count
            self.caught_after += after * count
        elif cell.now is False:
            self.false_before += before * count
            self.false_after += after * count
        if cell.before != cell.after:
            self.changed.add(amount, count)


class Result(Struct):
    """The result of a backtest. `before` is what was decided, `after` what the policy decides."""

    transactions: int
    before: Side
    after: Side
    changes: list[Change]
    rules: list[RuleResult]
    days: list[Part]
    segments: list[Part]
    groups: list[Part] = []


class _Cell(NamedTuple):
    """What all results but those of rules depend on. Nearly all transactions are in few cells, so that counting them
    costs little."""

    day: str
    segment: str
    group: str
    before: str
    after: str
    then: bool | None
    now: bool | None


@dataclass(slots=True)
class _Rule:
    matched: Sum = field(default_factory=Sum)
    alone: int = 0
    frauds: int = 0
    legitimate: int = 0
    overlap: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def result(self, name: str, state: str, outcomes: Counter[tuple[str, Outcome]]) -> RuleResult:
        return RuleResult(
            rule=name,
            state=state,
            matched=self.matched,
            alone=self.alone,
            frauds=self.frauds,
            legitimate=self.legitimate,
            precision=Share.of(self.frauds, self.frauds + self.legitimate),
            overlap=dict(self.overlap),
            absent=outcomes[name, Outcome.ABSENT],
            failed=outcomes[name, Outcome.FAILED],
            examples=self.examples,
        )


class Grouping:
    """Puts transactions into groups by the value of an expression.

    Raises:
        ValueError: it cannot be compiled.
    """

    def __init__(self, schema: Schema, source: str, document: Document, lists: HeldLists) -> None:
        names = names_of(schema, document, lists.names)
        self._expression = Expression(source)
        self.used = set(self._expression.names)
        self._binder = Binder(schema, names, self.used, document.constants)
        self._lists = lists
        self._seen: set[str] = set()

    def of(self, row: Row) -> str:
        """The name of a transaction's group. After the first `GROUPS` values, others are together."""
        context = self._binder.context(row.case, row.derived, row.score, set(self._lists.on(row.case)))
        try:
            value = self._expression.execute(context.of_cel)
        except Exception:  # the library raises errors of many types
            return str(self._expression.failure(context).value)
        name = f"{value:g}" if isinstance(value, float) else str(value)
        if name not in self._seen:
            if len(self._seen) >= GROUPS:
                return OTHERS
            self._seen.add(name)
        return name


class Backtester:
    """Adds up what a policy decides about pages of stored transactions. `used` are the names of the values that it asks
    for."""

    def __init__(self, policy: Policy, grouping: Grouping | None = None) -> None:
        self.policy, self._grouping = policy, grouping
        self.used = policy.used | (grouping.used if grouping else set())
        self.rows = 0
        self._counted: dict[tuple[Any, ...], Sum] = {}
        self._honest: dict[tuple[str, str], set[str]] = {}
        self._examples: dict[tuple[str, str], list[str]] = {}
        self._rules: dict[str, _Rule] = {rule.name: _Rule() for rule in policy.document.evaluated_rules}
        self._lists: dict[str, _Rule] = {ON + name: _Rule() for name in policy.lists.names}

    def add(self, page: Sequence[Row]) -> None:
        """Decide on a page and count it."""
        cases, derived, scores = ([getattr(row, name) for row in page] for name in ("case", "derived", "score"))
        cells, grouping, group = self._counted, self._grouping, ""
        for row, decided in zip(page, self.policy.decide(cases, derived, scores), strict=True):
            evidence, before, after = decided.evidence or NOTHING, row.decision, decided.decision.value
            if grouping:
                group = grouping.of(row)
            cell = (row.day, evidence.segment or "", group, before, after, row.then, row.now)
            counted = cells.get(cell) or cells.setdefault(cell, Sum())
            counted.count += 1
            counted.amount += row.amount
            if before != after or IS_ALERT[after]:
                self._count_alert(row, before, after)
            if evidence is not NOTHING and (evidence.rules or evidence.lists or evidence.on):
                self._count_rules(row, evidence)
        self.rows += len(page)

    def _count_alert(self, row: Row, before: str, after: str) -> None:
        for side, decision in (("before", before), ("after", after)):
            if IS_ALERT[decision]:
                customer = next(iter(row.case.tokens), "") or row.key
                for when, is_fraud in (("then", row.then), ("now", row.now)):
                    if not is_fraud:
                        self._honest.setdefault((side, when), set()).add(customer)
        if before != after:
            examples = self._examples.setdefault((before, after), [])
            if len(examples) < EXAMPLES:
                examples.append(row.key)

    def _count_rules(self, row: Row, evidence: Evidence) -> None:
        lists = [ON + name for name in (*(hit.list for hit in evidence.lists), *evidence.on)]
        names = [*(matched.rule for matched in evidence.rules), *dict.fromkeys(lists)]
        for name in names:
            rule = self._rules.get(name) or self._lists[name]
            rule.matched.add(row.amount)
            rule.alone += len(names) == 1
            rule.frauds += row.now is True
            rule.legitimate += row.now is False
            rule.overlap.update(other for other in names if other != name)
            if len(rule.examples) < EXAMPLES:
                rule.examples.append(row.key)

    def result(self) -> Result:
        outcomes = self.policy.tally.of_all()
        states = {rule.name: str(rule.state) for rule in self.policy.document.evaluated_rules}
        return Result(
            transactions=self.rows,
            before=self._side("before"),
            after=self._side("after"),
            changes=self._changes(),
            rules=[
                *(rule.result(name, states[name], outcomes) for name, rule in self._rules.items()),
                *(rule.result(name, "list", outcomes) for name, rule in self._lists.items()),
            ],
            days=self._parts("day"),
            segments=self._parts("segment"),
            groups=self._parts("group") if self._grouping else [],
        )

    @property
    def _cells(self) -> Iterator[tuple[_Cell, Sum]]:
        return ((_Cell(*key), counted) for key, counted in self._counted.items())

    def _side(self, side: str) -> Side:
        decisions = {name: Sum() for name in ORDER}
        for cell, counted in self._cells:
            decisions[getattr(cell, side)].add(counted.amount, counted.count)
        return Side(decisions, self._quality(side, "then"), self._quality(side, "now"))

    def _quality(self, side: str, when: str) -> Quality:
        quality = Quality(honest=len(self._honest.get((side, when), ())))
        for cell, counted in self._cells:
            is_fraud, is_alert = getattr(cell, when), IS_ALERT[getattr(cell, side)]
            if is_fraud:
                (quality.caught if is_alert else quality.missed).add(counted.amount, counted.count)
            elif is_fraud is False and is_alert:
                quality.false_alerts.add(counted.amount, counted.count)
        caught = quality.caught.count
        quality.precision = Share.of(caught, caught + quality.false_alerts.count)
        quality.recall = Share.of(caught, caught + quality.missed.count)
        return quality

    def _changes(self) -> list[Change]:
        changes: dict[tuple[str, str], Change] = {}
        for cell, counted in self._cells:
            if cell.before != cell.after:
                key = (cell.before, cell.after)
                change = changes.setdefault(key, Change(*key, Sum(), 0, self._examples[key]))
                change.sum.add(counted.amount, counted.count)
                change.frauds += counted.count if cell.now else 0
        return sorted(changes.values(), key=lambda change: -change.sum.count)

    def _parts(self, kind: str) -> list[Part]:
        parts: dict[str, Part] = {}
        for cell, counted in self._cells:
            name = getattr(cell, kind)
            parts.setdefault(name, Part(name)).add(cell, counted.count, counted.amount)
        return [parts[name] for name in sorted(parts)]
