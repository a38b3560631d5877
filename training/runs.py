"""Performs training runs in a worker, and writes their progress to their rows.

The command `train` shares `train_and_register`.
"""

import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import DatabaseError, connection

from training import clock, registry
from training.core import configuration, stages
from training.core.bundle import Bundle
from training.core.configuration import Configuration
from training.core.exceptions import FraudsiteError
from training.models import ModelVersion, TrainingRun

if TYPE_CHECKING:
    from training.core.datasets.storage import Dataset

logger = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
# Epochs may be very short; the row is written at most this often.
WRITTEN_EVERY_S = 0.5
State = TrainingRun.State


class _Cancelled(Exception):
    """Somebody has cancelled the run."""


def train_and_register(
    config: Configuration,
    dataset: "Dataset",
    *,
    promote: str,
    by: str | None = None,
    on_epoch: Callable[[int, dict[str, float]], None],
) -> tuple[Bundle, ModelVersion]:
    """Train a model, write its bundle and register it. `promote` is a `TrainingRun.Promote`.

    Raises:
        FraudsiteError: see `pipeline.train`.
    """
    stages.enter("Loading the model's library")
    # Imported here, as the web process starts runs but needs none of the libraries for training.
    from training.core.pipeline import train

    bundle = train(
        config=config,
        dataset=dataset,
        bundles_dir=settings.BUNDLES_DIR,
        signing_key=settings.BUNDLE_SIGNING_KEY,
        on_epoch=on_epoch,
        parent=registry.parent_of(dataset.schema.name),
    )
    promotes = promote == TrainingRun.Promote.ALWAYS or (
        promote == TrainingRun.Promote.FIRST and registry.parent_of(dataset.schema.name) is None
    )
    version = registry.register(bundle, promote=promotes, by=by, reason=f"train --promote {promote}")
    if promote in (TrainingRun.Promote.BETTER, TrainingRun.Promote.PROPOSE):
        stages.enter("Comparing it with the champion")
        registry.consider(version, by=by or registry.account(), promotes=promote == TrainingRun.Promote.BETTER)
    return bundle, version


def perform(run_id: int) -> None:
    """Perform a queued run, and write the result to its row. Does nothing if another worker has taken the run."""
    now = clock.now()
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
        except Exception as error:  # libraries may raise anything; the run must not stay "under way"
            logger.exception("Training run %s failed.", run_id)
            _end(run, State.FAILED, failure=f"{type(error).__name__}: {error}")
        else:
            _end(run, State.DONE, version=version)


def _train(run: TrainingRun) -> ModelVersion:
    from training.core.datasets import storage  # late: web processes need no pandas

    config = configuration.from_json(run.configuration)
    dataset = storage.read_chosen(settings.DATASETS_DIR, config)
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

    bundle, version = train_and_register(config, dataset, promote=run.promote, by=run.by, on_epoch=on_epoch)
    _running(run).update(history=bundle.description.history)
    return version


def _running(run: TrainingRun) -> Any:
    return TrainingRun.objects.filter(pk=run.pk, state=State.RUNNING)


def _end(run: TrainingRun, state: str, **fields: Any) -> None:
    _running(run).update(state=state, finished_at=clock.now(), **fields)


@contextmanager
def _heartbeat(run: TrainingRun) -> Iterator[None]:
    """Update `heard_at` every few seconds, also during a long epoch."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(HEARTBEAT_S):
            try:
                _running(run).update(heard_at=clock.now())
            except DatabaseError as error:
                logger.warning("The heartbeat of training run %s was not stored: %s", run.pk, error)
        connection.close()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
