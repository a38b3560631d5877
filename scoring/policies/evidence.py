"""Why a decision was made, apart from the score. It is stored with the prediction."""

from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from scoring.decisions import Decision
from scoring.policies.document import State


class Basis(StrEnum):
    """What a decision was made by."""

    SCORE = "score"
    RULE = "rule"
    LIST = "list"
    FALLBACK = "fallback"
    CONTROL = "control"


class Degraded(StrEnum):
    """What was left out of a decision that has a score."""

    RULE = "rule"  # a rule or segment could not be calculated, and counted as not matching
    POLICY = "policy"  # the live policy cannot be read, so the policy before it or the model's thresholds decided
    LIST = "list"  # a list that should decide, or entries of it, could not be read, and counted as empty


class MatchedRule(Struct, frozen=True, kw_only=True):
    """A rule that matched, and the values of the names in it."""

    rule: str
    action: Decision
    state: State
    values: dict[str, Any] = {}


class Hit(Struct, frozen=True, kw_only=True):
    """A list that decided about a transaction."""

    list: str
    action: Decision


class Draw(Struct, frozen=True, kw_only=True):
    """A would-be alert that the control group could have: what would have been decided, the probability of being let
    through, and whether it was."""

    would: Decision
    propensity: float
    let_through: bool


class Evidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a decision was made, apart from the score.

    `segment` is the one whose thresholds held, `rules` those that matched, shadow rules included, and `lists` those
    that decided; the transaction is also `on` others, which rules may ask for. `failed` are rules and segments that
    could not be calculated. `control` is there if the control group could have the transaction.
    """

    basis: Basis = Basis.SCORE
    segment: str | None = None
    rules: list[MatchedRule] = []
    lists: list[Hit] = []
    on: list[str] = []
    failed: list[str] = []
    degraded: Degraded | None = None
    control: Draw | None = None

    @property
    def active_rules(self) -> list[str]:
        return [matched.rule for matched in self.rules if matched.state == State.ACTIVE]


def read(content: object) -> Evidence:
    """The evidence of a prediction from its JSON, or the empty one."""
    return msgspec.convert(content, Evidence) if content else Evidence()
