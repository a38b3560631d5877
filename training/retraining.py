"""Trains on a snapshot, and proposes or promotes what is better than the champion."""

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from training import run_queue, runs
from training.core import configuration
from training.core.exceptions import ConfigurationError
from training.models import TrainingRun

BY = "nightly retraining"


def of_snapshot(path: Path | str) -> configuration.Overrides:
    """What a training on a snapshot does differently from one on a schema's dataset: the test are its last days.
    `path` is relative to DATASETS_DIR.

    Raises:
        ConfigurationError: there is no such file.
    """
    directory = Path(os.path.abspath(settings.DATASETS_DIR))
    found = Path(os.path.abspath(directory / path))
    if not found.is_relative_to(directory) or not found.is_file():
        raise ConfigurationError(
            f"--snapshot: there is no file {str(path)!r} in DATASETS_DIR. "
            "`export_training_set` prints the path to give."
        )
    return {"data.parquet": str(path), "split.protocol": "time", "split.test_start": ""}


def has_run_today(schema: str) -> bool:
    """Whether a retraining was begun today, UTC: of two schedules the second has nothing to do."""
    today = timezone.now().date()
    return TrainingRun.objects.filter(schema=schema, by=BY, created_at__date=today).exists()


def retrain(schema: str, path: Path, *, promotes: bool) -> TrainingRun:
    """Train a schema's model on a snapshot in this process, as a run that the admin shows.

    The configuration is `<schema>-retraining.toml`, or else that of the schema.

    Raises:
        TrainingRefused: another run of the schema waits or is under way.
        ConfigurationError: the configuration cannot be used.
    """
    changes: dict[str, Any] = of_snapshot(path.relative_to(settings.DATASETS_DIR))
    config = configuration.chosen(schema, configuration.path_of(schema, "retraining"), changes)
    if not config.split.test_days:  # of a schema's dataset it may be "to the end"
        config = configuration.with_overrides(config, {"split.test_days": config.split.validation_days})
    promote = TrainingRun.Promote.BETTER if promotes else TrainingRun.Promote.PROPOSE
    run = run_queue.create(config, promote=promote, by=BY)
    runs.perform(run.pk)
    run.refresh_from_db()
    return run
