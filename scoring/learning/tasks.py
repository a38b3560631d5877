import logging

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from scoring.learning import export
from training import registry, retraining
from training.core.exceptions import FraudsiteError
from training.core.schema import loaded

logger = logging.getLogger(__name__)


@shared_task(acks_late=False, time_limit=settings.TRAINING_TIME_LIMIT_S)
def retrain() -> None:
    """Export what is known now of each live schema, train on it, and propose or promote what is better."""
    loaded.look(settled=False)
    for schema in sorted(registry.live_schemas()):
        if retraining.has_run_today(schema):
            continue
        try:
            made = export.export(schema, as_of=timezone.now())
            run = retraining.retrain(schema, made.path, promotes=settings.RETRAINING == "promote")
            logger.info("%s: %s", run, run.failure or run.get_state_display())
        except FraudsiteError as error:  # another schema may have more to learn from
            logger.warning("%s was not retrained: %s", schema, error)
        else:
            export.forget_older(made.path, keep=settings.RETRAINING_SNAPSHOTS_KEPT)
