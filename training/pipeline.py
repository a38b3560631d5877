"""From stored rows to a signed bundle."""

import importlib.metadata
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from training import evaluation, plots, preprocessing, splits
from training.bundle import Bundle, write_bundle
from training.datasets.storage import Report
from training.exceptions import ConfigurationError, DatasetError
from training.schema import Schema

PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "tensorflow-macos", "scikit-learn", "numpy", "pandas")
SEED_PROTOCOL_THRESHOLD = 0.5
Config = dict[str, dict[str, Any]]


def train(
    *,
    config: Config,
    schema: Schema,
    features: np.ndarray,
    labels: np.ndarray,
    report: Report,
    bundles_dir: Path,
    signing_key: str,
    on_epoch: Callable[[int, dict[str, float]], None],
) -> Bundle:
    """Split, fit, choose thresholds on validation rows, judge on test rows, and write a bundle.

    `features` are [n, f] in the order of `schema.input_names`, `labels` [n] of 0 and 1.

    Raises:
        ConfigurationError: an unknown protocol or architecture.
        DatasetError: a part of the split has no fraud or nothing but fraud.
    """
    from training import model

    settings = config["model"]
    if settings["architecture"] not in model.ARCHITECTURES:
        raise ConfigurationError(f"model.architecture must be one of {sorted(model.ARCHITECTURES)}.")
    split = _split(config["split"], features, labels)
    rows = features.astype(np.float32)
    mean, scale = preprocessing.standardisation(features[split.train])
    weights, history = model.fit(
        architecture=settings["architecture"],
        hyperparameters=settings,
        mean=mean,
        scale=scale,
        train=(rows[split.train], labels[split.train]),
        validation=(rows[split.validation], labels[split.validation]),
        seed=settings["seed"],
        on_epoch=on_epoch,
    )
    scorer = model.Scorer(settings["architecture"], settings, weights)
    scored = {
        name: (labels[part], scorer.score(rows[part]).astype(np.float64))
        for name, part in (("validation", split.validation), ("test", split.test))
    }
    review, block = _thresholds(config, *scored["validation"])
    metrics = {
        name: evaluation.evaluate(
            *pair, threshold=review, resamples=config["evaluation"]["bootstrap_resamples"], seed=settings["seed"]
        )
        | {"roc_auc_keras_binned": model.keras_binned_roc_auc(*pair)}
        for name, pair in scored.items()
    }
    now = datetime.now(UTC)
    description = {
        "created_at": now.isoformat(),
        "schema": {"name": schema.name, "hash": schema.hash, "features": schema.input_names},
        "model": {"architecture": settings["architecture"], "hyperparameters": settings},
        "policy": config["policy"] | {"review_threshold": review, "block_threshold": block, "chosen_on": "validation"},
        "metrics": metrics,
        "history": history,
        "data": {"sha256": report.source_sha256, "rows": report.rows, "frauds": report.frauds},
        "split": config["split"] | {name: len(part) for name, part in vars(split).items()},
        "device": model.device(),
        "packages": _package_versions(),
        "git_commit": _git_commit(),
    }
    return write_bundle(
        bundles_dir / f"{now:%Y%m%d-%H%M%S}-{schema.name}-{config['split']['protocol']}-{settings['seed']}",
        description=description,
        weights=weights,
        reference=preprocessing.reference(schema.input_names, features[split.train], scored["validation"][1]),
        test_rows=split.test,
        plots=plots.draw(scored, history, threshold=review),
        signing_key=signing_key,
    )


def _split(config: dict[str, Any], features: np.ndarray, labels: np.ndarray) -> splits.Split:
    match config["protocol"]:
        case "stratified":
            try:
                split = splits.stratified(
                    features, labels, test=config["test"], validation=config["validation"], seed=config["seed"]
                )
            except ValueError as error:
                raise DatasetError(f"The rows cannot be split: {error}") from error
        case "seed":
            split = splits.seed_system(labels)
        case other:
            raise ConfigurationError(f"split.protocol must be stratified or seed, not {other}.")
    for name, part in vars(split).items():
        if not 0 < labels[part].sum() < len(part):
            raise DatasetError(f"The {name} rows need both fraud and legitimate transactions.")
    return split


def _thresholds(config: Config, labels: np.ndarray, scores: np.ndarray) -> tuple[float, float | None]:
    """Review and block threshold, from validation rows only. The seed system has a fixed one."""
    if config["split"]["protocol"] == "seed":
        return SEED_PROTOCOL_THRESHOLD, None
    policy = config["policy"]
    review = evaluation.threshold_for_precision(labels, scores, policy["review_precision"])
    if review is None:
        raise DatasetError(
            f"No threshold has a precision of {policy['review_precision']} on the validation rows. "
            "Lower policy.review_precision, or train longer or on more rows."
        )
    block = evaluation.threshold_for_precision(labels, scores, policy["block_precision"])
    return review, None if block is None else max(review, block)


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_commit() -> str | None:
    """The commit of the code, where there is a repository and git to ask."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
