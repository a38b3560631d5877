"""The tasks of files. Messages may get lost or come twice: the database tells what is to do, and `keep_going` looks."""

import logging
from contextlib import closing
from datetime import timedelta
from uuid import UUID

import redis
from celery import Task, shared_task
from django.conf import settings
from kombu.exceptions import OperationalError as BrokerError

from scoring.files import chunks, intake, reading
from scoring.files.models import BatchFile, State
from scoring.messages.sending import Sender
from scoring.telemetry import tracing
from training import clock

logger = logging.getLogger(__name__)

# Reading a file takes longer than a task usually may.
READING_LIMIT_S = 3_600
# A file on which no worker went on for so long gets new messages.
STALL_S = 10.0
# By then, the reconciler has sent others.
MESSAGES_EXPIRE_S = 86_400.0


# Acknowledged when it begins: if its worker is killed, the lease of the file runs out, and `keep_going` sends it again.
@shared_task(acks_late=False, time_limit=READING_LIMIT_S)
def read_file(file_id: str) -> None:
    """Read a file that has come in, and have its chunks scored."""
    file = BatchFile.objects.filter(pk=UUID(file_id)).first()
    if file is None:
        return
    with tracing.task("read file", is_job=True, file=file_id):
        is_read = reading.read(file)
    if is_read:
        send_work(file)


@shared_task
def score_chunk(file_id: str) -> None:
    """Score one chunk of a file, then queue up for the next, behind other work."""
    file = BatchFile.objects.filter(pk=UUID(file_id), state=State.SCORING).first()
    if file and chunks.work(file):
        score_chunk.delay(file_id)


@shared_task
def keep_going() -> None:
    """The reconciler: goes on with files whose messages or workers were lost, and deletes what has expired."""
    now = clock.now()
    waiting = BatchFile.objects.filter(state=State.WAITING)
    for file in waiting.exclude(leased_until__gt=now).filter(touched_at__lte=now - timedelta(seconds=1)):
        send_file(file)
    stalled = now - timedelta(seconds=STALL_S)
    for file in BatchFile.objects.filter(state=State.SCORING, touched_at__lte=stalled):
        send_work(file)
    intake.expire_old()


def send_work(file: BatchFile) -> None:
    """As many messages as chunks may be scored at once: each worker that takes one goes on until nothing is left."""
    _send(score_chunk, file, times=1 if chunks.in_order(file) else settings.BATCH_FILE_CHUNKS_AT_ONCE)


def send_file(file: BatchFile) -> None:
    """Have a file read soon."""
    _send(read_file, file)


def _send(task: Task, file: BatchFile, *, times: int = 1) -> None:
    """Send messages about a file. If the broker does not answer, that costs no time, and `keep_going` sends them."""
    try:
        with closing(Sender(task, settings.BULK_QUEUE)) as sender:
            for _ in range(times):
                sender.send((str(file.pk),), expires_s=MESSAGES_EXPIRE_S)
    except (BrokerError, redis.RedisError, OSError) as error:
        logger.warning("A file waits for the reconciler: %s", error)
