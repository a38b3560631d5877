from celery import shared_task

from training import runs

DAY_S = 86_400


# It is acknowledged when it begins: a run whose worker was killed says so, and does not begin again by itself.
@shared_task(acks_late=False, time_limit=DAY_S)
def train(run_id: int) -> None:
    runs.perform(run_id)
