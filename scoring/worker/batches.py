"""Scores and stores a gateway's batch: one schema, one model call, one database transaction."""

import math
import time
from collections.abc import Iterable, Sequence

from django.db import connection, transaction

from scoring.messages.answers import Answer, told
from scoring.messages.replies import Kind, Outcome, Stages
from scoring.messages.submission import Submission
from scoring.policies.evidence import Evidence
from scoring.policies.expressions import Case
from scoring.worker import metrics, scorer, storage
from scoring.worker.declared import tokens_for, values_for
from scoring.worker.known import known_outcomes
from scoring.worker.predictor import About, Predictor
from scoring.worker.scorer import Scored
from scoring.worker.storage import BatchContext
from training.core.schema import Schema

NOTHING = Evidence()


class _ScoreAgain(Exception):
    """The database transaction was rolled back. Score the batch again, without the ids that the model cannot score."""

    def __init__(self, unscorable: Sequence[str] = ()) -> None:
        super().__init__()
        self.unscorable = unscorable


def score_batch(
    *, submissions: Sequence[Submission], predictor: Predictor, started_at: float
) -> tuple[list[Outcome], Stages]:
    """Score and store a batch of one schema: one model call, one database transaction.

    `started_at`, in seconds since the epoch, is when the worker took the batch. Submissions whose deadline has passed
    are left out, and so are those without a finite score. Returns an outcome per submission, in order.

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
    if live:
        metrics.observe_batch(predictor.schema.name, len(live), stages)
    return [outcomes[submission.id] for submission in submissions], stages


def _score_plain(
    live: Sequence[Submission], predictor: Predictor, started_at: float, stages: Stages
) -> dict[str, Outcome]:
    cases = cases_of(predictor.schema, live)
    given = predictor.schema.encode([case.values for case in cases])
    derived = scorer.nothing_derived(len(live))
    scored = scorer.score(predictor, cases, given, derived, stages, _about(live))
    outcomes = {submission.id: Outcome(Kind.UNSCORABLE) for submission in _unscorable(live, scored)}
    batch = [
        (submission, result) for submission, result in zip(live, scored, strict=True) if submission.id not in outcomes
    ]
    if batch:
        context = BatchContext.of(predictor, stages, started_at)
        inserted = storage.store(batch, context)
        outcomes |= known_outcomes([submission for submission, _ in batch if submission.id not in inserted])
        outcomes |= _answers([row for row in batch if row[0].id in inserted], context)
    return outcomes


def _score_with_histories(
    live: Sequence[Submission], predictor: Predictor, started_at: float, stages: Stages
) -> dict[str, Outcome]:
    """Score a batch whose schema has computed features. Histories and transactions must be stored together."""
    outcomes: dict[str, Outcome] = {}
    all_new = True  # as in most batches; looking for known ids costs as much as storing
    while True:  # it ends, as after the first round each finds at least one more known or unscorable submission
        # Django would first ask the server whether it is there, a round trip; `tasks` tries again if it is not.
        connection.health_check_done = True  # type: ignore[attr-defined]  # which the stubs do not know
        try:
            with transaction.atomic():
                return outcomes | _score_under_lock(live, predictor, started_at, stages, all_new=all_new)
        except _ScoreAgain as again:
            metrics.RETRIES.labels("known_or_unscorable").inc()
            all_new = False
            outcomes |= dict.fromkeys(again.unscorable, Outcome(Kind.UNSCORABLE))
            live = [submission for submission in live if submission.id not in outcomes]


def _score_under_lock(
    live: Sequence[Submission], predictor: Predictor, started_at: float, stages: Stages, *, all_new: bool
) -> dict[str, Outcome]:
    from scoring.worker import histories

    schema = predictor.schema
    locked = histories.lock(schema, [tokens_for(schema, submission) for submission in live])
    # Look under the locks: another worker that stored a copy held the same locks, and has committed.
    outcomes = {} if all_new else known_outcomes(live)
    new = _first_copies(submission for submission in live if submission.id not in outcomes)
    if new:
        began = time.perf_counter()
        cases = cases_of(schema, new)
        given = schema.encode([case.values for case in cases])
        sequences, derived = locked.transactions_arrive(
            [submission.event_time for submission in new],
            given[:, schema.amount_index].tolist(),
            [case.tokens for case in cases],
            given,
        )
        stages.features_s += time.perf_counter() - began
        scored = scorer.score(predictor, cases, given, derived, stages, _about(new))
        if unscorable := _unscorable(new, scored):  # they are not stored, so the histories must not include them
            raise _ScoreAgain([submission.id for submission in unscorable])
        context = BatchContext.of(predictor, stages, started_at)
        batch = list(zip(new, scored, strict=True))
        inserted = storage.store(batch, context, sequences, locked.changed())
        if len(inserted) < len(batch):  # some were known, or stored with other entities by a parallel batch
            raise _ScoreAgain
        outcomes |= _answers(batch, context)
    return outcomes | known_outcomes([submission for submission in live if submission.id not in outcomes])


def _first_copies(submissions: Iterable[Submission]) -> list[Submission]:
    """The first of the submissions with the same id, Fraudsite's or the client's."""
    first: dict[object, Submission] = {}
    for submission in submissions:
        named = (submission.client_id, submission.transaction_id)
        first.setdefault(submission.id if submission.transaction_id is None else named, submission)
    return list(first.values())


def cases_of(schema: Schema, live: Sequence[Submission]) -> list[Case]:
    return [
        Case(values_for(schema, each), tokens_for(schema, each), each.event_time, each.id, client=each.client_id)
        for each in live
    ]


def _about(live: Sequence[Submission]) -> list[About]:
    return [(submission.request, submission.id) for submission in live]


def _unscorable(live: Sequence[Submission], scored: Sequence[Scored]) -> list[Submission]:
    """The submissions without a finite score."""
    return [
        submission for submission, result in zip(live, scored, strict=True) if not math.isfinite(result.fraud_score)
    ]


def _answers(batch: Sequence[tuple[Submission, Scored]], context: BatchContext) -> dict[str, Outcome]:
    return {
        submission.id: Outcome(Kind.SCORED, _answer(submission, scored, context).to_json())
        for submission, scored in batch
    }


def _answer(submission: Submission, scored: Scored, context: BatchContext) -> Answer:
    return Answer(
        id=submission.id,
        transaction_id=submission.transaction_id,
        fraud_score=scored.fraud_score,
        is_fraud=scored.is_alert,
        alert=scored.is_alert,
        decision=scored.decision,
        reasons=scored.reasons,
        threshold=scored.decided.threshold,
        model_version=context.model_version,
        latency_ms=context.latency_ms(submission.received_at),
        created_at=context.created_at.isoformat(),
        policy_version=context.policy.number,
        conversion=submission.conversion,
        **told(scored.decided.evidence or NOTHING),
    )
