"""Scores files chunk by chunk, on all workers of all machines.

A worker claims a chunk for `BATCH_FILE_LEASE_S`, scores its rows, writes its part of the result, and marks it done. If
it dies, another one claims the chunk and does the same again. No row is stored twice, as each has its id from its
place in the file: what was stored before is found, with its answer.

Where a schema has histories, the order of rows matters, and a file's chunks are scored one after the other.
"""

import logging
import math
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice

import msgspec
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F, Q

from scoring import served
from scoring.exceptions import RequestRefused, ScorerUnavailable, TransactionConflict, Unscorable
from scoring.files import plain, results
from scoring.files.ending import clear, end
from scoring.files.models import FAULT_LIMIT, BatchFile, FileChunk, Mode, State
from scoring.files.reading import STORE_AWAY
from scoring.files.rows import Reading, Row
from scoring.files.scratch import Scratch
from scoring.messages import request_ids
from scoring.messages.answers import Answer, told
from scoring.messages.replies import Kind, Outcome
from scoring.messages.submission import Submission
from scoring.policies.evidence import Evidence
from scoring.telemetry import tracing
from scoring.worker import batches, predictor
from scoring.worker.predictor import Predictor
from scoring.worker.scorer import Scored
from training import clock, store
from training.core.exceptions import FraudsiteError, StoreUnavailable

logger = logging.getLogger(__name__)

NOTHING = Evidence()
# A chunk that cannot be scored now is tried again after this time.
RETRY_S = 5.0


class _NoLongerOurs(Exception):
    """Another worker has the chunk, or the file was cancelled."""


def work(file: BatchFile) -> bool:
    """Score the next chunk of a file. Returns whether there may be more to do now."""
    chunk = _claim(file)
    if chunk is None:
        return False
    if chunk.attempts > settings.BATCH_FILE_ATTEMPTS_LIMIT:
        _fail(file, chunk)
        return False
    recorded = tracing.task("score chunk", is_job=True, file=str(file.pk), rows=chunk.rows)
    with request_ids.working_for([file.request_id]), recorded:
        try:
            _score(file, chunk)
        except _NoLongerOurs:
            _forget(chunk)
            return False
        except KeyboardInterrupt as error:  # of the command `score`
            _release(file, chunk, error)
            raise
        except (FraudsiteError, InterfaceError, OperationalError) as error:
            logger.warning("A chunk of the file %s waits: %s", file.pk, error)
            if isinstance(error, (InterfaceError, OperationalError)) and not connection.in_atomic_block:
                connection.close()  # it may be broken; the next statement opens a new one
            _release(file, chunk, error)
            return False
    return True


def in_order(file: BatchFile) -> bool:
    """Whether the chunks of a file have to be scored one after the other."""
    schema = served.now().schemas.get(file.schema)
    return schema is None or not schema.is_plain


def _claim(file: BatchFile) -> FileChunk | None:
    """Take the next chunk that nobody has; None if there is none, or if enough workers have one."""
    now = clock.now()
    to_do = FileChunk.objects.filter(file=file, done_at=None)
    at_once = 1 if in_order(file) else settings.BATCH_FILE_CHUNKS_AT_ONCE
    if to_do.filter(leased_until__gt=now).count() >= at_once:
        return None
    free = Q(leased_until=None) | Q(leased_until__lte=now)
    claim = secrets.token_hex(16)
    candidates = to_do.order_by("number")[:1] if in_order(file) else to_do.filter(free).order_by("number")[:at_once]
    for chunk in candidates:
        taken = to_do.filter(free, pk=chunk.pk, file__state=State.SCORING).update(
            claim=claim, leased_until=_lease(), attempts=F("attempts") + 1
        )
        if taken:
            chunk.refresh_from_db()
            return chunk
    return None


def _lease() -> datetime:
    return clock.now() + timedelta(seconds=settings.BATCH_FILE_LEASE_S)


def _score(file: BatchFile, chunk: FileChunk) -> None:
    served.look()  # a schema's file may have changed since this worker last looked
    champion = predictor.current(file.schema)
    scratch = Scratch(file, champion) if file.mode == Mode.SCORE else None
    reading = Reading(file, chunk, clock.seconds())
    at_once = plain.approve(reading, champion) if scratch else plain.NOTHING
    found: results.Rows = []
    others = reading.rows(at_once.rows)
    while part := list(islice(others, settings.BATCH_CHUNK)):
        _still_ours(chunk)
        found += _results_of(part, champion, scratch)
    _still_ours(chunk)
    results.write(chunk, found, at_once.results)
    refused = sum(row["status"] == results.REFUSED for row in found)
    _finish(file, chunk, scored=len(reading.lines) - refused, refused=refused, scratch=scratch)


def _still_ours(chunk: FileChunk) -> None:
    """Extend the lease.

    Raises:
        _NoLongerOurs: it is somebody else's, or the file was cancelled.
    """
    ours = FileChunk.objects.filter(pk=chunk.pk, claim=chunk.claim, done_at=None, file__state=State.SCORING)
    if not ours.update(leased_until=_lease()):
        raise _NoLongerOurs


def _results_of(part: Sequence[Row], champion: Predictor, scratch: Scratch | None) -> Iterator[dict[str, object]]:
    fine = [row.found for row in part if isinstance(row.found, Submission)]
    answers = iter(_scored_only(fine, champion, scratch) if scratch else _stored(fine, champion))
    for row in part:
        answer = row.found if isinstance(row.found, RequestRefused) else next(answers)
        if isinstance(answer, RequestRefused):
            yield results.refused(row.line, row.transaction_id, answer)
        else:
            kind, content = answer
            repeated = kind == Kind.REPEATED
            yield results.scored(row.line, content, repeated=repeated, stored=scratch is None)


Answered = tuple[Kind, Answer] | RequestRefused


def _stored(fine: Sequence[Submission], champion: Predictor) -> list[Answered]:
    """Store and score traffic."""
    if not fine:
        return []
    outcomes, _ = batches.score_batch(submissions=fine, predictor=champion, started_at=clock.seconds())
    return [_answered(outcome) for outcome in outcomes]


def _answered(outcome: Outcome) -> Answered:
    match outcome.kind:
        case Kind.SCORED | Kind.REPEATED:
            return outcome.kind, msgspec.json.decode(outcome.answer, type=Answer)
        case Kind.CONFLICT:
            return TransactionConflict()
        case Kind.UNSCORABLE:
            return Unscorable()
        case Kind.PENDING:
            waits = "This transaction is stored already, and waits for its score. Ask for it by its id."
            return ScorerUnavailable(waits, reason="worker")
    return ScorerUnavailable(reason="worker")


def _scored_only(fine: Sequence[Submission], champion: Predictor, scratch: Scratch) -> list[Answered]:
    if not fine:
        return []
    created_at = clock.now().isoformat()
    return [
        (Kind.SCORED, _answer(submission, scored, champion, created_at))
        if math.isfinite(scored.fraud_score)
        else Unscorable()
        for submission, scored in zip(fine, scratch.score(fine), strict=True)
    ]


def _answer(submission: Submission, scored: Scored, champion: Predictor, created_at: str) -> Answer:
    return Answer(
        id=submission.id,
        transaction_id=submission.transaction_id,
        fraud_score=scored.fraud_score,
        is_fraud=scored.is_alert,
        alert=scored.is_alert,
        decision=scored.decision,
        reasons=scored.reasons,
        threshold=scored.decided.threshold,
        model_version=champion.version.pk,
        latency_ms=0.0,
        created_at=created_at,
        policy_version=champion.policy.number,
        conversion=submission.conversion,
        **told(scored.decided.evidence or NOTHING),
    )


def _finish(file: BatchFile, chunk: FileChunk, *, scored: int, refused: int, scratch: Scratch | None) -> None:
    """Mark a chunk as done, and the file, too, if it was the last."""
    now = clock.now()
    with transaction.atomic():
        # This waits for others that end a chunk of the file, so the last of them sees that it is the last. Who cancels
        # the file has deleted what is beside it, and would not look again.
        files = BatchFile.objects.filter(pk=file.pk, state=State.SCORING)
        counts = {"scored": F("scored") + scored, "refused": F("refused") + refused}
        ours = FileChunk.objects.filter(pk=chunk.pk, claim=chunk.claim, done_at=None)
        if not files.update(**counts, touched_at=now, fault="") or not ours.update(
            done_at=now, leased_until=None, claim="", refused=refused
        ):
            raise _NoLongerOurs
        if scratch:
            scratch.save()
        is_last = not FileChunk.objects.filter(file=file, done_at=None).exists()
        is_done = is_last and end(file, State.DONE, of=(State.SCORING,))
    if is_done:
        clear(file)


def _release(file: BatchFile, chunk: FileChunk, error: BaseException) -> None:
    """Have a chunk tried again soon. What failed is not the chunk's fault, and is not counted as an attempt."""
    later = clock.now() + timedelta(seconds=RETRY_S)
    FileChunk.objects.filter(pk=chunk.pk, claim=chunk.claim, done_at=None).update(
        claim="", leased_until=later, attempts=F("attempts") - 1
    )
    fault = "The database did not answer."
    if isinstance(error, StoreUnavailable):
        fault = STORE_AWAY
    elif isinstance(error, FraudsiteError):
        fault = str(error)
    elif isinstance(error, KeyboardInterrupt):
        fault = "It was interrupted, and goes on soon."
    BatchFile.objects.filter(pk=file.pk, state=State.SCORING).update(fault=fault[:FAULT_LIMIT])


def _forget(chunk: FileChunk) -> None:
    """Delete the result of a chunk whose file has ended meanwhile: it may have been written when all that the file had
    was deleted already."""
    needed = FileChunk.objects.filter(Q(file__state=State.SCORING) | ~Q(done_at=None), pk=chunk.pk)
    if not needed.exists():
        try:
            store.delete(chunk.result)
        except StoreUnavailable as error:
            logger.warning("The result of a chunk was not deleted: %s", error)


def _fail(file: BatchFile, chunk: FileChunk) -> None:
    fault = (
        f"The rows from line {chunk.first_line:,} on could not be scored in {settings.BATCH_FILE_ATTEMPTS_LIMIT} "
        "attempts. The workers' logs tell more."
    )
    if end(file, State.FAILED, of=(State.SCORING,), fault=fault):
        clear(file)
