"""Training outside of a terminal: a run is a row, a worker trains it, and the row tells how it goes.

The command and the task share what is here: read the dataset, train, register.
"""

import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import redis
from django.conf import settings
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from training import families, registry
from training.bundle import Bundle
from training.datasets import storage
from training.exceptions import FraudsiteError, TrainingRefused
from training.models import ModelVersion, TrainingRun
from training.schema import Schema, load_schema
from training.splits import Timeline

if TYPE_CHECKING:
    from training.pipeline import Config

logger = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
# Epochs may be shorter than a look at the page; the row is written this often at most.
WRITTEN_EVERY_S = 0.5
State = TrainingRun.State


class _Cancelled(Exception):
    """Somebody has cancelled the run."""


@dataclass(frozen=True)
class Dataset:
    """What `pipeline.train` takes of a dataset."""

    schema: Schema
    features: np.ndarray
    labels: np.ndarray
    timeline: Timeline | None
    report: storage.Report


def read_dataset(config: "Config") -> Dataset:
    """Read what a configuration names.

    Raises:
        DatasetError, SchemaNotFound: it is not here, or is not of its schema.
    """
    schema = load_schema(config["data"]["schema"])
    path = settings.DATASETS_DIR / config["data"]["parquet"]
    features, labels, report = storage.read(path, schema)
    return Dataset(schema, features, labels, storage.read_timeline(path, schema), report)


def train_and_register(
    config: "Config",
    dataset: Dataset,
    *,
    promote: str,
    by: str | None = None,
    on_epoch: Callable[[int, dict[str, float]], None],
) -> tuple[Bundle, ModelVersion]:
    """Train a model, write its bundle and enter it into the register. `promote` is a `TrainingRun.Promote`.

    Raises:
        FraudsiteError: see `pipeline.train`.
    """
    # Here, as the web process, which starts runs and does none, has no use for the libraries that train.
    from training.pipeline import train

    bundle = train(
        config=config,
        schema=dataset.schema,
        features=dataset.features,
        labels=dataset.labels,
        timeline=dataset.timeline,
        report=dataset.report,
        bundles_dir=settings.BUNDLES_DIR,
        signing_key=settings.BUNDLE_SIGNING_KEY,
        on_epoch=on_epoch,
        parent=registry.parent_of(dataset.schema.name),
    )
    promotes = promote == TrainingRun.Promote.ALWAYS or (
        promote == TrainingRun.Promote.FIRST and registry.parent_of(dataset.schema.name) is None
    )
    return bundle, registry.register(bundle, promote=promotes, by=by, reason=f"train --promote {promote}")


def start(config: "Config", *, promote: str, by: str) -> TrainingRun:
    """Have a worker of the queue `training` train this.

    Raises:
        TrainingRefused: another run of the same schema waits or is under way.
    """
    from training.tasks import train as task

    give_up_the_lost()
    schema = config["data"]["schema"]
    try:
        with transaction.atomic():
            run = TrainingRun.objects.create(
                schema=schema,
                configuration=config,
                epochs=families.hyperparameters(config)["epochs"],
                promote=promote,
                by=by,
            )
    except IntegrityError as error:
        raise TrainingRefused(f"A model of {schema} is being trained already: wait for it, or cancel it.") from error
    transaction.on_commit(lambda: _send(task, run))
    return run


def _send(task: Any, run: TrainingRun) -> None:
    """Have a worker take the run; what cannot be sent must not keep the next one from being started."""
    try:
        task.apply_async((run.pk,), retry=False)
    except (BrokerError, redis.RedisError, OSError) as error:
        logger.warning("Training run %s was not sent: %s", run.pk, error)
        TrainingRun.objects.filter(pk=run.pk, state=State.QUEUED).update(
            state=State.FAILED,
            finished_at=timezone.now(),
            failure="The message broker does not answer. Start it again.",
        )


def cancel(run: TrainingRun) -> bool:
    """Stop a run at the end of its epoch. Returns False when it had ended before."""
    return bool(
        TrainingRun.objects.filter(pk=run.pk, state__in=TrainingRun.ACTIVE).update(
            state=State.CANCELLED, finished_at=timezone.now()
        )
    )


def give_up_the_lost() -> None:
    """Say of runs whose worker was killed that they have failed. Called by whoever looks at runs or starts one."""
    now, silence_s = timezone.now(), settings.TRAINING_SILENCE_S
    TrainingRun.objects.filter(state=State.RUNNING, heard_at__lt=now - timedelta(seconds=silence_s)).update(
        state=State.FAILED,
        finished_at=now,
        failure=f"Its worker has said nothing for {silence_s} s: it was stopped, or killed for memory.",
    )


def perform(run_id: int) -> None:
    """Do a run that waits. Whatever happens is written to its row; a run that somebody else took is left alone."""
    now = timezone.now()
    waiting = TrainingRun.objects.filter(pk=run_id, state=State.QUEUED)
    if not waiting.update(state=State.RUNNING, started_at=now, heard_at=now, worker=platform.node()):
        return
    run = TrainingRun.objects.get(pk=run_id)
    with _heartbeat(run):
        try:
            version = _train(run)
        except _Cancelled:
            return
        except FraudsiteError as error:
            _end(run, State.FAILED, failure=str(error))
        except Exception as error:  # a library's own, or memory: the run must not look as if it went on
            logger.exception("Training run %s failed.", run_id)
            _end(run, State.FAILED, failure=f"{type(error).__name__}: {error}")
        else:
            _end(run, State.DONE, version=version)


def _train(run: TrainingRun) -> ModelVersion:
    dataset = read_dataset(run.configuration)
    history: dict[str, list[float]] = {}
    written_at = 0.0

    def on_epoch(epoch: int, logs: dict[str, float]) -> None:
        nonlocal written_at
        for name, value in logs.items():
            history.setdefault(name, []).append(round(float(value), 6))
        if time.monotonic() - written_at >= WRITTEN_EVERY_S:
            written_at = time.monotonic()
            if not _running(run).update(history=history):
                raise _Cancelled

    bundle, version = train_and_register(run.configuration, dataset, promote=run.promote, by=run.by, on_epoch=on_epoch)
    _running(run).update(history=bundle.description["history"])
    return version


def _running(run: TrainingRun) -> Any:
    return TrainingRun.objects.filter(pk=run.pk, state=State.RUNNING)


def _end(run: TrainingRun, state: str, **said: Any) -> None:
    _running(run).update(state=state, finished_at=timezone.now(), **said)


@contextmanager
def _heartbeat(run: TrainingRun) -> Iterator[None]:
    """Let the row know every few seconds that the run is being worked on, also during a long epoch."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(HEARTBEAT_S):
            try:
                _running(run).update(heard_at=timezone.now())
            except DatabaseError as error:
                logger.warning("Training run %s could not say that it goes on: %s", run.pk, error)
        connection.close()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
