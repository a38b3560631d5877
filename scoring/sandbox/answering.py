"""Answers calls with keys for tests: after the same checks, in the same form, and without a worker, the database, an
analyst or a model.

Answers are kept in Redis for `SANDBOX_KEEP_S` seconds, so that repeats, conflicts and reading again work as with other
keys.
"""

from uuid import UUID

import msgspec
import redis
from django.conf import settings

from scoring.decisions import ALERTS, Decision
from scoring.exceptions import SandboxUnavailable, ScorerUnavailable
from scoring.messages import replies
from scoring.messages.answers import Answer, Reason
from scoring.messages.replies import Kind, Outcome
from scoring.messages.submission import Submission
from scoring.models import Fallback
from scoring.policies.evidence import Basis
from scoring.sandbox import outcomes
from training import clock

PREFIX = "fraudsite:sandbox:"
MODEL_VERSION = "test"
THRESHOLD = 0.5
SCORES = {Decision.APPROVE: 0.01, Decision.CHALLENGE: 0.4, Decision.REVIEW: 0.7, Decision.BLOCK: 0.95}
# Which share of the deadline a slow answer takes.
SLOW_SHARE = 0.8


class Kept(msgspec.Struct):
    """What was answered to a transaction."""

    id: str
    body_sha256: str
    answer: bytes


def pause_s(wanted: outcomes.Outcome, submission: Submission) -> float:
    """How many seconds to wait before the answer."""
    if wanted is not outcomes.Outcome.SLOW:
        return 0.0
    return max(0.0, (submission.deadline - clock.seconds()) * SLOW_SHARE)


def answer(submission: Submission, wanted: outcomes.Outcome) -> Outcome:
    """Answer a valid transaction, or repeat the answer that it had.

    Raises:
        ScorerUnavailable: as asked for.
        SandboxUnavailable: Redis does not answer.
    """
    try:
        return _answer(submission, wanted)
    except redis.RedisError as error:
        raise SandboxUnavailable from error


def find(client_id: int, key: UUID) -> bytes | None:
    """The answer that was given to a transaction of this client.

    Raises:
        SandboxUnavailable: Redis does not answer.
    """
    try:
        return replies.connection().get(f"{PREFIX}{client_id}:answer:{key}")  # type: ignore[return-value]  # not async
    except redis.RedisError as error:
        raise SandboxUnavailable from error


def _answer(submission: Submission, wanted: outcomes.Outcome) -> Outcome:
    server = replies.connection()
    place = f"{PREFIX}{submission.client_id}:"
    if wanted is outcomes.Outcome.REFUSED:
        raise ScorerUnavailable(reason=Fallback.Reason.DEADLINE)
    # A transaction without an id cannot be sent again, so it is told from others by its content.
    named = submission.transaction_id or submission.body_sha256
    if wanted is outcomes.Outcome.REFUSED_ONCE and server.set(
        f"{place}refused:{named}", 1, nx=True, ex=settings.SANDBOX_KEEP_S
    ):
        raise ScorerUnavailable(reason=Fallback.Reason.DEADLINE)
    kept = Kept(submission.id, submission.body_sha256, _made(submission, wanted).to_json())
    if submission.transaction_id is not None:
        mine = msgspec.msgpack.encode(kept)
        name = f"{place}transaction:{submission.transaction_id}"
        earlier = server.set(name, mine, nx=True, get=True, ex=settings.SANDBOX_KEEP_S)
        if earlier is not None:
            kept = msgspec.msgpack.decode(earlier, type=Kept)  # type: ignore[arg-type]  # bytes: nothing is decoded
            same = kept.body_sha256 == submission.body_sha256
            return Outcome(Kind.REPEATED, kept.answer) if same else Outcome(Kind.CONFLICT)
    server.set(f"{place}answer:{kept.id}", kept.answer, ex=settings.SANDBOX_KEEP_S)
    return Outcome(Kind.SCORED, kept.answer)


def _made(submission: Submission, wanted: outcomes.Outcome) -> Answer:
    degraded = wanted is outcomes.Outcome.DEGRADED
    decision = Decision.REVIEW if degraded else Decision(wanted) if wanted in Decision.values else Decision.APPROVE
    alert = decision in ALERTS
    reason = Reason(feature="test", contribution=2.0, text="You asked for this with a test value.")
    now = clock.now()
    return Answer(
        id=submission.id,
        transaction_id=submission.transaction_id,
        fraud_score=None if degraded else SCORES[decision],
        is_fraud=None if degraded else alert,
        alert=alert,
        decision=decision,
        reasons=[reason] if alert and not degraded else [],
        threshold=None if degraded else THRESHOLD,
        model_version=None if degraded else MODEL_VERSION,
        policy_version=None,
        basis=Basis.FALLBACK if degraded else Basis.SCORE,
        rules=[],
        lists=[],
        latency_ms=round((now.timestamp() - submission.received_at) * 1000, 3),
        created_at=now.isoformat(),
        degraded=Fallback.Reason.NO_WORKER if degraded else None,
        conversion=submission.conversion,
    )
