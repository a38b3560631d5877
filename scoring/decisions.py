"""Turns a score into a decision. Pure: no database, no clock, no settings."""

from dataclasses import dataclass

from django.db.models import TextChoices


class Decision(TextChoices):
    APPROVE = "approve", "Approve"
    REVIEW = "review", "Review"
    BLOCK = "block", "Block"


@dataclass(frozen=True)
class Policy:
    """Thresholds on the score, both inclusive; without a `block_threshold` nothing is blocked."""

    review_threshold: float
    block_threshold: float | None = None

    def decide(self, fraud_score: float) -> Decision:
        """Decide on a score in [0, 1].

        >>> Policy(review_threshold=0.5, block_threshold=0.9).decide(0.5)
        Decision.REVIEW
        """
        if self.block_threshold is not None and fraud_score >= self.block_threshold:
            return Decision.BLOCK
        return Decision.REVIEW if fraud_score >= self.review_threshold else Decision.APPROVE


@dataclass(frozen=True)
class FallbackRules:
    """The rules of a fallback, while no model can score: large amounts are reviewed, and nothing is blocked."""

    review_amount: float

    def decide(self, amount: float) -> Decision:
        """Decide on an amount, in the schema's currency.

        >>> FallbackRules(review_amount=100).decide(100)
        Decision.REVIEW
        """
        return Decision.REVIEW if amount >= self.review_amount else Decision.APPROVE
