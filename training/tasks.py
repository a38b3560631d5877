from celery import shared_task

from training import runs

DAY_S = 86_400


# It is acknowledged when it begins: a run whose worker was killed says so, and does not begin again by itself.
@shared_task(acks_late=False, time_limit=DAY_S)
def train(run_id: int) -> None:
    runs.perform(run_id)


@shared_task(acks_late=False, time_limit=DAY_S)
def tune(study: str) -> None:
    """One trial of a study; see `manage.py tune --workers`."""
    from training import studies  # Optuna takes a while to import, and few processes need it

    studies.take_part(study)
