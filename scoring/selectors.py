from collections.abc import Sequence
from uuid import UUID

import msgspec
from django.db.models import Q, QuerySet

from scoring.models import Client, Fallback, Review, Transaction
from scoring.replies import Kind, Outcome
from scoring.serializers import Answer
from scoring.submissions import Submission


def transactions_of(client: Client) -> QuerySet[Transaction]:
    """What a client may see: its own, with what was answered. Anything else looks as if it did not exist."""
    return _answered().filter(client=client)


def fallback(transaction: UUID) -> Fallback:
    return Fallback.objects.select_related("transaction").get(pk=transaction)


def open_reviews(limit: int) -> int:
    """How many reviews are open, counted up to `limit`."""
    return Review.objects.filter(state=Review.State.OPEN)[:limit].count()


def known_outcomes(submissions: Sequence[Submission]) -> dict[str, Outcome]:
    """What became of submissions whose id, ours or the client's, is stored already; by the submission's id."""
    if not submissions:
        return {}
    condition = Q()
    for submission in submissions:
        condition |= Q(pk=submission.id)
        if submission.transaction_id is not None:
            condition |= Q(client=submission.client_id, transaction_id=submission.transaction_id)
    stored: dict[tuple[int, str] | str, Transaction] = {}
    for row in _answered().filter(condition):
        stored[str(row.pk)] = row
        if row.transaction_id is not None:
            stored[row.client_id, row.transaction_id] = row
    return {submission.id: _outcome(submission, stored) for submission in submissions}


def answer(row: Transaction) -> Answer | None:
    """What the client was told; None while its transaction waits for a score."""
    if hasattr(row, "fallback"):
        return Answer.of_fallback(row.fallback)
    return Answer.of(row.prediction) if hasattr(row, "prediction") else None


def told(row: Transaction) -> bytes | None:
    """The answer as JSON, and of a degraded one what the model said of it since; None while there is no answer."""
    given = answer(row)
    if given and hasattr(row, "fallback") and hasattr(row, "prediction"):
        return msgspec.json.encode(msgspec.structs.asdict(given) | {"rescored": Answer.of(row.prediction)})
    return given.to_json() if given else None


def _answered() -> QuerySet[Transaction]:
    return Transaction.objects.select_related("prediction", "fallback", "pending")


def _outcome(submission: Submission, stored: dict[tuple[int, str] | str, Transaction]) -> Outcome:
    row = stored.get(submission.id)
    if row is None and submission.transaction_id is not None:
        row = stored[submission.client_id, submission.transaction_id]
    assert row is not None, "a row that did not land has a stored twin"  # noqa: S101
    if row.body_sha256 != submission.body_sha256:
        return Outcome(Kind.CONFLICT)
    told = answer(row)
    if told is None:
        return Outcome(Kind.PENDING, str(row.pk).encode())
    # A message that was delivered twice is no repeat of the client's.
    return Outcome(Kind.SCORED if str(row.pk) == submission.id else Kind.REPLAYED, told.to_json())
