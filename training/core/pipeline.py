"""Trains a model on a dataset and writes a signed bundle."""

import importlib.metadata
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from msgspec.structs import asdict, replace

from training.core import evaluation, families, stages
from training.core.bundle import Bundle, write_bundle
from training.core.configuration import Configuration
from training.core.datasets import splits
from training.core.datasets.storage import Dataset
from training.core.description import ChosenPolicy, Description, Metrics, Model, Origin, SchemaOfModel, SplitMade
from training.core.evaluation import fitting, plots, policy
from training.core.evaluation.calibration import Calibration
from training.core.evaluation.importance import permutation_importance
from training.core.families import encoding, preprocessing
from training.core.features import typical
from training.core.scored import ScoredRows

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


def train(
    *,
    config: Configuration,
    dataset: Dataset,
    bundles_dir: Path,
    signing_key: str,
    on_epoch: Callable[[int, dict[str, float]], None],
    parent: str | None = None,
) -> Bundle:
    """Split, fit, choose thresholds on validation rows, evaluate on test rows, and write a bundle.

    `parent` is the current champion, for the bundle's lineage.

    Raises:
        ConfigurationError: the protocol or architecture is unknown, or does not suit the schema.
        DatasetError: a part of the split has only frauds or only legitimate rows.
    """
    hyperparameters = families.hyperparameters(config)
    architecture, seed = config.model.architecture, config.model.seed
    split = splits.split_rows(config.split, dataset)
    encode = encoding.learn(dataset, split.train)
    dataset, hyperparameters = encode.applied_to(dataset), replace(hyperparameters, columns=encode.columns)
    parts = {"validation": split.validation, "test": split.test}
    training_rows, validation_rows = dataset.rows(split.train), dataset.rows(split.validation)
    stages.enter(f"Training the model ({architecture})")
    model = families.train(hyperparameters, training_rows, validation_rows, on_epoch=on_epoch)
    stages.enter("Scoring the validation and test rows")
    raw = {name: dataset.scored(part, model.score(dataset.features[part])) for name, part in parts.items()}
    stages.enter("Calibrating, and choosing the thresholds")
    calibrate, losses, held_out = _calibrated(config, raw["validation"])
    scored = _probabilities(raw, calibrate, held_out)
    days = {name: dataset.days_of(part) for name, part in parts.items()}
    review, block = _thresholds(config, scored["validation"], days["validation"])
    stages.enter(f"Evaluating, on {config.evaluation.bootstrap_resamples} resamples of validation and test rows")
    metrics = {name: _metrics(config, dataset, part, scored[name], threshold=review) for name, part in parts.items()}
    stages.enter("Measuring the importance of each feature")
    names, scores = dataset.schema.input_names, calibrate(raw["validation"].scores)
    description = _provenance(config, dataset, split, encode, parent)(
        model=Model(architecture=architecture, hyperparameters=families.as_recorded(hyperparameters)),
        policy=ChosenPolicy(**asdict(config.policy), review_threshold=review, block_threshold=block),
        metrics=metrics,
        calibration=calibrate.as_json(),
        calibration_losses=losses,
        days=days,
        history=model.fitted.history,
        kept_epoch=model.fitted.kept_epoch,
        importance=permutation_importance(model.score, *validation_rows, scores, names=names, seed=seed),
    )
    stages.enter("Drawing the plots and writing the bundle")
    return write_bundle(
        bundles_dir / _version(description, seed),
        description=description,
        model_files=model.fitted.files,
        reference=preprocessing.reference(names, training_rows[0], scores, dataset.schema.optional_inputs),
        test_rows=split.test,
        scored=scored,
        plots=plots.draw(scored, raw, model.fitted.history, kept_epoch=model.fitted.kept_epoch, threshold=review),
        signing_key=signing_key,
    )


def _probabilities(raw: dict[str, ScoredRows], calibrate: Calibration, held_out: np.ndarray) -> dict[str, ScoredRows]:
    """The calibrated scores. Those of validation rows are by a calibration that did not see them, as thresholds are
    chosen on these."""
    return {
        "validation": raw["validation"]._replace(scores=held_out),
        "test": raw["test"]._replace(scores=calibrate(raw["test"].scores)),
    }


def _version(description: Description, seed: int) -> str:
    created_at = datetime.fromisoformat(description.created_at)
    return f"{created_at:%Y%m%d-%H%M%S}-{description.schema.name}-{description.split.protocol}-{seed}"


def _metrics(
    config: Configuration, dataset: Dataset, part: np.ndarray, rows: ScoredRows, *, threshold: float
) -> Metrics:
    """The metrics of a part's rows; if rows have a day and a card, also the card precision."""
    resamples, seed, weights = config.evaluation.bootstrap_resamples, config.model.seed, None
    if dataset.weights is not None:  # a row that comes several times is one row to the intervals
        part, rows, weights = rows.once(part)
    metrics = policy.metrics_at(
        config.policy, rows, threshold=threshold, resamples=resamples, seed=seed, weights=weights
    )
    if timeline := dataset.timeline:
        days, cards = timeline.day[part], timeline.card[part]
        precision = evaluation.card_precision(rows.labels, rows.scores, days, cards, top=100)
        return replace(metrics, card_precision_100=precision)
    return metrics


def _provenance(
    config: Configuration, dataset: Dataset, split: splits.Split, encode: encoding.Encoding, parent: str | None
) -> Callable[..., Description]:
    """`Description` with the fields filled in that say what a model is made from, when and where."""
    schema, report = dataset.schema, dataset.report
    return partial(
        Description,
        created_at=datetime.now(UTC).isoformat(),
        vocabularies={name: list(texts) for name, texts in encode.vocabularies.items()},
        typical=typical.measure(schema, dataset.features[split.train], encode.vocabularies),
        schema=SchemaOfModel(name=schema.name, hash=schema.hash, features=list(schema.input_names)),
        data=Origin(sha256=report.source_sha256, rows=report.rows, frauds=report.frauds),
        split=SplitMade(**asdict(config.split) | {name: len(part) for name, part in vars(split).items()}),
        device=families.family_of(config.model.architecture).device(),
        packages=_package_versions(),
        git_commit=_git_commit(),
        parent=parent,
    )


def _calibrated(config: Configuration, validation: ScoredRows) -> fitting.Choice:
    """The calibration of validation rows. The seed system does not calibrate."""
    if config.split.protocol == "seed":
        return fitting.Choice(Calibration(), {}, validation.scores)
    return fitting.choose(validation.labels, validation.scores)


def _thresholds(config: Configuration, validation: ScoredRows, days: float | None) -> tuple[float, float | None]:
    """The review and the block threshold, from validation rows only. The seed system has a fixed one."""
    if config.split.protocol == "seed":
        return SEED_PROTOCOL_THRESHOLD, None
    review = policy.review_threshold(config.policy, validation, days=days)
    return review, policy.block_threshold(config.policy, validation, review=review)


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_commit() -> str | None:
    """The commit of the code, with "-dirty" appended if the code differs; None without a repository or git."""
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
