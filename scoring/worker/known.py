"""Finds transactions that are stored already, for repeated calls and redelivered messages."""

from collections.abc import Sequence

from django.db.models import Q

from scoring.messages.answers import ANSWER_PARTS, answer_of
from scoring.messages.replies import Kind, Outcome
from scoring.messages.submission import Submission
from scoring.models import Transaction


def known_outcomes(submissions: Sequence[Submission]) -> dict[str, Outcome]:
    """The outcomes of submissions whose id, Fraudsite's or the client's, is stored already; by the submission's id."""
    if not submissions:
        return {}
    named = [submission for submission in submissions if submission.transaction_id is not None]
    condition = Q(pk__in=[submission.id for submission in submissions]) | Q(
        client__in={submission.client_id for submission in named},
        transaction_id__in=[submission.transaction_id for submission in named],
    )
    stored: dict[tuple[int, str] | str, Transaction] = {}
    for row in Transaction.objects.select_related(*ANSWER_PARTS).filter(condition):
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


def _outcome(submission: Submission, row: Transaction) -> Outcome:
    if row.body_sha256 != submission.body_sha256:
        return Outcome(Kind.CONFLICT)
    answer = answer_of(row)
    if answer is None:
        return Outcome(Kind.PENDING, str(row.pk).encode())
    # With the same id of ours it is a message that was delivered twice, not a repeated call of the client.
    return Outcome(Kind.SCORED if str(row.pk) == submission.id else Kind.REPEATED, answer.to_json())
