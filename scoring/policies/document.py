"""A policy's document: everything that turns a score into a decision, as one object."""

from enum import StrEnum

import msgspec
from msgspec import Struct

from scoring.decisions import Decision, Thresholds
from training.core.exceptions import FraudsiteError

# How a preset of risk appetite moves all thresholds: the factor on their odds.
APPETITES = {"cautious": 0.5, "balanced": 1.0, "bold": 2.0}


class PolicyInvalid(FraudsiteError):
    """The policy is invalid."""


class State(StrEnum):
    """What a rule may do. Drafts and retired rules are not evaluated; what shadow rules match is recorded, and changes
    no decision."""

    DRAFT = "draft"
    SHADOW = "shadow"
    ACTIVE = "active"
    RETIRED = "retired"


EVALUATED = frozenset({State.SHADOW, State.ACTIVE})


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule: transactions that match the CEL expression `when` get the decision `action`."""

    name: str
    when: str
    action: Decision
    state: State = State.DRAFT
    note: str = ""


class Segment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds of their own for the transactions that match the CEL expression `when`. The first segment that matches
    counts. A threshold that is None is the policy's."""

    name: str
    when: str
    review: float | None = None
    block: float | None = None
    challenge: float | None = None


class Control(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The control group: a share of would-be alerts that is let through, so that it is known what becomes of them. None
    of more than `max_amount`, in the schema's currency, and none that a list decides about. `seed` makes the draw
    repeatable."""

    share: float = 0.0
    max_amount: float = 0.0
    seed: str = ""


class Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy. Thresholds that are None are the model's; no model has a `challenge` threshold.

    `appetite` moves all thresholds, those of segments included. `constants` are names for numbers, texts and truth
    values in expressions. `capacity` is how many reviews a day analysts can do; it decides nothing.
    """

    review: float | None = None
    block: float | None = None
    challenge: float | None = None
    capacity: float | None = None
    appetite: str = "balanced"
    segments: list[Segment] = []
    rules: list[Rule] = []
    constants: dict[str, bool | float | str] = {}
    control: Control = Control()

    @property
    def evaluated_rules(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.state in EVALUATED]

    def thresholds(self, of_model: Thresholds, segment: Segment | None = None) -> Thresholds:
        """The thresholds that hold, of all transactions or of a segment."""
        review, block, challenge = (
            next(
                (value for value in (getattr(part, name) for part in (segment, self) if part) if value is not None),
                None,
            )
            for name in ("review", "block", "challenge")
        )
        review = of_model.review if review is None else review
        if block is not None:
            review = min(review, block)
        elif of_model.block is not None:
            block = max(review, of_model.block)
        return Thresholds(review, block, challenge).times(APPETITES[self.appetite])


def read(content: object) -> Document:
    """A document from its JSON, as objects of Python.

    Raises:
        PolicyInvalid: a name or a type is wrong. Whether expressions make sense, `checking.faults` says.
    """
    try:
        return msgspec.convert(content, Document, strict=False)
    except msgspec.ValidationError as error:
        raise PolicyInvalid(f"The policy is invalid: {error}.") from error


def parse(text: str | bytes) -> Document:
    """A document from the text of its JSON.

    Raises:
        PolicyInvalid: it is not JSON; else as `read`.
    """
    try:
        return read(msgspec.json.decode(text))
    except msgspec.DecodeError as error:
        raise PolicyInvalid(f"The policy is not JSON: {error}.") from error


def written(document: Document) -> dict[str, object]:
    """The JSON of a document, as objects of Python."""
    return msgspec.to_builtins(document)
