import logging

from celery import shared_task
from django.conf import settings

from monitoring import rollups, services
from training.exceptions import FraudsiteError

logger = logging.getLogger(__name__)


@shared_task
def update_rollups() -> None:
    rollups.update_rollups()


@shared_task
def measure_drift() -> None:
    try:
        services.measure_drift(schema=settings.DEFAULT_SCHEMA)
    except FraudsiteError as error:
        logger.warning("Drift was not measured: %s", error)
