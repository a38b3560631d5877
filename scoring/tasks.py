import logging
import os
import platform
from typing import Any
from uuid import UUID

import msgspec
import redis
from celery import current_app, shared_task
from celery.signals import worker_process_init
from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, connection
from kombu.exceptions import OperationalError as BrokerError

from scoring.messages import replies, request_ids
from scoring.messages.replies import Kind, Outcome, Reply
from scoring.messages.submission import Submission
from scoring.policies import backtests, score_counts
from scoring.telemetry import logs, tracing
from scoring.worker import batches, explanations, metrics, pending, predictor, shadows, starting
from training import clock
from training.core.exceptions import BundleRefused, FraudsiteError, NoChampion, StaleHistory

logger = logging.getLogger(__name__)

_decoder = msgspec.msgpack.Decoder(list[Submission])


@shared_task
def score_batch(reply_to: str, batch_id: str, message: bytes) -> None:
    """Score a gateway's batch and send the outcomes back. An empty batch is a ping: is a model loaded?"""
    started_at = clock.seconds()
    try:
        logs.begin(batch=batch_id)
        submissions = _decoder.decode(message)
        request_ids.begin(submission.request for submission in submissions)
        schemas = {submission.schema for submission in submissions} or {settings.DEFAULT_SCHEMA}
        with tracing.batch(submissions, batch_id):
            if len(schemas) == 1:
                outcomes, stages = _score_batch(submissions, schemas.pop(), started_at)
            else:
                outcomes, stages = _score_each(submissions, schemas, started_at)
        reply = Reply(batch_id, started_at, clock.seconds(), outcomes=outcomes, stages=stages)
    except (FraudsiteError, Error, msgspec.MsgspecError) as error:
        reply = Reply(batch_id, started_at, clock.seconds(), error=_report(error))
    replies.send(reply_to, reply)


def _score_each(
    submissions: list[Submission], schemas: set[str], started_at: float
) -> tuple[list[Outcome], replies.Stages]:
    """Score a batch of several schemas, schema by schema. If one fails, the others are scored all the same."""
    outcomes: dict[str, Outcome] = {}
    stages = replies.Stages()
    for schema in sorted(schemas):
        part = [submission for submission in submissions if submission.schema == schema]
        with request_ids.working_for(submission.request for submission in part):
            try:
                scored, took = _score_batch(part, schema, started_at)
            except (FraudsiteError, Error) as error:
                scored, took = [Outcome(Kind.FAILED, _report(error).encode())] * len(part), replies.Stages()
        outcomes |= zip([submission.id for submission in part], scored, strict=True)
        stages.features_s += took.features_s
        stages.model_s += took.model_s
        stages.storage_s += took.storage_s
    return [outcomes[submission.id] for submission in submissions], stages


def _score_batch(submissions: list[Submission], schema: str, started_at: float) -> tuple[list[Outcome], replies.Stages]:
    try:
        champion = predictor.current(schema)
    except NoChampion as error:
        if not submissions:  # a ping: it asks for a loaded model
            raise
        metrics.FAILURES.labels(type(error).__name__).inc()
        logger.warning("%d transactions of %s were not scored: %s", len(submissions), schema, error)
        return [Outcome(Kind.NO_CHAMPION)] * len(submissions), replies.Stages()
    try:
        return batches.score_batch(submissions=submissions, predictor=champion, started_at=started_at)
    except (InterfaceError, OperationalError):
        # The connection may have died since it was last used; the second try opens a new one.
        metrics.RETRIES.labels("connection").inc()
        connection.close()
        return batches.score_batch(submissions=submissions, predictor=champion, started_at=started_at)


def _report(error: Exception) -> str:
    """Log why a batch was not scored. Returns the message for its clients."""
    metrics.FAILURES.labels(type(error).__name__).inc()
    logger.error("A batch was not scored.", exc_info=error)
    return f"{_client_message(error)} Nothing was acknowledged."


def _client_message(error: Exception) -> str:
    """The error as a client sees it. The remedy is in the log, for operators."""
    match error:
        case NoChampion():
            return "The schema has no champion, the model that decides. An operator has to promote one."
        case StaleHistory():
            return "The schema's histories have to be rebuilt by an operator."
        case BundleRefused():
            return "The schema's champion cannot be loaded. An operator has to look into it."
        case FraudsiteError():
            return str(error)
    return "The database does not answer."


@shared_task
def explain(reply_to: str, transaction_id: str) -> None:
    """Explain the score of a stored transaction, and send the explanation back."""
    started_at = clock.seconds()
    logs.begin(transaction=transaction_id)
    try:
        explanation = explanations.explain(UUID(transaction_id))
        outcomes = [Outcome(Kind.EXPLAINED, msgspec.json.encode(explanation))]
        reply = Reply(transaction_id, started_at, clock.seconds(), outcomes=outcomes)
    except (FraudsiteError, Error) as error:
        logger.warning("The score of %s was not explained: %s", transaction_id, error, exc_info=error.__cause__)
        reply = Reply(transaction_id, started_at, clock.seconds(), error=_client_message(error))
    replies.send(reply_to, reply)


@shared_task
def score_pending(transaction_ids: list[str]) -> None:
    """Score transactions that are stored already. Those that fail are sent again by `resend_pending`."""
    keys = [UUID(text) for text in transaction_ids]
    try:
        for schema, of_schema in pending.by_schema(keys).items():
            _score_pending(schema, of_schema)
    except Error as error:
        logger.warning("%d pending transactions were not scored: %s", len(transaction_ids), error)


def _score_pending(schema: str, keys: list[UUID]) -> None:
    """Score pending transactions of one schema. Only failures that a row may have caused count as its attempts. If a
    batch fails unexpectedly or kills this process, its rows stay suspect and are scored one by one the next time."""
    requests = pending.request_ids(keys)
    try:
        model = predictor.current(schema)
    except FraudsiteError as error:
        with request_ids.working_for(requests.values()):
            logger.warning("Pending transactions of %s were not scored: %s", schema, error)
        pending.postpone(keys, _client_message(error), counted=False)
        return
    suspects = pending.suspects(keys)
    for part in pending.begin(keys, suspects):
        only = str(part[0]) if len(part) == 1 else ""
        with request_ids.working_for(requests.get(key, "") for key in part), logs.of_transaction(only):
            _score_part(part, model, alone=part[0] in suspects)


def _score_part(part: list[UUID], model: predictor.Predictor, *, alone: bool) -> None:
    metrics.RETRIES.labels("pending").inc(len(part))
    if alone:
        pending.count_attempt(part[0])
    try:
        pending.score(transaction_ids=part, predictor=model)
    except (FraudsiteError, InterfaceError, OperationalError) as error:
        metrics.FAILURES.labels(type(error).__name__).inc()
        logger.warning("Pending transactions of %s were not scored: %s", model.schema.name, error)
        if isinstance(error, (InterfaceError, OperationalError)) and not connection.in_atomic_block:
            connection.close()  # it may be broken; the next statement opens a new one
        pending.postpone(part, _client_message(error), counted=alone)
    except Exception as error:
        metrics.FAILURES.labels(type(error).__name__).inc()
        logger.exception("%d pending transactions of %s were not scored.", len(part), model.schema.name)
        pending.record_fault(part, f"{type(error).__name__} while it was scored; the worker's log has more.")


def send_pending(transaction_id: str) -> None:
    """Have a stored transaction scored soon. If the message cannot be sent, `resend_pending` sends it later."""
    try:
        score_pending.apply_async(([transaction_id],), retry=False)
    except (BrokerError, redis.RedisError, OSError) as error:
        logger.warning("A pending transaction waits for the reconciler: %s", error)


@shared_task
def resend_pending() -> None:
    """The reconciler: sends pending transactions again whose message the broker or a worker has lost."""
    due = pending.claim_due(limit=settings.PENDING_RESEND_LIMIT)
    suspects = pending.suspects(due)
    fine = [key for key in due if key not in suspects]
    parts = [
        fine[start : start + settings.GATEWAY_BATCH_LIMIT]
        for start in range(0, len(fine), settings.GATEWAY_BATCH_LIMIT)
    ]
    for part in [*parts, *([key] for key in suspects)]:
        score_pending.delay([str(key) for key in part])


# Acknowledged when it begins: if its worker is killed, the backtest fails, and is not started again by itself.
@shared_task(acks_late=False)
def run_backtest(backtest_id: int) -> None:
    backtests.perform(backtest_id)


@shared_task
def count_scores() -> None:
    score_counts.update()


@shared_task
def score_shadows() -> None:
    shadows.score_new_predictions()


@worker_process_init.connect
def load_champions(sender: str | None = None, **_: Any) -> None:
    """Load the champions before the first transaction comes, and follow the register from then on. If the worker
    forks, this runs in the child. `sender` is the worker's name, if Celery gives it."""
    for queue in (settings.REALTIME_QUEUE, settings.BULK_QUEUE):
        if queue in current_app.amqp.queues.consume_from:
            starting.get_ready(f"{sender or platform.node()} {os.getpid()}", queue)
            return
