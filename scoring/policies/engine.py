"""A policy at run time. Pure: it gets transactions with their scores, and gives decisions.

What decides, in this order: lists, then active rules, then thresholds on the score. Of the lists that a transaction is
on, and likewise of the rules that it matches, the strictest decides.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from scoring.decisions import ALERTS, Decision, Thresholds
from scoring.policies.document import Document, Rule, State
from scoring.policies.evidence import Basis, Degraded, Draw, Evidence, Hit, MatchedRule
from scoring.policies.expressions import Binder, Case, Conditions, Context, Expression, Outcome
from scoring.policies.lists import HeldLists
from scoring.policies.names import names_of
from scoring.policies.screening import MANY, Screening
from training.core.schema import EVENT_TIME, Schema

NO_LISTS: Collection[str] = frozenset()


class Decided(NamedTuple):
    """A decision, the review threshold that held, and the evidence; None if nothing but the policy's thresholds had a
    say."""

    decision: Decision
    threshold: float
    evidence: Evidence | None = None


@dataclass(slots=True)
class Tally:
    """How many transactions were decided since the counts were taken, by the key of their client, and how often each
    rule matched, lacked a value or could not be calculated, by client and the rule's name."""

    decided: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[tuple[int, str, Outcome]] = field(default_factory=Counter)

    def take(self) -> "Tally":
        """The counts so far; they begin at zero again."""
        taken = Tally(self.decided, self.outcomes)
        self.decided, self.outcomes = Counter(), Counter()
        return taken

    def give_back(self, taken: "Tally") -> None:
        """Count again what was taken."""
        self.decided.update(taken.decided)
        self.outcomes.update(taken.outcomes)

    def of_all(self) -> Counter[tuple[str, Outcome]]:
        """The outcomes of all clients together, by the rule's name."""
        found: Counter[tuple[str, Outcome]] = Counter()
        for (_, rule, outcome), number in self.outcomes.items():
            found[rule, outcome] += number
        return found


class Policy:
    """A policy version that decides, with the thresholds of a model and the lists of its schema. Immutable, apart from
    the tally and the members of lists. `pk`, `number` and `live_at` are those of the version; None if there is none.
    `used` are the names of the values that it asks for.

    Raises:
        ValueError: an expression cannot be compiled.
    """

    def __init__(
        self,
        schema: Schema,
        of_model: Thresholds,
        document: Document | None = None,
        *,
        pk: int | None = None,
        number: int | None = None,
        live_at: datetime | None = None,
        lists: HeldLists | None = None,
        degraded: Degraded | None = None,
    ) -> None:
        self.of_model, self.document = of_model, document or Document()
        self.pk, self.number, self.live_at = pk, number, live_at
        self.lists = HeldLists.none(schema) if lists is None else lists
        self._amount = schema.amount_index
        self.thresholds = self.document.thresholds(of_model)
        self.tally = Tally()
        names = names_of(schema, self.document, self.lists.names)
        self._rules = self.document.evaluated_rules
        self._conditions = Conditions([rule.when for rule in self._rules], names)
        self._segments = [(part.name, self.document.thresholds(of_model, part)) for part in self.document.segments]
        self._of_segments = Conditions([part.when for part in self.document.segments], names)
        used = self._conditions.names | self._of_segments.names
        self.degraded = degraded or (Degraded.LIST if self.lists.are_missed(used) else None)
        self._binder = Binder(schema, names, used, self.document.constants)
        conditions = [*(rule.when for rule in self._rules), *(part.when for part in self.document.segments)]
        self._screening = Screening(schema, conditions, names, self.document.constants)
        self.used = used | self.lists.used | ({EVENT_TIME} if self.lists else set())

    @property
    def is_plain(self) -> bool:
        """Whether the policy's thresholds alone decide."""
        return not (self._rules or self._segments or self.lists or self.degraded or self.document.control.share)

    def may_have_a_say(self, given: np.ndarray, derived: np.ndarray, scores: Sequence[float]) -> Sequence[bool]:
        """Whether anything but the thresholds may have a say in transactions, unless they are alerts: the control group
        may have those. `given` [n, len(schema.features)] float64 are their stored values, all numbers, and `derived`
        [n, len(schema.derived)] their computed features."""
        if not (self._rules or self._segments or self.lists or self.degraded):
            return [False] * len(scores)
        if self.lists or self.degraded or not self._screening.is_of_use:
            return [True] * len(scores)
        cases = [Case(values, (), math.nan) for values in given.tolist()]
        return self._screening.may_match(cases, derived.tolist(), scores, [NO_LISTS] * len(scores))

    def decide(
        self, cases: Sequence[Case], derived: Sequence[Sequence[float | None]], scores: Sequence[float]
    ) -> list[Decided]:
        """Decide on transactions with these computed features and scores, in order."""
        if self.is_plain:
            return [Decided(self.thresholds.decide(score), self.thresholds.review) for score in scores]
        self.tally.decided.update(case.client for case in cases)
        on = [set(self.lists.on(case)) for case in cases] if self.lists else [NO_LISTS] * len(cases)
        may_match = [True] * len(cases)
        if self._screening.is_of_use and len(cases) >= MANY:
            may_match = self._screening.may_match(cases, derived, scores, on)
        return [self._decide(*row) for row in zip(cases, derived, scores, on, may_match, strict=True)]

    def _decide(
        self, case: Case, derived: Sequence[float | None], score: float, on: Collection[str], may_match: bool
    ) -> Decided:
        hits = self.lists.hits(case) if on else []
        failed: list[str] = []
        matched: list[MatchedRule] = []
        if not may_match:
            return self._decided(case, score, self.thresholds, None, matched, hits, on, failed)
        context = self._binder.context(case, derived, score, on)
        for index, outcome in self._conditions.outcomes(context):
            rule = self._rules[index]
            self.tally.outcomes[case.client, rule.name, outcome] += 1
            if outcome is Outcome.MATCHED:
                matched.append(_matched(rule, self._conditions.expressions[index], context))
            elif outcome is Outcome.FAILED and rule.state == State.ACTIVE:
                failed.append(rule.name)
        segment: str | None = None
        thresholds = self.thresholds
        for index, outcome in self._of_segments.outcomes(context):
            if outcome is Outcome.MATCHED:
                segment, thresholds = self._segments[index]
                break
            if outcome is Outcome.FAILED:
                failed.append(self._segments[index][0])
        return self._decided(case, score, thresholds, segment, matched, hits, on, failed)

    def _decided(
        self,
        case: Case,
        score: float,
        thresholds: Thresholds,
        segment: str | None,
        matched: list[MatchedRule],
        hits: list[Hit],
        on: Collection[str],
        failed: list[str],
    ) -> Decided:
        active = [each.action for each in matched if each.state == State.ACTIVE]
        if hits:
            basis, decision = Basis.LIST, Decision.strictest(hit.action for hit in hits)
        elif active:
            basis, decision = Basis.RULE, Decision.strictest(active)
        else:
            basis, decision = Basis.SCORE, thresholds.decide(score)
        control = self._draw(case, decision) if decision in ALERTS and basis != Basis.LIST else None
        if control and control.let_through:
            basis, decision = Basis.CONTROL, Decision.APPROVE
        others = sorted(set(on) - {hit.list for hit in hits}) if on else []
        degraded = self.degraded or (Degraded.RULE if failed else None)
        if not (segment or matched or hits or others or degraded or control):
            return Decided(decision, thresholds.review)
        evidence = Evidence(
            basis=basis,
            segment=segment,
            rules=matched,
            lists=hits,
            on=others,
            failed=failed,
            degraded=degraded,
            control=control,
        )
        return Decided(decision, thresholds.review, evidence)

    def _draw(self, case: Case, would: Decision) -> Draw | None:
        """Whether the control group has a would-be alert; None if it cannot have it."""
        control = self.document.control
        if not control.share or float(case.values[self._amount] or 0.0) > control.max_amount:
            return None
        drawn = int.from_bytes(sha256(f"{control.seed}:{case.key}".encode()).digest()[:8]) / 2**64
        return Draw(would=would, propensity=control.share, let_through=drawn < control.share)


def _matched(rule: Rule, expression: Expression, context: Context) -> MatchedRule:
    values = {
        name: value if isinstance(value := context.bound[name], (bool, float, int, str)) else value.isoformat()
        for name in expression.names
        if name in context.bound
    }
    return MatchedRule(rule=rule.name, action=rule.action, state=rule.state, values=values)
