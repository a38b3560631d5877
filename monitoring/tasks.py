import logging

from celery import shared_task
from django.conf import settings

from monitoring import rollups
from monitoring.drift import measurement
from training import registry
from training.core.exceptions import FraudsiteError

logger = logging.getLogger(__name__)


@shared_task
def update_rollups() -> None:
    rollups.update_rollups()


@shared_task
def measure_drift() -> None:
    # Without any champion, the default schema's measurement logs that there is none.
    for schema in sorted(registry.live_schemas()) or [settings.DEFAULT_SCHEMA]:
        try:
            measurement.measure_drift(schema=schema)
        except FraudsiteError as error:
            logger.warning("Drift was not measured: %s", error)
