"""Every write of the scoring app, but for labels: those are in `scoring.labelling`."""

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from itertools import compress
from uuid import UUID

import numpy as np
from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from scoring import selectors, storage
from scoring.decisions import FallbackRules
from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey, Client, Decision, Fallback, Pending, Prediction, Review, Transaction
from scoring.predictor import Predictor
from scoring.replies import Kind, Outcome, Stages
from scoring.serializers import Answer
from scoring.storage import Circumstances, Scored
from scoring.submissions import Submission
from training.schema import load_schema

ACTIVE_KEYS_LIMIT = 2
FAULT_LENGTH = 200


class _OnceMore(Exception):
    """Nothing is stored, and the batch has to be taken once more: without the ids that the model cannot score."""

    def __init__(self, unscorable: Sequence[UUID] = ()) -> None:
        super().__init__()
        self.unscorable = unscorable


def score_batch(
    *, submissions: Sequence[Submission], predictor: Predictor, started_at: float
) -> tuple[list[Outcome], Stages]:
    """Score and store a batch of one schema: one model call, one database transaction.

    `started_at`, in seconds since the epoch, is when the worker took the batch. What nobody waits for any more is left
    out, and so is what the model has no finite score for. Returns an outcome per submission, in order.

    Raises:
        django.db.DatabaseError: nothing was stored.
        StaleHistory: likewise; the schema's histories have to be rebuilt.
    """
    outcomes: dict[str, Outcome] = {
        submission.id: Outcome(Kind.EXPIRED) for submission in submissions if submission.deadline <= started_at
    }
    live = [submission for submission in submissions if submission.id not in outcomes]
    stages = Stages()
    began = time.perf_counter()
    if live and predictor.schema.is_plain:
        outcomes |= _score_plain(live, predictor, started_at, stages)
    elif live:
        outcomes |= _score_with_histories(live, predictor, started_at, stages)
    stages.storage_s = time.perf_counter() - began - stages.features_s - stages.model_s
    return [outcomes[submission.id] for submission in submissions], stages


def _score_plain(
    live: Sequence[Submission], predictor: Predictor, started_at: float, stages: Stages
) -> dict[str, Outcome]:
    began = time.perf_counter()
    features = np.array([submission.features for submission in live], dtype=np.float32)
    stages.features_s = time.perf_counter() - began
    batch, unscorable = _judge(live, features, predictor, started_at, stages)
    outcomes = {submission.id: Outcome(Kind.UNSCORABLE) for submission in unscorable}
    if batch:
        now = timezone.now()
        landed = storage.store(batch, _circumstances(predictor, stages, now))
        outcomes |= selectors.known_outcomes(
            [scored.submission for scored in batch if scored.submission.id not in landed]
        )
        outcomes |= _answers([scored for scored in batch if scored.submission.id in landed], predictor, now)
    return outcomes


def _score_with_histories(
    live: Sequence[Submission], predictor: Predictor, started_at: float, stages: Stages
) -> dict[str, Outcome]:
    """As above, where the histories of entities take part: what they have seen and what is stored must be the same."""
    outcomes: dict[str, Outcome] = {}
    all_new = True  # most batches are, and looking costs as much as storing
    while True:  # after the first, each round knows or has refused at least one more than the last: there is an end
        try:
            with transaction.atomic():
                return outcomes | _score_under_lock(live, predictor, started_at, stages, all_new=all_new)
        except _OnceMore as again:
            all_new = False
            outcomes |= {str(key): Outcome(Kind.UNSCORABLE) for key in again.unscorable}
            live = [submission for submission in live if submission.id not in outcomes]


def _score_under_lock(
    live: Sequence[Submission], predictor: Predictor, started_at: float, stages: Stages, *, all_new: bool
) -> dict[str, Outcome]:
    from scoring import histories
    from training.features.replay import model_inputs

    schema = predictor.schema
    locked = histories.lock(schema, [submission.tokens for submission in live])
    # Only now: whoever stored a copy of one of these held the same locks, and has committed.
    outcomes = {} if all_new else selectors.known_outcomes(live)
    new = _first_copies(submission for submission in live if submission.id not in outcomes)
    waited = time.perf_counter()
    if new:
        given = np.array([submission.features for submission in new], np.float64)
        sequences, derived = locked.transactions_arrive(
            [submission.event_time for submission in new],
            given[:, schema.feature_names.index(schema.amount)].tolist(),
            [submission.tokens for submission in new],
        )
        inputs = model_inputs(schema, given, derived).astype(np.float32)
        stages.features_s = time.perf_counter() - waited
        batch, unscorable = _judge(new, inputs, predictor, started_at, stages)
        if unscorable:  # what is not stored must not have been seen either
            raise _OnceMore([UUID(submission.id) for submission in unscorable])
        now = timezone.now()
        for scored, sequence, values in zip(batch, sequences, derived.tolist(), strict=True):
            scored.sequence, scored.derived = sequence, values
        landed = storage.store(batch, _circumstances(predictor, stages, now), locked.changed())
        if len(landed) < len(batch):  # some were known, or came with other entities in a parallel batch
            raise _OnceMore
        outcomes |= _answers(batch, predictor, now)
    return outcomes | selectors.known_outcomes([submission for submission in live if submission.id not in outcomes])


def _first_copies(submissions: Iterable[Submission]) -> list[Submission]:
    """Of submissions with the same id, ours or the client's, the first."""
    first: dict[object, Submission] = {}
    for submission in submissions:
        named = (submission.client_id, submission.transaction_id)
        first.setdefault(submission.id if submission.transaction_id is None else named, submission)
    return list(first.values())


def _judge(
    live: Sequence[Submission], features: np.ndarray, predictor: Predictor, started_at: float, stages: Stages
) -> tuple[list[Scored], list[Submission]]:
    """What the model and the policy say of each; and those that the model has no finite score for."""
    began = time.perf_counter()
    scores = predictor.score(features)
    finite = np.isfinite(scores)
    unscorable: list[Submission] = []
    if not finite.all():
        unscorable = list(compress(live, ~finite))
        live, features, scores = list(compress(live, finite)), features[finite], scores[finite]
    decisions = [predictor.policy.decide(score) for score in scores.tolist()]
    alerts = [index for index, decision in enumerate(decisions) if decision != Decision.APPROVE]
    reasons = dict(zip(alerts, predictor.reasons(features[alerts]), strict=True)) if alerts else {}
    stages.model_s = time.perf_counter() - began
    now = time.time()
    amount = predictor.schema.feature_names.index(predictor.schema.amount)
    batch = [
        Scored(
            submission=submission,
            amount=submission.features[amount],
            fraud_score=score,
            decision=decision,
            reasons=reasons.get(index, []),
            latency_ms=round(max(0.0, (now - submission.received_at) * 1000), 3),
            queue_ms=max(0.0, (started_at - submission.received_at) * 1000),
        )
        for index, (submission, score, decision) in enumerate(zip(live, scores.tolist(), decisions, strict=True))
    ]
    return batch, unscorable


def _circumstances(predictor: Predictor, stages: Stages, now: datetime) -> Circumstances:
    return Circumstances(
        schema=predictor.schema,
        model_version=predictor.version.pk,
        threshold=predictor.policy.review_threshold,
        features_ms=stages.features_s * 1000,
        model_ms=stages.model_s * 1000,
        created_at=now,
    )


def _answers(batch: Sequence[Scored], predictor: Predictor, now: datetime) -> dict[str, Outcome]:
    said_at, version = now.isoformat(), predictor.version.pk
    return {
        scored.submission.id: Outcome(Kind.SCORED, _answer(scored, version, predictor, said_at).to_json())
        for scored in batch
    }


def _answer(scored: Scored, version: str, predictor: Predictor, said_at: str) -> Answer:
    is_alert = scored.decision != Decision.APPROVE
    return Answer(
        id=scored.submission.id,
        transaction_id=scored.submission.transaction_id,
        fraud_score=scored.fraud_score,
        is_fraud=is_alert,
        alert=is_alert,
        decision=scored.decision,
        reasons=scored.reasons,
        threshold=predictor.policy.review_threshold,
        model_version=version,
        latency_ms=scored.latency_ms,
        created_at=said_at,
    )


def accept(*, submission: Submission) -> Outcome:
    """Store a transaction now, to be scored later. Its outcome is pending, or what is known of it already."""
    return _keep(submission) or selectors.known_outcomes([submission])[submission.id]


def fall_back(*, submission: Submission, reason: str) -> Outcome:
    """Decide by rules, without a score, and store the answer; the score follows when workers return.

    When a worker stored the transaction a moment earlier after all, its answer stands.
    """
    schema = load_schema(submission.schema)
    amount = submission.features[schema.feature_names.index(schema.amount)]
    now = timezone.now()
    with transaction.atomic():
        if _keep(submission) is None:
            return selectors.known_outcomes([submission])[submission.id]
        fallback = Fallback.objects.create(
            transaction_id=UUID(submission.id),
            decision=FallbackRules(settings.FALLBACK_REVIEW_AMOUNT).decide(amount),
            reason=reason,
            latency_ms=round(max(0.0, (now.timestamp() - submission.received_at) * 1000), 3),
            created_at=now,
        )
    # As it will be read again, with the times and numbers of the database.
    return Outcome(Kind.SCORED, Answer.of_fallback(selectors.fallback(fallback.pk)).to_json())


@transaction.atomic
def _keep(submission: Submission) -> Outcome | None:
    """Store a transaction that waits for its score. None when it is known already."""
    schema = load_schema(submission.schema)
    amount = submission.features[schema.feature_names.index(schema.amount)]
    if not storage.insert_new([storage.transaction_of(submission, schema, amount)]):
        return None
    due_at = timezone.now() + timedelta(seconds=settings.PENDING_RETRY_S)
    Pending.objects.create(transaction_id=UUID(submission.id), due_at=due_at)
    return Outcome(Kind.PENDING, submission.id.encode())


def claim_due(*, limit: int) -> list[UUID]:
    """Claim pending transactions whose time has come; each is due again, later each time, should this try be lost."""
    claimed = []
    now = timezone.now()
    due = Pending.objects.filter(due_at__lte=now, attempts__lt=settings.PENDING_ATTEMPTS_LIMIT).order_by("due_at")
    for pending in due[:limit]:
        wait_s = settings.PENDING_RETRY_S * 2 ** min(pending.sent, 20)
        wait = timedelta(seconds=min(wait_s, max(settings.PENDING_WAIT_LIMIT_S, settings.PENDING_RETRY_S)))
        # Whoever changes the row first has it: another beat may be at work on another machine.
        mine = Pending.objects.filter(pk=pending.pk, due_at=pending.due_at)
        if mine.update(due_at=now + wait, sent=F("sent") + 1):
            claimed.append(pending.pk)
    return claimed


def begin_pending(keys: Sequence[UUID], suspects: set[UUID]) -> list[list[UUID]]:
    """Say that a worker begins with these. Returns how to score them: together what is new, and each suspect alone."""
    rest = [key for key in keys if key not in suspects]
    Pending.objects.filter(pk__in=rest).update(suspect=True)
    return [*([rest] if rest else []), *([key] for key in keys if key in suspects)]


def count_attempt(key: UUID) -> None:
    """Before a suspect is scored alone: should it take its worker along, the attempt has been counted."""
    waiting = Pending.objects.filter(pk=key, attempts__lt=settings.PENDING_ATTEMPTS_LIMIT)
    waiting.update(attempts=F("attempts") + 1, fault="The worker was lost while it scored this transaction.")


def postpone(keys: Sequence[UUID], fault: str, *, counted: bool) -> None:
    """Have them wait for what is no fault of theirs. `counted` attempts are given back."""
    waiting = Pending.objects.filter(pk__in=keys)
    if counted:
        waiting.filter(attempts__gt=0).update(attempts=F("attempts") - 1)
    waiting.update(suspect=False, fault=fault[:FAULT_LENGTH])


def tell_fault(keys: Sequence[UUID], fault: str) -> None:
    Pending.objects.filter(pk__in=keys).update(fault=fault[:FAULT_LENGTH])


def retry_pending(pending: QuerySet[Pending]) -> int:
    """Have what was set aside, or waits, be sent again at the next sweep. Returns how many.

    What is suspect stays so: it is scored alone."""
    return pending.update(attempts=0, sent=0, fault="", due_at=timezone.now())


def score_pending(*, transaction_ids: Iterable[UUID], predictor: Predictor) -> int:
    """Score stored transactions that wait for it. Returns how many are done; what was done before is left alone.

    A row that the model cannot score stays pending, with its fault, and does not keep the others from their score.

    Raises:
        StaleHistory: nothing was scored; the schema's histories have to be rebuilt.
    """
    started_at = time.time()
    waiting = Pending.objects.select_related("transaction__fallback").order_by("transaction__received_at")
    waiting = waiting.filter(pk__in=transaction_ids, transaction__schema=predictor.schema.name)
    while True:
        try:
            with nullcontext() if predictor.schema.is_plain else transaction.atomic():
                return _score_waiting(waiting, predictor, started_at)
        except _OnceMore as again:
            Pending.objects.filter(pk__in=again.unscorable).update(
                attempts=settings.PENDING_ATTEMPTS_LIMIT, fault="The model has no finite score for these values."
            )
            waiting = waiting.exclude(pk__in=again.unscorable)


def _score_waiting(waiting: QuerySet[Pending], predictor: Predictor, started_at: float) -> int:
    schema = predictor.schema
    rows = [pending.transaction for pending in waiting.all()]
    locked = None
    if rows and not schema.is_plain:
        from scoring import histories

        locked = histories.lock(schema, [histories.tokens_of(schema, row) for row in rows])
        # Another worker may have scored some of them before we had the locks.
        rows = [pending.transaction for pending in waiting.all()]
    if not rows:
        return 0
    features = np.array([[row.fields[name] for name in schema.feature_names] for row in rows], np.float64)
    derived = np.empty((len(rows), 0))
    if locked:
        from training.features.replay import model_inputs

        sequences, derived = locked.transactions_arrive(
            [row.event_time.timestamp() for row in rows],
            [row.amount for row in rows],
            [histories.tokens_of(schema, row) for row in rows],
        )
        features = model_inputs(schema, features, derived)
        for row, sequence in zip(rows, sequences, strict=True):
            row.sequence = sequence
    features = features.astype(np.float32)
    scores = predictor.score(features)
    if unscorable := [row.pk for row, score in zip(rows, scores, strict=True) if not np.isfinite(score)]:
        raise _OnceMore(unscorable)
    now = timezone.now()
    predictions, reviews = [], []
    for i, (row, score) in enumerate(zip(rows, scores.tolist(), strict=True)):
        decision = predictor.policy.decide(score)
        prediction = Prediction(
            transaction=row,
            model_version=predictor.version,
            fraud_score=score,
            decision=decision,
            threshold=predictor.policy.review_threshold,
            reasons=predictor.reasons(features[i : i + 1])[0] if decision != Decision.APPROVE else [],
            derived=storage.derived_by_name(schema, derived[i].tolist()),
            latency_ms=round(max(0.0, (now - row.received_at).total_seconds() * 1000), 3),
            queue_ms=max(0.0, (started_at - row.received_at.timestamp()) * 1000),
            created_at=now,
        )
        predictions.append(prediction)
        # A fallback that asked for a review has it with its score, whatever that is.
        if prediction.is_alert or (hasattr(row, "fallback") and row.fallback.is_alert):
            reviews.append(Review(prediction=prediction, fraud_score=score, opened_at=now))
    with transaction.atomic():
        done, _ = Pending.objects.filter(pk__in=[prediction.pk for prediction in predictions]).delete()
        if locked:
            Transaction.objects.bulk_update(rows, ["sequence"])
            storage.save_histories(locked.changed())
        Prediction.objects.bulk_create(predictions, ignore_conflicts=True)
        Review.objects.bulk_create(reviews, ignore_conflicts=True)
    return done


@transaction.atomic
def create_api_key(*, client: Client) -> tuple[ApiKey, str]:
    """Make a key. Returns the row and the key, which can be shown now and never again.

    Raises:
        TooManyKeys: the client has two active keys already.
    """
    Client.objects.select_for_update().get(pk=client.pk)
    if client.keys.filter(revoked_at=None).count() >= ACTIVE_KEYS_LIMIT:
        raise TooManyKeys
    row, key = ApiKey.draw(client)
    row.save()
    return row, key


def revoke_api_key(*, key: ApiKey) -> bool:
    """Revoke a key; it stops working within `API_KEY_CACHE_S` seconds. Returns False when it was revoked before."""
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()))
