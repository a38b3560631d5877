"""From stored rows to a signed bundle."""

import importlib.metadata
import math
import subprocess
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from training.core import evaluation, families, stages
from training.core.bundle import Bundle, Scored, write_bundle
from training.core.datasets import splits
from training.core.datasets.storage import Dataset
from training.core.evaluation import calibration, plots, policy
from training.core.evaluation.calibration import Calibration
from training.core.evaluation.importance import permutation_importance
from training.core.exceptions import ConfigurationError, DatasetError
from training.core.families import preprocessing

PACKAGES = (
    "keras",
    "xgboost",
    "xgboost-cpu",
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-macos",
    "scikit-learn",
    "numpy",
    "pandas",
)
SEED_PROTOCOL_THRESHOLD = 0.5
Config = dict[str, dict[str, Any]]


def train(
    *,
    config: Config,
    dataset: Dataset,
    bundles_dir: Path,
    signing_key: str,
    on_epoch: Callable[[int, dict[str, float]], None],
    parent: str | None = None,
) -> Bundle:
    """Split, fit, choose thresholds on validation rows, judge on test rows, and write a bundle.

    `parent` is the version that decides now, for the bundle's lineage.

    Raises:
        ConfigurationError: an unknown protocol or architecture, or one that does not suit the schema.
        DatasetError: a part of the split has no fraud or nothing but fraud.
    """
    hyperparameters = families.hyperparameters(config)
    architecture, seed = hyperparameters["architecture"], hyperparameters["seed"]
    family = families.family_of(architecture)
    schema, features, labels, timeline = dataset.schema, dataset.features, dataset.labels, dataset.timeline
    split = split_rows(config["split"], dataset)
    training_rows = features[split.train]
    stages.enter(f"Training the model ({architecture})")
    fitted = family.fit(
        architecture=architecture,
        hyperparameters=hyperparameters,
        train=dataset.rows(split.train),
        validation=dataset.rows(split.validation),
        seed=seed,
        on_epoch=on_epoch,
    )
    stages.enter("Scoring the validation and test rows")
    scorer = family.restore(architecture, hyperparameters, fitted.files)
    amounts = dataset.amounts
    parts = {"validation": split.validation, "test": split.test}
    raw = {
        name: Scored(
            labels[part].astype(np.int8),
            scorer.score(features[part].astype(np.float32)).astype(np.float64),
            amounts[part],
        )
        for name, part in parts.items()
    }
    stages.enter("Calibrating, and choosing the thresholds")
    calibrate, losses = _calibrated(config, raw["validation"])
    scored = {name: rows._replace(scores=calibrate(rows.scores)) for name, rows in raw.items()}
    days = {name: dataset.days_of(part) for name, part in parts.items()}
    review, block = _thresholds(config, scored["validation"], days["validation"])
    stages.enter(f"Judging, on {config['evaluation']['bootstrap_resamples']} resamples of the validation and test rows")
    metrics = {
        name: policy.judged(
            config["policy"],
            rows,
            threshold=review,
            resamples=config["evaluation"]["bootstrap_resamples"],
            seed=seed,
        )
        for name, rows in scored.items()
    }
    if timeline:
        for name, part in (("validation", split.validation), ("test", split.test)):
            rows, when, cards = scored[name], timeline.day[part], timeline.card[part]
            precision = evaluation.card_precision(rows.labels, rows.scores, when, cards, top=100)
            metrics[name]["card_precision_100"] = precision
    stages.enter("Measuring what each feature is worth")
    now = datetime.now(UTC)
    description = {
        "created_at": now.isoformat(),
        "schema": {"name": schema.name, "hash": schema.hash, "features": schema.input_names},
        "model": {"architecture": architecture, "hyperparameters": hyperparameters},
        "policy": config["policy"] | {"review_threshold": review, "block_threshold": block, "chosen_on": "validation"},
        "metrics": metrics,
        "calibration": calibrate.as_json(),
        "calibration_losses": losses,
        "days": days,
        "history": fitted.history,
        "kept_epoch": fitted.kept_epoch,
        "data": {
            "sha256": dataset.report.source_sha256,
            "rows": dataset.report.rows,
            "frauds": dataset.report.frauds,
        },
        "split": config["split"] | {name: len(part) for name, part in vars(split).items()},
        "device": family.device(),
        "packages": _package_versions(),
        "git_commit": _git_commit(),
        "parent": parent,
        "importance": permutation_importance(
            scorer.score,
            features[split.validation],
            labels[split.validation],
            scored["validation"].scores,
            names=schema.input_names,
            seed=seed,
        ),
    }
    stages.enter("Drawing the plots and writing the bundle")
    return write_bundle(
        bundles_dir / f"{now:%Y%m%d-%H%M%S}-{schema.name}-{config['split']['protocol']}-{seed}",
        description=description,
        model_files=fitted.files,
        reference=preprocessing.reference(schema.input_names, training_rows, scored["validation"].scores),
        test_rows=split.test,
        scored=scored,
        plots=plots.draw(scored, raw, fitted.history, kept_epoch=fitted.kept_epoch, threshold=review),
        signing_key=signing_key,
    )


def split_rows(config: dict[str, Any], dataset: Dataset) -> splits.Split:
    """Which rows train, choose and judge. See `train`."""
    labels = dataset.labels
    match config["protocol"]:
        case "stratified":
            try:
                split = splits.stratified(
                    dataset.features,
                    labels,
                    has_ids=dataset.schema.has_ids,
                    **{name: config[name] for name in ("test", "validation", "seed")},
                )
            except ValueError as error:
                raise DatasetError(f"The rows cannot be split: {error}") from error
        case "seed":
            split = splits.seed_system(labels)
        case "time":
            split = _split_by_time(config, dataset)
        case other:
            raise ConfigurationError(f"split.protocol must be stratified, seed or time, not {other}.")
    for name, part in vars(split).items():
        if not 0 < labels[part].sum() < len(part):
            raise DatasetError(f"The {name} rows need both fraud and legitimate transactions.")
    return split


def _split_by_time(config: dict[str, Any], dataset: Dataset) -> splits.Split:
    """By days where rows have a day and a card; where time is a feature, by shares of the rows."""
    schema, timeline = dataset.schema, dataset.timeline
    if timeline is None and schema.time in schema.input_names:
        return splits.past_and_future(dataset.features[:, schema.input_names.index(schema.time)])
    if timeline is None:
        raise ConfigurationError(f"{schema.name} has no card, and its time is no feature: not for split.protocol time.")
    try:
        test_start = date.fromisoformat(config["test_start"])
    except ValueError as error:
        raise ConfigurationError(f"split.test_start: {error}") from error
    return splits.by_time(
        timeline,
        dataset.labels,
        test_start=test_start,
        delay_days=math.ceil(schema.label_delay_days),
        **{name: config[name] for name in ("test_days", "validation_days", "train_days", "known_card_days")},
    )


def _calibrated(config: Config, validation: Scored) -> tuple[Calibration, dict[str, float]]:
    """The calibration, and the loss of each method on validation rows. The seed system has none."""
    if config["split"]["protocol"] == "seed":
        return Calibration(), {}
    return calibration.choose(validation.labels, validation.scores)


def _thresholds(config: Config, validation: Scored, days: float | None) -> tuple[float, float | None]:
    """Review and block threshold, from validation rows only. The seed system has a fixed one."""
    if config["split"]["protocol"] == "seed":
        return SEED_PROTOCOL_THRESHOLD, None
    review = policy.review_threshold(config["policy"], validation, days=days)
    return review, policy.block_threshold(config["policy"], validation, review=review)


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_commit() -> str | None:
    """The commit of the code, with "-dirty" behind it if the code differs; None without a repository or git to ask."""
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
