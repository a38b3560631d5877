import logging
from typing import Any

from celery import current_app, shared_task
from celery.signals import worker_process_init
from django.conf import settings
from django.db import DatabaseError

from scoring import predictor, replies, services
from scoring.submissions import Submission
from training.exceptions import FraudsiteError

logger = logging.getLogger(__name__)


@shared_task
def score_batch(reply_to: str, batch_id: str, messages: list[list[Any]]) -> None:
    """Score what a gateway sent and tell it the outcomes. An empty batch asks for a sign of life: is a model loaded?"""
    try:
        champion = predictor.current(settings.DEFAULT_SCHEMA)
        submissions = [Submission.from_message(message) for message in messages]
        outcomes = services.score_batch(submissions=submissions, predictor=champion) if submissions else []
    except (FraudsiteError, DatabaseError) as error:
        logger.exception("A batch of %d was not scored.", len(messages))
        detail = str(error) if isinstance(error, FraudsiteError) else "The database does not answer."
        replies.send(reply_to=reply_to, batch_id=batch_id, reply={"error": f"{detail} Nothing was acknowledged."})
    else:
        reply = {"outcomes": outcomes, "model_version": champion.version.pk}
        replies.send(reply_to=reply_to, batch_id=batch_id, reply=reply)


@worker_process_init.connect
def load_champion(**_: Any) -> None:
    """Have the model warm before the first transaction comes; after the fork, where there is one."""
    if settings.REALTIME_QUEUE in current_app.amqp.queues.consume_from:
        predictor.limit_threads()
        try:
            predictor.current(settings.DEFAULT_SCHEMA)
        except (FraudsiteError, DatabaseError) as error:
            logger.warning("No model is loaded yet: %s", error)
