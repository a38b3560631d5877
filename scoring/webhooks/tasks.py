from celery import shared_task

from scoring.webhooks import outbox


@shared_task
def delete_old() -> None:
    outbox.delete_old()
