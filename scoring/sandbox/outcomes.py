"""The values that choose the answer to a call with a key for tests."""

from enum import StrEnum
from typing import Any

from training.core.schema import Schema

PREFIX = "test-"


class Outcome(StrEnum):
    """What a payments system has to cope with."""

    APPROVE = "approve"
    CHALLENGE = "challenge"
    REVIEW = "review"
    BLOCK = "block"
    DEGRADED = "degraded"  # a decision without a score
    REFUSED = "refused"  # 503, however often it is sent
    REFUSED_ONCE = "refused-once"  # 503, and when it is sent again an approval
    SLOW = "slow"  # an approval just before the deadline


# For schemas without entities, and for systems that cannot choose their card tokens.
AMOUNTS = {1.01 + index / 100: outcome for index, outcome in enumerate(Outcome)}


def outcome_of(schema: Schema, body: dict[str, Any]) -> Outcome:
    """What a valid body asks for, by the identifier of an entity, such as the card `test-block`, or by its amount.
    Others ask for an approval."""
    for name in schema.identifier_names:
        value = body.get(name)
        if isinstance(value, str) and value.startswith(PREFIX) and value.removeprefix(PREFIX) in list(Outcome):
            return Outcome(value.removeprefix(PREFIX))
    amount = body.get(schema.amount)
    if isinstance(amount, int | float):
        return AMOUNTS.get(round(amount, 2) if abs(amount) < 10 else amount, Outcome.APPROVE)
    return Outcome.APPROVE
