"""What came of a transaction, in the words of the API, whichever way it came in."""

from typing import Any

from scoring.exceptions import (
    RequestRefused,
    SchemaWithoutChampion,
    ScorerUnavailable,
    TransactionConflict,
    Unscorable,
)
from scoring.messages.replies import Kind, Outcome
from scoring.models import Fallback


def refusal_of(outcome: Outcome) -> RequestRefused:
    """The refusal that an outcome without an answer amounts to."""
    match outcome.kind:
        case Kind.CONFLICT:
            return TransactionConflict()
        case Kind.UNSCORABLE:
            return Unscorable()
        case Kind.NO_CHAMPION:
            return SchemaWithoutChampion()
        case Kind.FAILED:
            return ScorerUnavailable(outcome.answer.decode(), reason=Fallback.Reason.WORKER)
    return ScorerUnavailable(reason=Fallback.Reason.DEADLINE)


def may_be_repeated(named: Any, refusal: RequestRefused) -> bool:
    """Whether an answer may show the client's id of what was refused: not one that is malformed or that may be a card
    number."""
    at_fault = {error.pointer for error in refusal.errors}
    return (
        isinstance(named, str) and len(named) <= 64 and named.isprintable() and not at_fault & {"/transaction_id", ""}
    )
