"""Transactions that are stored first and scored later: those sent with `respond-async`, and fallbacks."""

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet

from scoring.decisions import Decision, FallbackRules
from scoring.lists import lookup
from scoring.messages import request_ids as names
from scoring.messages.answers import Answer
from scoring.messages.replies import Kind, Outcome, Stages
from scoring.messages.submission import Submission
from scoring.models import Fallback, Label, Pending, Transaction
from scoring.policies.expressions import Case
from scoring.worker import scorer, storage
from scoring.worker.declared import declaration_of
from scoring.worker.known import known_outcomes
from scoring.worker.predictor import Predictor
from scoring.worker.rows import insert_new, tokens_of, transaction_of
from scoring.worker.storage import BatchContext
from training import clock

FAULT_LENGTH = 200


class _Unscorable(Exception):
    """The database transaction was rolled back: the model has no finite score for these."""

    def __init__(self, keys: Sequence[UUID]) -> None:
        super().__init__()
        self.keys = keys


def accept(*, submission: Submission) -> Outcome:
    """Store a transaction, to be scored later. Its outcome is pending, or that of the stored transaction if known."""
    return _keep(submission) or known_outcomes([submission])[submission.id]


def fall_back(*, submission: Submission, reason: str) -> Outcome:
    """Decide by lists, or else by an amount, without a score, and store the answer; the score follows when workers
    return. Rules of the policy are not asked, as nearly all need what only a worker computes.

    If a worker has stored the transaction a moment earlier, the worker's answer holds.
    """
    now = clock.now()
    amount = declaration_of(submission).amount_of(submission.features)
    with transaction.atomic():
        if _keep(submission) is None:
            return known_outcomes([submission])[submission.id]
        on = lookup.hits(transaction_of(submission))
        by_amount = FallbackRules(settings.FALLBACK_REVIEW_AMOUNT).decide(amount)
        fallback = Fallback.objects.create(
            transaction_id=UUID(submission.id),
            decision=Decision.strictest(hit.action for hit in on) if on else by_amount,
            lists=[hit.list for hit in on],
            reason=reason,
            latency_ms=round(max(0.0, (now.timestamp() - submission.received_at) * 1000), 3),
            created_at=now,
        )
    # Read it back, so that the answer has the database's times and numbers, as a repeated answer will.
    stored = Fallback.objects.select_related("transaction").get(pk=fallback.pk)
    return Outcome(Kind.SCORED, Answer.of_fallback(stored).to_json())


@transaction.atomic
def _keep(submission: Submission) -> Outcome | None:
    """Store a transaction that waits for its score. None if its id is known already."""
    if not insert_new([transaction_of(submission)]):
        return None
    due_at = clock.now() + timedelta(seconds=settings.PENDING_RETRY_S)
    Pending.objects.create(transaction_id=UUID(submission.id), due_at=due_at, request_id=submission.request_id)
    return Outcome(Kind.PENDING, submission.id.encode())


def by_schema(transactions: Sequence[UUID]) -> dict[str, list[UUID]]:
    """The transactions that wait for their score and are not set aside, by schema."""
    found: dict[str, list[UUID]] = {}
    waiting = Transaction.objects.filter(
        pending__in=transactions, pending__attempts__lt=settings.PENDING_ATTEMPTS_LIMIT
    )
    for key, schema in waiting.order_by("schema", "received_at").values_list("pk", "schema"):
        found.setdefault(schema, []).append(key)
    return found


def request_ids(transactions: Sequence[UUID]) -> dict[UUID, str]:
    """The ids of the requests that pending transactions came with, by transaction."""
    rows = Pending.objects.filter(pk__in=transactions).values_list("pk", "request_id", "transaction__trace_id")
    return {key: names.name_of(request_id, trace.hex if trace else "") for key, request_id, trace in rows}


def suspects(transactions: Sequence[UUID]) -> set[UUID]:
    """The transactions that a worker began to score and has not finished."""
    return set(Pending.objects.filter(pk__in=transactions, suspect=True).values_list("pk", flat=True))


def claim_due(*, limit: int) -> list[UUID]:
    """Claim the pending transactions that are due. Each becomes due again, after a longer wait each time."""
    claimed = []
    now = clock.now()
    due = Pending.objects.filter(due_at__lte=now, attempts__lt=settings.PENDING_ATTEMPTS_LIMIT).order_by("due_at")
    for pending in due[:limit]:
        wait_s = settings.PENDING_RETRY_S * 2 ** min(pending.sent, 20)
        wait = timedelta(seconds=min(wait_s, max(settings.PENDING_WAIT_LIMIT_S, settings.PENDING_RETRY_S)))
        # A conditional update: another reconciler may run on another machine, and the first to update the row gets it.
        mine = Pending.objects.filter(pk=pending.pk, due_at=pending.due_at)
        if mine.update(due_at=now + wait, sent=F("sent") + 1):
            claimed.append(pending.pk)
    return claimed


def begin(keys: Sequence[UUID], suspects: set[UUID]) -> list[list[UUID]]:
    """Mark the transactions as suspect, before they are scored. Returns the parts to score: the new ones together, and
    each suspect alone."""
    rest = [key for key in keys if key not in suspects]
    Pending.objects.filter(pk__in=rest).update(suspect=True)
    return [*([rest] if rest else []), *([key] for key in keys if key in suspects)]


def count_attempt(key: UUID) -> None:
    """Count an attempt before a suspect is scored alone, so that it counts even if it kills the worker."""
    waiting = Pending.objects.filter(pk=key, attempts__lt=settings.PENDING_ATTEMPTS_LIMIT)
    waiting.update(attempts=F("attempts") + 1, fault="The worker was lost while it scored this transaction.")


def postpone(keys: Sequence[UUID], fault: str, *, counted: bool) -> None:
    """Let them wait after a failure that they did not cause. An attempt that was `counted` is subtracted again."""
    waiting = Pending.objects.filter(pk__in=keys)
    if counted:
        waiting.filter(attempts__gt=0).update(attempts=F("attempts") - 1)
    waiting.update(suspect=False, fault=fault[:FAULT_LENGTH])


def record_fault(keys: Sequence[UUID], fault: str) -> None:
    Pending.objects.filter(pk__in=keys).update(fault=fault[:FAULT_LENGTH])


def retry(pending: QuerySet[Pending]) -> int:
    """Have the reconciler send these at its next run, set aside or not. Returns how many.

    Suspects stay suspect: they are scored alone."""
    return pending.update(attempts=0, sent=0, fault="", due_at=clock.now())


def score(*, transaction_ids: Iterable[UUID], predictor: Predictor) -> int:
    """Score pending transactions. Returns how many were scored; those that have a score already are skipped.

    A row that the model cannot score is set aside with its fault, and the others are scored.

    Raises:
        StaleHistory: nothing was scored; the schema's histories have to be rebuilt.
    """
    started_at = clock.seconds()
    waiting = Pending.objects.select_related("transaction__fallback").order_by("transaction__received_at")
    waiting = waiting.filter(pk__in=transaction_ids, transaction__schema=predictor.schema.name)
    while True:
        try:
            with nullcontext() if predictor.schema.is_plain else transaction.atomic():
                return _score_waiting(waiting, predictor, started_at)
        except _Unscorable as unscorable:
            Pending.objects.filter(pk__in=unscorable.keys).update(
                attempts=settings.PENDING_ATTEMPTS_LIMIT, fault="The model has no finite score for these values."
            )
            waiting = waiting.exclude(pk__in=unscorable.keys)


def _score_waiting(waiting: QuerySet[Pending], predictor: Predictor, started_at: float) -> int:
    schema, stages = predictor.schema, Stages()
    rows = [pending.transaction for pending in waiting.all()]
    locked = None
    if rows and not schema.is_plain:
        from scoring.worker import histories

        # A label that is written meanwhile waits for this, finds the sequence, and goes to the histories itself.
        list(Transaction.objects.select_for_update().filter(pk__in=[row.pk for row in rows]).order_by("pk"))
        locked = histories.lock(schema, [tokens_of(schema, row) for row in rows])
        # Read again under the locks: another worker may have scored some of them.
        rows = [pending.transaction for pending in waiting.all()]
    if not rows:
        return 0
    began = time.perf_counter()
    cases = [
        Case(
            [row.fields.get(name) for name in schema.feature_names],
            tokens_of(schema, row),
            row.event_time.timestamp(),
            str(row.pk),
            client=row.client_id,
        )
        for row in rows
    ]
    given = schema.encode([case.values for case in cases])
    derived = scorer.nothing_derived(len(rows))
    if locked:
        sequences, derived = locked.transactions_arrive(
            [row.event_time.timestamp() for row in rows],
            [row.amount for row in rows],
            [case.tokens for case in cases],
            given,
        )
        for row, sequence in zip(rows, sequences, strict=True):
            row.sequence = sequence
    stages.features_s += time.perf_counter() - began
    scored = scorer.score(
        predictor, cases, given, derived, stages, [(row.pending.request_id, str(row.pk)) for row in rows]
    )
    if unscorable := [
        row.pk for row, result in zip(rows, scored, strict=True) if not math.isfinite(result.fraud_score)
    ]:
        raise _Unscorable(unscorable)
    labels = []
    if locked:
        labels = _latest_labels(rows)
        arrived = locked.labels_arrive([label.transaction for label in labels], [label.verdict for label in labels])
        for label, sequence in zip(labels, arrived, strict=True):
            label.sequence = sequence
    context = BatchContext.of(predictor, stages, started_at)
    done = storage.store_waiting(list(zip(rows, scored, strict=True)), context, locked.changed() if locked else None)
    Label.objects.bulk_update(labels, ["sequence"])
    return done


def _latest_labels(rows: Sequence[Transaction]) -> list[Label]:
    """The labels that were written while these transactions waited: of each the latest,
    which has the verdict."""
    by_key = {row.pk: row for row in rows}
    latest = {
        label.transaction_id: label for label in Label.objects.filter(transaction__in=rows).order_by("created_at", "pk")
    }
    for key, label in latest.items():
        label.transaction = by_key[key]
    return list(latest.values())
