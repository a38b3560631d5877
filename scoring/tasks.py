import gc
import logging
import time
from typing import Any
from uuid import UUID

import msgspec
import redis
from celery import current_app, shared_task
from celery.signals import worker_process_init
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from kombu.exceptions import OperationalError as BrokerError

from scoring import predictor, replies, services
from scoring.predictor import Predictor
from scoring.replies import Outcome, Reply
from scoring.submissions import Submission
from training.exceptions import FraudsiteError

logger = logging.getLogger(__name__)

_decoder = msgspec.msgpack.Decoder(list[Submission])


@shared_task
def score_batch(reply_to: str, batch_id: str, message: bytes) -> None:
    """Score what a gateway sent and tell it the outcomes. An empty batch asks for a sign of life: is a model loaded?"""
    started_at = time.time()
    try:
        submissions = _decoder.decode(message)
        champion = predictor.current(settings.DEFAULT_SCHEMA)
        outcomes, stages = _score_batch(submissions, champion, started_at)
        reply = Reply(batch_id, started_at, time.time(), outcomes=outcomes, stages=stages)
    except (FraudsiteError, DatabaseError, msgspec.MsgspecError) as error:
        logger.exception("A batch was not scored.")
        detail = str(error) if isinstance(error, FraudsiteError) else "The database does not answer."
        reply = Reply(batch_id, started_at, time.time(), error=f"{detail} Nothing was acknowledged.")
    replies.send(reply_to, reply)


def _score_batch(
    submissions: list[Submission], champion: Predictor, started_at: float
) -> tuple[list[Outcome], replies.Stages]:
    try:
        return services.score_batch(submissions=submissions, predictor=champion, started_at=started_at)
    except (InterfaceError, OperationalError):
        # A connection may have died since it was last used; a database that is there answers the second try.
        connection.close()
        return services.score_batch(submissions=submissions, predictor=champion, started_at=started_at)


@shared_task
def score_pending(transaction_ids: list[str]) -> None:
    """Score transactions that were stored first. What fails here is due again: see `resend_pending`."""
    try:
        champion = predictor.current(settings.DEFAULT_SCHEMA)
        services.score_pending(transaction_ids=[UUID(text) for text in transaction_ids], predictor=champion)
    except (FraudsiteError, DatabaseError) as error:
        logger.warning("%d pending transactions were not scored: %s", len(transaction_ids), error)


def send_pending(transaction_id: str) -> None:
    """Have a stored transaction scored soon. A message that cannot be sent is `resend_pending`'s to send."""
    try:
        score_pending.apply_async(([transaction_id],), retry=False)
    except (BrokerError, redis.RedisError, OSError) as error:
        logger.warning("A pending transaction waits for the reconciler: %s", error)


@shared_task
def resend_pending() -> None:
    """The reconciler: whatever the broker or a worker lost on the way is sent once more."""
    due = services.claim_due(limit=settings.PENDING_RESEND_LIMIT)
    for start in range(0, len(due), settings.GATEWAY_BATCH_LIMIT):
        score_pending.delay([str(key) for key in due[start : start + settings.GATEWAY_BATCH_LIMIT]])


@worker_process_init.connect
def load_champion(**_: Any) -> None:
    """Have the model warm before the first transaction comes; after the fork, where there is one."""
    if current_app.amqp.queues.consume_from.keys() & {settings.REALTIME_QUEUE, settings.BULK_QUEUE}:
        predictor.limit_threads()
        try:
            predictor.current(settings.DEFAULT_SCHEMA)
        except (FraudsiteError, DatabaseError) as error:
            logger.warning("No model is loaded yet: %s", error)
        # What is loaded by now stays for good: the collector need not walk through it again and again.
        gc.collect()
        gc.freeze()
