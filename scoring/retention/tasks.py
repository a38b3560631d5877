"""What beat asks for each night. A task works for RETENTION_LIMIT_S at most and then sends itself again, so that other
messages of its queue are not kept waiting."""

import logging

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from scoring.retention import applying, counts, histories, partitions

logger = logging.getLogger(__name__)


@shared_task
def delete_old_counts() -> None:
    counts.delete_old_counts()


@shared_task
def apply_retention() -> None:
    if partitions.are_ours():
        for name in partitions.make_ahead(timezone.now()):
            logger.info("Made the partition %s.", name)
    told: dict[str, int] = {}
    for progress in applying.apply(seconds=settings.RETENTION_LIMIT_S):
        told[progress.what] = progress.deleted
    for what, deleted in told.items():
        logger.info("Deleted %s %s.", f"{deleted:,}", what)
    if told:
        apply_retention.delay()
    else:
        delete_idle_histories.delay()


@shared_task
def delete_idle_histories(after: str = "") -> None:
    deleted, place = histories.delete_idle(after=after, seconds=settings.RETENTION_LIMIT_S)
    if deleted:
        logger.info("Deleted %s idle histories.", f"{deleted:,}")
    if place:
        delete_idle_histories.delay(place)
