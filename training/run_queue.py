"""Starts and cancels training runs, and marks those whose worker is lost as failed."""

import logging
from datetime import timedelta

import redis
from django.conf import settings
from django.db import IntegrityError, transaction
from kombu.exceptions import OperationalError as BrokerError

from training import clock
from training.core import configuration, families
from training.core.configuration import Configuration
from training.core.exceptions import TrainingRefused
from training.models import TrainingRun
from training.tasks import train

logger = logging.getLogger(__name__)

State = TrainingRun.State


def start(config: Configuration, *, promote: str, by: str) -> TrainingRun:
    """Have a worker of the queue `training` train this configuration.

    Raises:
        TrainingRefused: another run of the same schema waits or is under way.
    """
    run = create(config, promote=promote, by=by)
    transaction.on_commit(lambda: _send(run))
    return run


def create(config: Configuration, *, promote: str, by: str) -> TrainingRun:
    """Write down a run that waits for `runs.perform`.

    Raises:
        TrainingRefused: as above.
    """
    give_up_the_lost()
    schema = config.data.schema
    try:
        with transaction.atomic():
            return TrainingRun.objects.create(
                schema=schema,
                configuration=configuration.as_json(config),
                epochs=families.hyperparameters(config).epochs,
                promote=promote,
                by=by,
            )
    except IntegrityError as error:
        raise TrainingRefused(f"A model of {schema} is being trained already: wait for it, or cancel it.") from error


def _send(run: TrainingRun) -> None:
    """Send the run to a worker. If that fails, the run has failed, so that the next one can be started."""
    try:
        train.apply_async((run.pk,), retry=False)
    except (BrokerError, redis.RedisError, OSError) as error:
        logger.warning("Training run %s was not sent: %s", run.pk, error)
        TrainingRun.objects.filter(pk=run.pk, state=State.QUEUED).update(
            state=State.FAILED,
            finished_at=clock.now(),
            failure="The message broker does not answer. Start it again.",
        )


def cancel(run: TrainingRun) -> bool:
    """Stop a run at the end of its epoch. Returns False if it has ended already."""
    return bool(
        TrainingRun.objects.filter(pk=run.pk, state__in=TrainingRun.ACTIVE).update(
            state=State.CANCELLED, finished_at=clock.now()
        )
    )


def give_up_the_lost() -> None:
    """Mark runs whose worker was lost as failed. Called before runs are shown or started."""
    now, silence_s = clock.now(), settings.TRAINING_SILENCE_S
    TrainingRun.objects.filter(state=State.RUNNING, heard_at__lt=now - timedelta(seconds=silence_s)).update(
        state=State.FAILED,
        finished_at=now,
        failure=f"Its worker has not been heard for {silence_s} s: it was stopped, or killed for memory.",
    )
