from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from scoring.models import Client, Fallback, Pending, Review, Transaction
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


def newest_opening() -> datetime:
    """When the newest of the open reviews was opened; now, if none is. The clock is that of the workers."""
    newest = Review.objects.filter(state=Review.State.OPEN).order_by("-opened_at").values_list("opened_at", flat=True)
    return newest.first() or timezone.now()


def pending_by_schema(transactions: Sequence[UUID]) -> dict[str, list[UUID]]:
    """Those of these transactions that wait for their score and are not set aside, by schema."""
    found: dict[str, list[UUID]] = {}
    waiting = Transaction.objects.filter(
        pending__in=transactions, pending__attempts__lt=settings.PENDING_ATTEMPTS_LIMIT
    )
    for key, schema in waiting.order_by("schema", "received_at").values_list("pk", "schema"):
        found.setdefault(schema, []).append(key)
    return found


def request_ids_of(transactions: Sequence[UUID]) -> dict[UUID, str]:
    """The ids of the requests that pending transactions came with, by transaction."""
    return dict(Pending.objects.filter(pk__in=transactions).values_list("pk", "request_id"))


def suspects(transactions: Sequence[UUID]) -> set[UUID]:
    """Those that a worker began to score and has not come back from."""
    return set(Pending.objects.filter(pk__in=transactions, suspect=True).values_list("pk", flat=True))


def known_outcomes(submissions: Sequence[Submission]) -> dict[str, Outcome]:
    """What became of those submissions whose id, ours or the client's, is stored already; by the submission's id."""
    if not submissions:
        return {}
    named = [submission for submission in submissions if submission.transaction_id is not None]
    condition = Q(pk__in=[submission.id for submission in submissions]) | Q(
        client__in={submission.client_id for submission in named},
        transaction_id__in=[submission.transaction_id for submission in named],
    )
    stored: dict[tuple[int, str] | str, Transaction] = {}
    for row in _answered().filter(condition):
        stored[str(row.pk)] = row
        if row.transaction_id is not None:
            stored[row.client_id, row.transaction_id] = row
    outcomes = {}
    for submission in submissions:
        twin = stored.get(submission.id)
        if twin is None and submission.transaction_id is not None:
            twin = stored.get((submission.client_id, submission.transaction_id))
        if twin is not None:
            outcomes[submission.id] = _outcome(submission, twin)
    return outcomes


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


def _outcome(submission: Submission, row: Transaction) -> Outcome:
    if row.body_sha256 != submission.body_sha256:
        return Outcome(Kind.CONFLICT)
    told = answer(row)
    if told is None:
        return Outcome(Kind.PENDING, str(row.pk).encode())
    # A message that was delivered twice is no repeat of the client's.
    return Outcome(Kind.SCORED if str(row.pk) == submission.id else Kind.REPLAYED, told.to_json())
