"""Turns a score into a decision. Pure: no database, no clock, no settings."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from django.db.models import TextChoices


class Decision(TextChoices):
    """What was answered, from the mildest to the strictest. `CHALLENGE` asks the customer to step up, for instance with
    3-D Secure."""

    APPROVE = "approve", "Approve"
    CHALLENGE = "challenge", "Challenge"
    REVIEW = "review", "Review"
    BLOCK = "block", "Block"

    @classmethod
    def strictest(cls, decisions: "Iterable[Decision]") -> "Decision":
        """The strictest of one or more decisions.

        >>> Decision.strictest([Decision.APPROVE, Decision.BLOCK, Decision.REVIEW])
        Decision.BLOCK
        """
        order = list(cls)
        return max(decisions, key=lambda decision: order.index(decision))


# The decisions that put a transaction before an analyst.
ALERTS = frozenset({Decision.REVIEW, Decision.BLOCK})


@dataclass(frozen=True)
class Thresholds:
    """Thresholds on the score, all inclusive. Without a `block` threshold nothing is blocked, without a `challenge`
    threshold nobody is challenged."""

    review: float
    block: float | None = None
    challenge: float | None = None

    @property
    def mildest(self) -> float:
        """The lowest threshold: all scores below have the same decision.

        >>> Thresholds(review=0.5, challenge=0.2).mildest
        0.2
        """
        return min(each for each in (self.review, self.block, self.challenge) if each is not None)

    def decide(self, fraud_score: float) -> Decision:
        """Decide on a score in [0, 1].

        >>> Thresholds(review=0.5, block=0.9).decide(0.5)
        Decision.REVIEW
        """
        if self.block is not None and fraud_score >= self.block:
            return Decision.BLOCK
        if fraud_score >= self.review:
            return Decision.REVIEW
        if self.challenge is not None and fraud_score >= self.challenge:
            return Decision.CHALLENGE
        return Decision.APPROVE

    def times(self, factor: float) -> Self:
        """These thresholds with their odds multiplied by a positive factor: below 1, more transactions are alerts.

        >>> Thresholds(review=0.5).times(0.5).review
        0.3333333333333333
        """
        review = _times(self.review, factor)
        block = None if self.block is None else max(review, _times(self.block, factor))
        return replace(
            self,
            review=review,
            block=block,
            challenge=None if self.challenge is None else _times(self.challenge, factor),
        )


def _times(threshold: float, factor: float) -> float:
    return threshold * factor / (1 - threshold + threshold * factor)


@dataclass(frozen=True)
class FallbackRules:
    """The rules of a fallback, while no model can score and no list decides: large amounts are reviewed."""

    review_amount: float

    def decide(self, amount: float) -> Decision:
        """Decide on an amount, in the schema's currency.

        >>> FallbackRules(review_amount=100).decide(100)
        Decision.REVIEW
        """
        return Decision.REVIEW if amount >= self.review_amount else Decision.APPROVE
