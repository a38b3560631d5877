"""What the events of transactions and their reviews say: ids, decisions, scores and codes, and no personal values."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from scoring.messages.answers import Reason
from scoring.models import Prediction, Review, Transaction
from scoring.webhooks.events import Event
from scoring.webhooks.types import EventType


def alert_opened(
    *,
    transaction: UUID | str,
    client: int,
    transaction_id: str | None,
    schema: str,
    decision: str,
    fraud_score: float,
    reasons: Sequence[Reason],
    rules: Sequence[str],
    at: datetime,
) -> Event:
    """An alert was put before the analysts. The codes of reasons are names of features and of rules."""
    data = {
        "id": str(transaction),
        "transaction_id": transaction_id,
        "schema": schema,
        "decision": decision,
        "fraud_score": fraud_score,
        "reason_codes": [*(reason["feature"] for reason in reasons), *rules],
    }
    return Event(EventType.ALERT_OPENED.value, str(transaction), data, client, schema, at)


def alert_of(review: Review, prediction: Prediction) -> Event:
    """The event of a review that is opened now."""
    return alert_opened(
        transaction=review.pk,
        client=review.client_id,  # type: ignore[arg-type]  # which every new review has
        transaction_id=prediction.transaction.transaction_id,
        schema=review.schema,
        decision=review.decision,
        fraud_score=review.fraud_score,
        reasons=prediction.reasons,
        rules=review.rules.split(),
        at=review.opened_at,
    )


def rescored(prediction: Prediction, answered: str) -> Event:
    """The score came to another decision than the one that the client heard without it."""
    row = prediction.transaction
    data = _changed(row, cause="scored", before=answered, after=str(prediction.decision))
    return _of(EventType.DECISION_CHANGED, row, data | {"fraud_score": prediction.fraud_score})


def review_moved(key: UUID, *, before: str, after: str, cause: str, code: str = "") -> list[Event]:
    """What to tell of a review whose state changes: it is decided, or what was told of it holds no longer. `cause` is
    what did it, and `code` that of the analyst's reason. Nothing, if the state stays as it is."""
    if before == after:
        return []
    review = Review.objects.select_related("prediction__transaction").get(pk=key)
    row = review.prediction.transaction
    if before == Review.State.OPEN:
        data = {
            "id": str(row.pk),
            "transaction_id": row.transaction_id,
            "schema": row.schema,
            "decision": review.decision or review.prediction.decision,
            "fraud_score": review.fraud_score,
            "outcome": str(after),
            "decided_by": cause,
            "reason_code": code or None,
        }
        return [_of(EventType.REVIEW_DECIDED, row, data)]
    return [_of(EventType.DECISION_CHANGED, row, _changed(row, cause=cause, before=str(before), after=str(after)))]


def _changed(row: Transaction, *, cause: str, before: str, after: str) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "transaction_id": row.transaction_id,
        "schema": row.schema,
        "cause": cause,
        "before": before,
        "after": after,
    }


def _of(type: EventType, row: Transaction, data: dict[str, Any]) -> Event:
    return Event(type.value, str(row.pk), data, row.client_id, row.schema)
