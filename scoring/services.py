"""Every write of the scoring app."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from scoring import selectors, storage
from scoring.decisions import FallbackRules
from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey, Client, Decision, Fallback, Label, Pending, Prediction, Review
from scoring.predictor import Predictor
from scoring.replies import Kind, Outcome, Stages
from scoring.serializers import Answer
from scoring.storage import Circumstances, Scored
from scoring.submissions import Submission
from training.schema import load_schema

ACTIVE_KEYS_LIMIT = 2


def score_batch(
    *, submissions: Sequence[Submission], predictor: Predictor, started_at: float
) -> tuple[list[Outcome], Stages]:
    """Score and store a batch: one model call, one database transaction.

    `started_at`, in seconds since the epoch, is when the worker took the batch. What nobody waits for any more is left
    out, and so is what the model has no finite score for. Returns an outcome per submission, in order.

    Raises:
        django.db.DatabaseError: nothing was stored.
    """
    outcomes: dict[str, Outcome] = {
        submission.id: Outcome(Kind.EXPIRED) for submission in submissions if submission.deadline <= started_at
    }
    live = [submission for submission in submissions if submission.id not in outcomes]
    began = time.perf_counter()
    features = np.array([submission.features for submission in live], dtype=np.float32)
    made = time.perf_counter()
    scores = predictor.score(features) if live else np.empty(0)
    finite = np.isfinite(scores)
    if not finite.all():
        outcomes |= {live[i].id: Outcome(Kind.UNSCORABLE) for i in np.flatnonzero(~finite)}
        live, features, scores = [live[i] for i in np.flatnonzero(finite)], features[finite], scores[finite]
    decisions = [predictor.policy.decide(score) for score in scores.tolist()]
    alerts = [index for index, decision in enumerate(decisions) if decision != Decision.APPROVE]
    reasons = dict(zip(alerts, predictor.reasons(features[alerts]), strict=True)) if alerts else {}
    scored_at = time.perf_counter()
    stages = Stages(features_s=made - began, model_s=scored_at - made)
    if live:
        now = timezone.now()
        amount = predictor.schema.feature_names.index(predictor.schema.amount)
        batch = [
            Scored(
                submission=submission,
                amount=submission.features[amount],
                fraud_score=score,
                decision=decision,
                reasons=reasons.get(index, []),
                latency_ms=max(0.0, (now.timestamp() - submission.received_at) * 1000),
                queue_ms=max(0.0, (started_at - submission.received_at) * 1000),
            )
            for index, (submission, score, decision) in enumerate(zip(live, scores.tolist(), decisions, strict=True))
        ]
        landed = storage.store(batch, _circumstances(predictor, stages, now))
        repeats = selectors.known_outcomes([submission for submission in live if submission.id not in landed])
        said_at, version = now.isoformat(), predictor.version.pk
        for scored in batch:
            submission = scored.submission
            if submission.id in landed:
                outcomes[submission.id] = Outcome(Kind.SCORED, _answer(scored, version, predictor, said_at).to_json())
            else:
                outcomes[submission.id] = repeats[submission.id]
    stages.storage_s = time.perf_counter() - scored_at
    return [outcomes[submission.id] for submission in submissions], stages


def _circumstances(predictor: Predictor, stages: Stages, now: datetime) -> Circumstances:
    return Circumstances(
        schema=predictor.schema.name,
        feature_names=predictor.schema.feature_names,
        model_version=predictor.version.pk,
        threshold=predictor.policy.review_threshold,
        features_ms=stages.features_s * 1000,
        model_ms=stages.model_s * 1000,
        created_at=now,
    )


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
            latency_ms=max(0.0, (now.timestamp() - submission.received_at) * 1000),
            created_at=now,
        )
    # As it will be read again, with the times and numbers of the database.
    return Outcome(Kind.SCORED, Answer.of_fallback(selectors.fallback(fallback.pk)).to_json())


@transaction.atomic
def _keep(submission: Submission) -> Outcome | None:
    """Store a transaction that waits for its score. None when it is known already."""
    schema = load_schema(submission.schema)
    amount = submission.features[schema.feature_names.index(schema.amount)]
    if not storage.insert_new([storage.transaction_of(submission, schema.feature_names, amount)]):
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
        wait = timedelta(seconds=settings.PENDING_RETRY_S * 2**pending.attempts)
        # Whoever changes the row first has it: another beat may be at work on another machine.
        mine = Pending.objects.filter(pk=pending.pk, due_at=pending.due_at)
        if mine.update(due_at=now + wait, attempts=F("attempts") + 1):
            claimed.append(pending.pk)
    return claimed


def score_pending(*, transaction_ids: Iterable[UUID], predictor: Predictor) -> int:
    """Score stored transactions that wait for it. Returns how many are done; what was done before is left alone.

    A row that the model cannot score stays pending, with its fault, and does not keep the others from their score.
    """
    rows = list(
        Pending.objects.select_related("transaction__fallback").filter(
            pk__in=transaction_ids, transaction__schema=predictor.schema.name
        )
    )
    if not rows:
        return 0
    started_at = time.time()
    names = predictor.schema.feature_names
    features = np.array([[row.transaction.fields[name] for name in names] for row in rows], dtype=np.float32)
    scores = predictor.score(features)
    finite = np.isfinite(scores)
    Pending.objects.filter(pk__in=[rows[i].pk for i in np.flatnonzero(~finite)]).update(
        attempts=settings.PENDING_ATTEMPTS_LIMIT, fault="The model has no finite score for these values."
    )
    now = timezone.now()
    predictions, reviews = [], []
    for i in np.flatnonzero(finite):
        row, score = rows[i].transaction, float(scores[i])
        decision = predictor.policy.decide(score)
        prediction = Prediction(
            transaction=row,
            model_version=predictor.version,
            fraud_score=score,
            decision=decision,
            threshold=predictor.policy.review_threshold,
            reasons=predictor.reasons(features[i : i + 1])[0] if decision != Decision.APPROVE else [],
            latency_ms=max(0.0, (now - row.received_at).total_seconds() * 1000),
            queue_ms=max(0.0, (started_at - row.received_at.timestamp()) * 1000),
            created_at=now,
        )
        predictions.append(prediction)
        # A fallback that asked for a review has it with its score, whatever that is.
        if prediction.is_alert or (hasattr(row, "fallback") and row.fallback.is_alert):
            reviews.append(Review(prediction=prediction, fraud_score=score, opened_at=now))
    with transaction.atomic():
        done, _ = Pending.objects.filter(pk__in=[prediction.pk for prediction in predictions]).delete()
        Prediction.objects.bulk_create(predictions, ignore_conflicts=True)
        Review.objects.bulk_create(reviews, ignore_conflicts=True)
    return done


@transaction.atomic
def close_review(*, review: Review, is_fraud: bool, reviewer: User) -> bool:
    """Record an analyst's word. Returns False, and changes nothing, when somebody else closed the review first."""
    now = timezone.now()
    state = Review.State.FRAUD if is_fraud else Review.State.LEGITIMATE
    claimed = Review.objects.filter(pk=review.pk, state=Review.State.OPEN).update(
        state=state, closed_at=now, reviewer=reviewer
    )
    if claimed:
        Label.objects.create(
            transaction_id=review.pk, is_fraud=is_fraud, source=Label.Source.ANALYST, author=reviewer, created_at=now
        )
    return bool(claimed)


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
