import logging

from celery import shared_task
from django.conf import settings

from monitoring.alerts import evaluating, sending
from monitoring.drift import measurement, thinning
from monitoring.label_free import making
from monitoring.matured import updating
from monitoring.rollups import retention
from monitoring.rollups import updating as rollups
from training import registry
from training.core.exceptions import FraudsiteError

logger = logging.getLogger(__name__)


@shared_task
def update_rollups() -> None:
    rollups.update()


@shared_task
def delete_old_rollups() -> None:
    retention.delete_old()


@shared_task
def count_outcomes() -> None:
    updating.update()


@shared_task
def estimate_without_labels() -> None:
    making.update()


@shared_task
def measure_drift() -> None:
    # Without any champion, the default schema's measurement logs that there is none.
    for schema in sorted(registry.live_schemas()) or [settings.DEFAULT_SCHEMA]:
        try:
            measurement.measure_drift(schema=schema)
        except FraudsiteError as error:
            logger.warning("Drift was not measured: %s", error)


@shared_task
def thin_drift_reports() -> None:
    thinning.thin()


@shared_task
def evaluate_alerts() -> None:
    evaluating.evaluate()


@shared_task
def send_alerts() -> None:
    sending.send_due()


@shared_task
def delete_old_alert_rows() -> None:
    evaluating.delete_old()
