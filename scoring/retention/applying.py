"""What retention has to delete, and deleting it: partitions that are old as a whole, and rows in steps."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from math import inf
from typing import NamedTuple

from django.conf import settings
from django.utils import timezone

from scoring.clients.models import Client
from scoring.learning import archive
from scoring.models import Attachment, ShadowScore, Transaction
from scoring.retention import deleting, dropping, periods


class Progress(NamedTuple):
    """What is deleted, and how many rows in this run so far."""

    what: str
    deleted: int


@dataclass(frozen=True)
class Part:
    """Something to delete: in words, how many rows there are, and the steps that delete them, each with its number."""

    what: str
    count: Callable[[], int]
    steps: Callable[[], Iterator[int]]
    client: Client | None = None
    is_archived: bool = False


def due(now: datetime) -> Iterator[Part]:
    """What is to be deleted, whether or not there is any."""
    cutoffs = {client: periods.of_transactions(client, now) for client in Client.objects.order_by("name")}
    of_all = dropping.before(cutoffs.values())
    if of_all:
        for parts in dropping.old_partitions(of_all):
            steps = partial(dropping.steps, parts, cutoffs)
            yield Part(f"transactions of partition {parts.transactions.name}", parts.count, steps, is_archived=True)
    for client, before in cutoffs.items():
        # Who keeps them longest waits for the partition to be old as a whole.
        if before and before != of_all:
            what = f"transactions of {client} that were received before {before:%Y-%m-%d}"
            old = Transaction.objects.filter(client=client, received_at__lt=before)
            steps = partial(deleting.transactions, client, before, what)
            yield Part(what, old.count, steps, client, is_archived=True)
    if before := periods.cutoff(settings.SHADOW_SCORE_RETENTION_DAYS, now):
        scores = ShadowScore.objects.filter(created_at__lt=before)
        yield Part(
            f"scores of shadows from before {before:%Y-%m-%d}", scores.count, partial(deleting.shadow_scores, before)
        )
    if before := periods.cutoff(settings.ATTACHMENT_RETENTION_DAYS, now):
        files = Attachment.objects.filter(removed_at=None, added_at__lt=before)
        yield Part(
            f"files of reviews from before {before:%Y-%m-%d}", files.count, partial(deleting.attachments_of, files)
        )
    if before := periods.cutoff(settings.TRAINING_ARCHIVE_DAYS, now):
        what = f"archived decisions from before {before:%Y-%m-%d}"
        yield Part(what, partial(archive.count, before), partial(archive.expire, before))


def apply(*, now: datetime | None = None, seconds: float = inf) -> Iterator[Progress]:
    """Delete what is due, and tell after each step how far it is. No step begins after so many seconds; the next run
    goes on. The number of rows of each part goes to the audit trail."""
    ends_at = time.monotonic() + seconds
    for part in due(now or timezone.now()):
        deleted, began_at = 0, timezone.now()
        try:
            began = time.monotonic()
            for number in part.steps():
                deleted += number
                yield Progress(part.what, deleted)
                if time.monotonic() > ends_at:
                    return
                deleting.rest(began)
                began = time.monotonic()
        finally:
            if deleted:
                kept = archive.written_since(began_at) if part.is_archived else 0
                told = f", of which {kept:,} decisions are archived for training, without persons" if kept else ""
                deleting.record(f"{deleted:,} {part.what}{told}", part.client)
