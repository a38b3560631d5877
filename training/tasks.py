from celery import shared_task
from django.conf import settings

from training import registry, runs


# It is acknowledged when it begins: a run whose worker was killed says so, and does not begin again by itself.
@shared_task(acks_late=False, time_limit=settings.TRAINING_TIME_LIMIT_S)
def train(run_id: int) -> None:
    runs.perform(run_id)


@shared_task
def compare_waiting() -> None:
    """Compare beforehand, so that a promotion is a switch of milliseconds and no web process has to compare."""
    registry.compare_waiting()


@shared_task(acks_late=False, time_limit=settings.TRAINING_TIME_LIMIT_S)
def tune(study: str) -> None:
    """One trial of a study; see `manage.py tune --workers`."""
    from training import studies  # Optuna takes a while to import, and few processes need it

    studies.take_part(study)
