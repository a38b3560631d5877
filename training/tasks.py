from celery import shared_task
from django.conf import settings

from training import registry, runs
from training.core.schema import loaded


# Acknowledged when it begins: if its worker is killed, the run fails, and is not started again by itself.
@shared_task(acks_late=False, time_limit=settings.TRAINING_TIME_LIMIT_S)
def train(run_id: int) -> None:
    loaded.look(settled=False)
    runs.perform(run_id)


@shared_task
def compare_waiting() -> None:
    """Compare a version with the champion in advance, so that a promotion in the admin takes milliseconds."""
    registry.compare_waiting()


@shared_task(acks_late=False, time_limit=settings.TRAINING_TIME_LIMIT_S)
def tune(study: str) -> None:
    """Do one trial of a study; see `manage.py tune --workers`."""
    from training import studies  # Optuna takes a while to import, and few processes need it

    studies.take_part(study)
