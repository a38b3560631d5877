from celery import shared_task
from django.conf import settings

from scoring.reviews import due, receiving, rerouting, sampling


@shared_task
def attach_labels() -> None:
    """Store the labels that were early and whose transactions have arrived."""
    receiving.attach(limit=settings.LABEL_BATCH_LIMIT)


@shared_task
def act_on_late() -> None:
    """Do what queues want done with their late reviews."""
    due.act_on_late()


@shared_task
def reroute_reviews() -> None:
    """Route the open reviews again, as the queues were changed."""
    rerouting.reroute()


@shared_task
def draw_sample() -> None:
    """Draw the random sample from the traffic since the last run."""
    sampling.draw()
