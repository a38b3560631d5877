"""The tasks of erasures. Messages may get lost or come twice: the database tells what is to do."""

import logging
from uuid import UUID

import redis
from celery import shared_task
from kombu.exceptions import OperationalError as BrokerError

from scoring.models import Erasure
from scoring.privacy import erasing

logger = logging.getLogger(__name__)

# Then others get their turn of the worker.
TURN_S = 5.0


@shared_task
def go_on(erasure_id: str) -> None:
    """Do steps of an erasure for a while, then queue up again behind other work. If it has to wait, `keep_going` goes
    on with it."""
    row = Erasure.objects.filter(pk=UUID(erasure_id)).first()
    if row is None:
        return
    waits = erasing.work(row, seconds=TURN_S)
    if row.is_active and not waits:
        go_on.delay(erasure_id)


@shared_task
def keep_going() -> None:
    """Go on with erasures that wait or whose messages or workers were lost, and forget those that nobody confirmed."""
    erasing.forget_unconfirmed()
    for key in Erasure.objects.filter(finished_at=None, state__in=Erasure.ACTIVE).values_list("pk", flat=True):
        row = Erasure.objects.get(pk=key)
        erasing.work(row, seconds=TURN_S)


def send(row: Erasure) -> None:
    """Have an erasure go on soon. If the message cannot be sent, `keep_going` does it later."""
    try:
        go_on.apply_async((str(row.pk),), retry=False)
    except (BrokerError, redis.RedisError, OSError) as error:
        logger.warning("An erasure waits for the next look at them: %s", error)
