from celery import shared_task
from django.conf import settings

from scoring.reviews import receiving


@shared_task
def attach_labels() -> None:
    """Store the labels that were early and whose transactions have arrived."""
    receiving.attach(limit=settings.LABEL_BATCH_LIMIT)
