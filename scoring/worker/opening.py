"""What a review copies of its transaction and prediction when it is opened.

The list of reviews is filtered, sorted and counted by these copies alone: a join of 100,000 open reviews with the
tables of all transactions and predictions would take a second.
"""

from collections.abc import Sequence

from scoring import served
from scoring.decisions import Decision
from scoring.models import Prediction, Review
from scoring.policies import evidence


def review_of(prediction: Prediction, *, answered: str | None = None) -> Review:
    """A new review of a prediction, whose transaction is loaded. `answered` is the decision that the client heard, if
    it is not that of the prediction."""
    row = prediction.transaction
    return Review(
        prediction=prediction,
        fraud_score=prediction.fraud_score,
        expected_loss=prediction.fraud_score * row.amount,
        client_id=row.client_id,
        schema=row.schema,
        amount=row.amount,
        decision=Decision(answered or prediction.decision),
        reason=prediction.reasons[0]["feature"] if prediction.reasons else "",
        rules=joined(evidence.read(prediction.evidence).active_rules),
        card=_card(row.schema, row.tokens or {}),
        opened_at=prediction.created_at,
    )


def joined(rules: Sequence[str]) -> str:
    """Names of rules as a review stores them, in one text that every database can search: each between spaces."""
    return f" {' '.join(rules)} " if rules else ""


def part_of(rule: str) -> str:
    """The part of that text which says that a rule fired."""
    return f" {rule} "


def _card(schema: str, tokens: dict[str, str]) -> str:
    declared = served.now().schemas.get(schema)
    return tokens.get(declared.card, "") if declared else ""
