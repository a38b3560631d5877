"""How a file comes to its end: its state, the event for webhooks, and what is deleted."""

import logging
from datetime import timedelta

from django.conf import settings
from django.db import transaction

from scoring.files.models import FAULT_LIMIT, BatchFile, FileHistory, State
from scoring.webhooks import events
from scoring.webhooks.types import EventType
from training import clock, store
from training.core.exceptions import StoreUnavailable

logger = logging.getLogger(__name__)


@transaction.atomic
def end(file: BatchFile, state: State, *, of: tuple[State, ...], fault: str = "") -> bool:
    """End a file that is in one of the states `of`, and tell it to the client's webhooks. Returns whether it was.
    Call `clear` when that is committed."""
    now = clock.now()
    ended = BatchFile.objects.filter(pk=file.pk, state__in=of).update(
        state=state,
        fault=fault[:FAULT_LIMIT],
        finished_at=now,
        touched_at=now,
        expires_at=now + timedelta(days=settings.BATCH_FILE_KEEP_DAYS),
    )
    if ended:
        file.refresh_from_db()
        data = {
            "id": str(file.pk),
            "name": file.name,
            "state": file.state,
            "mode": file.mode,
            "schema": file.schema,
            "rows": file.rows,
            "scored": file.scored,
            "refused": file.refused,
        }
        events.record(
            EventType.BATCH_FINISHED, object=f"batch:{file.pk}", data=data, client=file.client_id, schema=file.schema
        )
    return bool(ended)


def clear(file: BatchFile) -> None:
    """Delete the rows of a file that has come to its end: they hold what nobody but the client should keep."""
    FileHistory.objects.filter(file=file).delete()
    try:
        store.delete(file.upload)
        store.delete(file.unpacked)
    except StoreUnavailable as error:
        logger.warning("The rows of a file are deleted later: %s", error)  # by `intake.expire_old`
        return
    BatchFile.objects.filter(pk=file.pk).update(has_rows=False)
