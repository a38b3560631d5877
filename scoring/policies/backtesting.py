"""Tries a policy on stored transactions: what it would have decided, beside what was decided.

A transaction is decided on by its stored values, computed features and score, so the rules that match are those that
would have matched live.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db.models import Q, TextField
from django.db.models.functions import Cast
from msgspec import Struct
from msgspec.structs import astuple
from scipy.stats import binomtest

from scoring.decisions import ALERTS, Decision
from scoring.models import Label, Prediction
from scoring.policies.engine import Policy
from scoring.policies.evidence import Evidence
from scoring.policies.expressions import Case, Outcome
from training.core.schema import Schema
from training.models import ModelVersion

PAGE = 5_000
EXAMPLES = 20
ORDER = [str(decision) for decision in Decision]
NOTHING = Evidence()


class Sum(Struct):
    """How many transactions, and their amount in the schema's currency."""

    count: int = 0
    amount: float = 0.0

    def add(self, amount: float) -> None:
        self.count += 1
        self.amount += amount


class Share(Struct):
    """A share with its 95 % interval (Wilson, 1927); None if nothing was counted."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, part: int, whole: int) -> "Share":
        if not whole:
            return cls()
        interval = binomtest(part, whole).proportion_ci(method="wilson")
        return cls(part / whole, float(interval.low), float(interval.high))


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
    """What a rule matched. `alone` are those that no other rule of the policy matched; `overlap` counts those that
    another rule matched, too. Frauds and legitimate ones are by labels as known now."""

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
    """A day or a segment: its transactions, and the alerts of both sides, with known frauds among them."""

    name: str
    transactions: int = 0
    before: int = 0
    after: int = 0
    frauds: int = 0
    caught_before: int = 0
    caught_after: int = 0


class Result(Struct):
    """The result of a backtest. `before` is what was decided, `after` what the policy decides."""

    transactions: int
    before: Side
    after: Side
    changes: list[Change]
    rules: list[RuleResult]
    days: list[Part]
    segments: list[Part]


@dataclass(slots=True)
class _Rule:
    matched: Sum = field(default_factory=Sum)
    alone: int = 0
    frauds: int = 0
    legitimate: int = 0
    overlap: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


class Row(NamedTuple):
    """A stored transaction, the day of its decision, UTC, and its labels: True for fraud, None if unknown."""

    key: UUID
    day: str
    amount: float
    case: Case
    derived: Sequence[float | None]
    score: float
    decision: str
    then: bool | None
    now: bool | None


def rows_of(schema: Schema, since: datetime, until: datetime) -> "Any":
    """The stored predictions of a schema in a period: from `since`, before `until`."""
    versions = ModelVersion.objects.filter(schema=schema.name)
    return Prediction.objects.filter(
        model_version__in=list(versions), transaction__schema=schema.name, created_at__gte=since, created_at__lt=until
    )


class Reader:
    """Reads the stored transactions of a schema in pages, oldest first, with what a policy of it needs."""

    def __init__(self, schema: Schema, since: datetime, until: datetime) -> None:
        self.schema, self.since, self.until = schema, since, until
        self._values = _decoder(schema.feature_names)
        self._derived = _decoder([feature.name for feature in schema.derived])
        self._tokens = _decoder(schema.entity_names, "")

    def pages(self) -> Iterator[list[Row]]:
        found = rows_of(self.schema, self.since, self.until).order_by("created_at", "pk")
        # As texts, as Django takes longer to make objects of times and JSON than a policy to decide.
        texts = {
            "at": "created_at",
            "of_event": "transaction__event_time",
            "fields": "transaction__fields",
            "computed": "derived",
            "tokens": "transaction__tokens",
        }
        columns = found.annotate(**{name: Cast(column, TextField()) for name, column in texts.items()}).values_list(
            "pk", "fraud_score", "decision", *texts
        )
        after = Q()
        while page := list(columns.filter(after)[:PAGE]):
            rows = self._rows(page)
            yield rows
            key, moment = rows[-1].key, _moment(page[-1][3])
            after = Q(created_at__gte=moment) & (Q(created_at__gt=moment) | Q(pk__gt=key))

    def _rows(self, page: list[tuple[Any, ...]]) -> list[Row]:
        then, now = self._labels(_moment(page[0][3]), _moment(page[-1][3]))
        no_derived = (None,) * len(self.schema.derived)
        no_tokens = ("",) * len(self.schema.entities)
        rows = []
        for key, score, decision, at, of_event, fields, computed, tokens in page:
            values = astuple(self._values.decode(fields))
            known = astuple(self._tokens.decode(tokens)) if tokens else no_tokens
            case = Case(values, known, _moment(of_event).timestamp(), str(key))
            derived = astuple(self._derived.decode(computed)) if computed else no_derived
            amount = self.schema.amount_of(values)
            rows.append(Row(key, at[:10], amount, case, derived, score, decision, then.get(key), now.get(key)))
        return rows

    def _labels(self, first: datetime, last: datetime) -> tuple[dict[UUID, bool | None], dict[UUID, bool | None]]:
        labels = Label.objects.filter(
            transaction__schema=self.schema.name,
            transaction__prediction__created_at__gte=first,
            transaction__prediction__created_at__lte=last,
        ).order_by("created_at", "pk")
        then: dict[UUID, bool | None] = {}
        now: dict[UUID, bool | None] = {}
        for key, is_fraud, created_at in labels.values_list("transaction_id", "is_fraud", "created_at"):
            now[key] = is_fraud
            if created_at < self.until:
                then[key] = is_fraud
        return then, now


def _moment(text: str) -> datetime:
    """A time in a database's text, UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _decoder(names: Sequence[str], default: Any = None) -> msgspec.json.Decoder[Any]:
    """A decoder of a JSON object to its values in this order; one that is missing is the default."""
    fields = [(f"field_{index}", Any, default) for index in range(len(names))]
    renamed = {f"field_{index}": name for index, name in enumerate(names)}
    return msgspec.json.Decoder(msgspec.defstruct("Values", fields, rename=renamed))


class Backtester:
    """Adds up what a policy decides about pages of stored transactions."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.rows = 0
        self._sides = {"before": _Side(), "after": _Side()}
        self._changes: dict[tuple[str, str], Change] = {}
        self._rules: dict[str, _Rule] = {rule.name: _Rule() for rule in policy.document.evaluated_rules}
        self._days: dict[str, Part] = {}
        self._segments: dict[str, Part] = {}

    def add(self, page: Sequence[Row]) -> None:
        """Decide on a page and count it."""
        cases, derived, scores = ([getattr(row, name) for row in page] for name in ("case", "derived", "score"))
        for row, decided in zip(page, self.policy.decide(cases, derived, scores), strict=True):
            self._count(row, decided.decision, decided.evidence or NOTHING)
        self.rows += len(page)

    def _count(self, row: Row, after: Decision, evidence: Evidence) -> None:
        before_alert, after_alert = row.decision in ALERTS, after in ALERTS
        self._sides["before"].count(row, row.decision, before_alert)
        self._sides["after"].count(row, str(after), after_alert)
        for parts, name in (
            (self._days, row.day),
            (self._segments, evidence.segment or ""),
        ):
            part = parts.get(name) or parts.setdefault(name, Part(name))
            part.transactions += 1
            part.before += before_alert
            part.after += after_alert
            if row.now:
                part.frauds += 1
                part.caught_before += before_alert
                part.caught_after += after_alert
        if row.decision != after:
            self._count_change(row, str(after))
        if evidence.rules:
            self._count_rules(row, [matched.rule for matched in evidence.rules])

    def _count_change(self, row: Row, after: str) -> None:
        key = (row.decision, after)
        change = self._changes.get(key) or self._changes.setdefault(key, Change(*key, Sum(), 0, []))
        change.sum.add(row.amount)
        change.frauds += bool(row.now)
        if len(change.examples) < EXAMPLES:
            change.examples.append(str(row.key))

    def _count_rules(self, row: Row, names: Sequence[str]) -> None:
        for name in names:
            rule = self._rules[name]
            rule.matched.add(row.amount)
            rule.alone += len(names) == 1
            rule.frauds += row.now is True
            rule.legitimate += row.now is False
            rule.overlap.update(other for other in names if other != name)
            if len(rule.examples) < EXAMPLES:
                rule.examples.append(str(row.key))

    def result(self) -> Result:
        outcomes = self.policy.tally.outcomes
        states = {rule.name: str(rule.state) for rule in self.policy.document.evaluated_rules}
        return Result(
            transactions=self.rows,
            before=self._sides["before"].result(),
            after=self._sides["after"].result(),
            changes=sorted(self._changes.values(), key=lambda change: -change.sum.count),
            rules=[
                RuleResult(
                    rule=name,
                    state=states[name],
                    matched=rule.matched,
                    alone=rule.alone,
                    frauds=rule.frauds,
                    legitimate=rule.legitimate,
                    precision=Share.of(rule.frauds, rule.frauds + rule.legitimate),
                    overlap=dict(rule.overlap),
                    absent=outcomes[name, Outcome.ABSENT],
                    failed=outcomes[name, Outcome.FAILED],
                    examples=rule.examples,
                )
                for name, rule in self._rules.items()
            ],
            days=[self._days[day] for day in sorted(self._days)],
            segments=[self._segments[name] for name in sorted(self._segments)],
        )


@dataclass(slots=True)
class _Labelled:
    """Alerts and frauds by the labels of one time."""

    caught: Sum = field(default_factory=Sum)
    missed: Sum = field(default_factory=Sum)
    false_alerts: Sum = field(default_factory=Sum)
    honest: set[Any] = field(default_factory=set)

    def count(self, row: Row, is_fraud: bool | None, is_alert: bool) -> None:
        if is_fraud:
            (self.caught if is_alert else self.missed).add(row.amount)
        elif is_alert:
            self.honest.add(next(iter(row.case.tokens), "") or row.key)
            if is_fraud is False:
                self.false_alerts.add(row.amount)

    def result(self) -> Quality:
        caught = self.caught.count
        return Quality(
            caught=self.caught,
            missed=self.missed,
            false_alerts=self.false_alerts,
            honest=len(self.honest),
            precision=Share.of(caught, caught + self.false_alerts.count),
            recall=Share.of(caught, caught + self.missed.count),
        )


@dataclass(slots=True)
class _Side:
    decisions: dict[str, Sum] = field(default_factory=lambda: {name: Sum() for name in ORDER})
    then: _Labelled = field(default_factory=_Labelled)
    now: _Labelled = field(default_factory=_Labelled)

    def count(self, row: Row, decision: str, is_alert: bool) -> None:
        self.decisions[decision].add(row.amount)
        if is_alert or row.now is not None or row.then is not None:
            self.then.count(row, row.then, is_alert)
            self.now.count(row, row.now, is_alert)

    def result(self) -> Side:
        return Side(self.decisions, self.then.result(), self.now.result())
