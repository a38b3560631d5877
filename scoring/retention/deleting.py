"""Deletes what is older than it is to be kept, in small steps, so that no other statement waits long for one.

A step is a database transaction of at most RETENTION_STEP_ROWS rows, and after each it rests for as long as it took. A
run that is killed, or whose time is over, has left whole transactions only, and the next goes on. Two runs at the same
time pass over each other's rows.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Model, QuerySet
from django.utils import timezone

from scoring.acts import acted
from scoring.clients.models import Client
from scoring.learning import archive
from scoring.models import (
    Attachment,
    Fallback,
    Label,
    Pending,
    Prediction,
    Review,
    ReviewEvent,
    ReviewLink,
    SecondOpinion,
    ShadowScore,
    Transaction,
)
from scoring.retention.models import Forgotten
from scoring.reviews import attachments
from training.models import ModelVersion

# What belongs to a transaction, by the column with its id, in the order of deletion: first what refers to others.
BELONGINGS: tuple[tuple[type[Model], str], ...] = (
    (ReviewEvent, "review"),
    (ReviewLink, "review"),
    (SecondOpinion, "review"),
    (Attachment, "review"),
    (Review, "prediction"),
    (Label, "transaction"),
    (ShadowScore, "transaction"),
    (Fallback, "transaction"),
    (Pending, "transaction"),
    (Prediction, "transaction"),
    (Transaction, "pk"),
)
BECAUSE = "Retention: ATTACHMENT_RETENTION_DAYS"
LONGEST_REST_S = 1.0
MOMENT = timedelta(microseconds=1)


def rest(began: float) -> None:
    """Leave the database to others for as long as a step took that began at this time."""
    time.sleep(min(time.monotonic() - began, LONGEST_REST_S))


def record(detail: str, client: Client | None) -> None:
    acted.send(Forgotten, action="deleted", key=client.pk if client else "", detail=detail, person=None)


def transactions(client: Client, before: datetime, what: str) -> Iterator[int]:
    """Delete a client's old transactions with all that belongs to them, the oldest first. What training needs of them
    is archived.

    Raises:
        StoreUnavailable: the archive cannot be written, so nothing more is deleted.
    """
    old = Transaction.objects.filter(client=client, received_at__lt=before).order_by("received_at", "pk")
    if old.exists():
        mark(client, before, what)
    since: datetime | None = None
    while True:
        with transaction.atomic():
            # From the last one on: what was deleted stays in the index for a while, and need not be passed again.
            rows = (old.filter(received_at__gte=since) if since else old).select_for_update(skip_locked=True)
            found = list(rows.values_list("pk", "received_at")[: settings.RETENTION_STEP_ROWS])
            if not found:
                return
            keys, since = [key for key, _ in found], found[-1][1]
            latest = Prediction.objects.filter(pk__in=keys).aggregate(latest=Max("created_at"))["latest"]
            if latest:
                Forgotten.objects.filter(client=client, decided_before__lte=latest).update(
                    decided_before=latest + MOMENT
                )
            with archive.kept(keys):
                delete(keys)
        yield len(keys)


def delete(keys: Sequence[UUID]) -> None:
    """Delete transactions and all that belongs to them, within a database transaction of the caller."""
    delete_files(Attachment.objects.filter(review__in=keys, removed_at=None))
    for model, column in BELONGINGS:
        delete_rows(model._base_manager.filter(**{f"{column}__in": keys}))


def delete_rows(rows: QuerySet[Any]) -> int:
    """Delete them by one statement. Django's `delete` would read them all, to find what refers to them."""
    return rows._raw_delete(rows.db)


def delete_files(rows: QuerySet[Attachment]) -> None:
    """Delete the content of attachments, once the deletion of their rows is committed."""
    for name in rows.values_list("stored", flat=True):
        transaction.on_commit(partial(attachments.store().delete, name), robust=True)


@transaction.atomic
def mark(client: Client, before: datetime, what: str, decided_before: datetime | None = None) -> None:
    """Write down what is about to be deleted, before it is."""
    decided_before = max(before, decided_before or before)
    marked, is_new = Forgotten.objects.select_for_update().get_or_create(
        client=client, defaults={"before": before, "decided_before": decided_before}
    )
    if is_new or marked.before < before or marked.decided_before < decided_before:
        marked.before, marked.decided_before = max(before, marked.before), max(decided_before, marked.decided_before)
        marked.save()
        record(f"Begun to delete {what}", client)


def shadow_scores(before: datetime) -> Iterator[int]:
    for version in ModelVersion.objects.values_list("pk", flat=True):
        old = ShadowScore.objects.filter(model_version=version, created_at__lt=before).order_by("created_at")
        while keys := list(old.values_list("pk", flat=True)[: settings.RETENTION_STEP_ROWS]):
            yield delete_rows(ShadowScore.objects.filter(pk__in=keys))


def attachments_of(old: QuerySet[Attachment]) -> Iterator[int]:
    """Delete the content of old files. Their rows are kept for the record, as if a person had removed them."""
    while rows := list(old.order_by("pk")[: settings.RETENTION_STEP_ROWS]):
        with transaction.atomic():
            found = Attachment.objects.filter(pk__in=[row.pk for row in rows])
            delete_files(found)
            found.update(removed_at=timezone.now(), removed_because=BECAUSE)
        yield len(rows)
