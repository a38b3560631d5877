"""Finds transactions that are stored already, for repeated calls and redelivered messages."""

from collections.abc import Mapping, Sequence

from django.db.models import Q

from scoring.messages.answers import ANSWER_PARTS, answer_of
from scoring.messages.replies import Kind, Outcome
from scoring.messages.submission import Submission
from scoring.models import Transaction
from scoring.worker.declared import declaration_of
from scoring.worker.rows import tokens_by_name
from training.core.schema.values import Value


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
    if row.body_sha256 != submission.body_sha256 and not _has_same_content(submission, row):
        return Outcome(Kind.CONFLICT)
    answer = answer_of(row)
    if answer is None:
        return Outcome(Kind.PENDING, str(row.pk).encode())
    # With the same id of ours it is a message that was delivered twice, not a repeated call of the client.
    return Outcome(Kind.SCORED if str(row.pk) == submission.id else Kind.REPEATED, answer.to_json())


def _has_same_content(submission: Submission, row: Transaction) -> bool:
    """Whether the bodies are the same but for declarations: the schema may have got another field meanwhile."""
    declared = declaration_of(submission)
    values = dict(zip(declared.feature_names, submission.features, strict=True))
    tokens, stored = tokens_by_name(declared, submission.tokens) or {}, row.tokens or {}
    was_sent, is_sent = row.event_time != row.received_at, submission.event_time != submission.received_at
    return (
        row.schema == submission.schema
        and _present(values) == _present(row.fields)
        and all(tokens[name] == stored[name] for name in tokens.keys() & stored.keys())
        and (was_sent, row.event_time.timestamp() if was_sent else None)
        == (is_sent, submission.event_time if is_sent else None)
    )


def _present(values: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None}
