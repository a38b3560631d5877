"""The families of models. A family is a module or package with the functions of `Family`; a new one also needs a line
in `FAMILIES`.

A trained model is files by name, so that a bundle can keep, hash and sign them without knowing their format. A family
never writes files that run code when they are read: no pickle, no serialised code.
"""

import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import asdict

from training.core import stages
from training.core.bundle import Bundle
from training.core.configuration.sections import (
    SETTINGS,
    Configuration,
    Hyperparameters,
    NetworkHyperparameters,
    TreeHyperparameters,
)
from training.core.evaluation.calibration import Calibration, probabilities_of
from training.core.exceptions import BundleRefused, ConfigurationError
from training.core.schema import load_schema

Rows = tuple[np.ndarray, np.ndarray]
# Closer to the baseline than this, in logits, the slope of the calibration is that at the baseline: see
# `Calibrated.explain`.
SMALLEST_TOTAL = 0.01
# How many scorers a process keeps, beside those in use.
SCORERS_KEPT = 4
# Hyperparameters by name, as JSON has them.
Recorded = dict[str, Any]
OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Fitted:
    """The result of training: contents by file name; `history` with a number per epoch of at least `loss`, `val_loss`
    and `val_auprc`; and the epoch, from 1, whose weights the files have."""

    files: dict[str, bytes]
    history: dict[str, list[float]]
    kept_epoch: int


class Scorer(Protocol):
    """A trained model in memory. `baseline` is the logit of an ordinary transaction, as the family defines it.

    Its rows are encoded by `families.encoding`: categories are 0 for unseen values and from 1 for the others, and NaN
    is a missing value. A row with NaN in a column that may not be missing has the score NaN."""

    @property
    def baseline(self) -> float: ...

    def warm(self) -> None:
        """Run everything once, so that nothing is compiled for the first transaction."""

    def score(self, features: np.ndarray) -> np.ndarray:
        """Score rows of features, [n, f] float32 for any n. Returns [n] floats in [0, 1], higher is riskier. The score
        of a row does not depend on the other rows, to the last bit."""

    def explain(self, features: np.ndarray) -> np.ndarray:
        """The contribution of each feature to a row's logit, above the baseline; [n, f] float32 to [n, f] floats. They
        add up to the logit minus the baseline, up to rounding."""


@dataclass(frozen=True)
class Trained:
    """A model that was just trained: its files and history for a bundle, and its scorer."""

    fitted: Fitted
    scorer: Scorer

    def score(self, features: np.ndarray) -> np.ndarray:
        """Score rows of an encoded dataset, [n, f] float64; see `Scorer.score`."""
        return self.scorer.score(features.astype(np.float32))


class Family(Protocol):
    """The functions of a family's module."""

    def fit(self, hyperparameters: Hyperparameters, train: Rows, validation: Rows, on_epoch: OnEpoch) -> Fitted:
        """Train a model. Only `families.train` calls it.

        Args:
            hyperparameters: of the type that `FAMILIES` names, with an `architecture` that leads to this family. If
                some inputs are categories or may be missing, `columns` says which.
            train: rows [n, f] float64 and labels [n] of 0 and 1. Everything is fitted on these.
            validation: likewise; only for deciding when to stop.
            on_epoch: called with the epoch's number, from 1, and its losses and metrics.
        """

    def restore(self, hyperparameters: Hyperparameters, files: Mapping[str, bytes]) -> Scorer:
        """Make a scorer from the files of `fit`.

        Raises:
            BundleRefused: the files do not fit the architecture.
        """

    def device(self) -> str:
        """The device on which it computes, as text."""


class Entry(NamedTuple):
    """The module of a family, its section of the configuration, and its hyperparameters."""

    module: str
    section: str
    hyperparameters: type[Hyperparameters]


# By architecture. Modules are imported when they are needed: TensorFlow takes seconds.
FAMILIES = {
    "mlp": Entry("training.core.families.networks", "model", NetworkHyperparameters),
    "bag": Entry("training.core.families.networks", "model", NetworkHyperparameters),
    "xgboost": Entry("training.core.families.trees", "xgboost", TreeHyperparameters),
}
# What `hyperparameters` adds to the section for a bag.
ADDED_FOR_A_BAG = {"amount_feature", "time_feature", "teacher"}


def ignored(architecture: str) -> set[str]:
    """The hyperparameters of its section that an architecture does not use; empty if it is unknown."""
    if architecture not in FAMILIES:
        return set()
    section = f"{FAMILIES[architecture].section}."
    of_others = {
        name.removeprefix(section) for name, setting in SETTINGS.items() if setting.only not in ("", architecture)
    }
    return of_others if architecture == "bag" else of_others | ADDED_FOR_A_BAG


def check(architecture: str) -> None:
    """Refuse an architecture that no family builds, without importing the family.

    Raises:
        ConfigurationError: there is no such architecture.
    """
    if architecture not in FAMILIES:
        raise ConfigurationError(f"model.architecture must be one of {sorted(FAMILIES)}, not {architecture}.")


def family_of(architecture: str) -> Family:
    """The family that builds an architecture. Its module is imported now: never call this in a web process.

    Raises:
        ConfigurationError: there is no such architecture.
    """
    check(architecture)
    return cast(Family, importlib.import_module(FAMILIES[architecture].module))


def train(
    hyperparameters: Hyperparameters,
    train: Rows,
    validation: Rows,
    *,
    on_epoch: OnEpoch | None = None,
    role: str = "model",
) -> Trained:
    """Train a model of `hyperparameters.architecture`; see `Family.fit`. All training goes through this function.

    Without `on_epoch`, each epoch is reported as a stage, with the model's `role`.

    Raises:
        ConfigurationError: there is no such architecture.
    """
    architecture, epochs = hyperparameters.architecture, hyperparameters.epochs
    family = family_of(architecture)

    def enter_stage(epoch: int, logs: dict[str, float]) -> None:
        stages.enter(f"Training the {role} ({architecture}), epoch {epoch} of {epochs}")

    fitted = family.fit(hyperparameters, train, validation, on_epoch or enter_stage)
    return Trained(fitted, family.restore(hyperparameters, fitted.files))


def hyperparameters(config: Configuration) -> Hyperparameters:
    """The hyperparameters of the chosen architecture.

    Raises:
        ConfigurationError: there is no such architecture; the model does not get a feature that is needed; or all
            members of a bag are students.
    """
    model = config.model
    check(model.architecture)
    if FAMILIES[model.architecture].section == "xgboost":
        return TreeHyperparameters(**asdict(config.xgboost), seed=model.seed)
    if model.students and model.students >= model.members:
        raise ConfigurationError(
            "model.students must be less than model.members: at least one member must learn from labels."
        )
    return NetworkHyperparameters(
        **asdict(model),
        amount_feature=_input_number(config, "log_amount", "amount") if model.log_amount else None,
        time_feature=_input_number(config, "time_of_day", "time") if model.time_of_day else None,
        teacher=TreeHyperparameters(**asdict(config.xgboost)) if model.students else None,
    )


def _input_number(config: Configuration, wish: str, role: str) -> int:
    """The index among the model's inputs of the feature that has this role in the schema."""
    schema = load_schema(config.data.schema)
    name = getattr(schema, role)
    if name not in schema.input_names:
        raise ConfigurationError(f"model.{wish} must be false: {name} of {schema.name} is no feature of the model.")
    return schema.input_names.index(name)


def as_recorded(hyperparameters: Struct) -> Recorded:
    """Hyperparameters as a bundle and a comparison keep them, without those that are None."""
    return {
        name: as_recorded(value) if isinstance(value, Struct) else value
        for name, value in asdict(hyperparameters).items()
        if value is not None
    }


def hyperparameters_of(bundle: Bundle) -> Hyperparameters:
    """The hyperparameters of a bundle's model; those that an older bundle does not have are the defaults.

    Raises:
        BundleRefused: its architecture is unknown, or a value is of another type or out of bounds.
    """
    try:
        check(bundle.architecture)
        kind = FAMILIES[bundle.architecture].hyperparameters
        return msgspec.convert(bundle.hyperparameters | {"architecture": bundle.architecture}, kind)
    except (ConfigurationError, msgspec.ValidationError) as error:
        raise BundleRefused(f"{bundle.version}: {error}") from error


def effective_hyperparameters(bundle: Bundle) -> Recorded:
    """The hyperparameters of a bundle that its architecture uses, without what it was told of its inputs."""
    left_out = ignored(bundle.architecture) | {"architecture", "columns"}
    return {name: value for name, value in bundle.hyperparameters.items() if name not in left_out}


class Explained(NamedTuple):
    """Why `n` rows have their scores, in logits of the calibrated score. `base` is that of an ordinary transaction,
    `contributions` [n, f] float64 are what each feature adds to it, raising or lowering, and `logits` [n] float64 are
    those of the scores. A row's base and contributions add up to its logit."""

    base: float
    contributions: np.ndarray
    logits: np.ndarray


class Calibrated:
    """A family's scorer with calibrated scores, and contributions that add up to them."""

    def __init__(self, scorer: Scorer, calibration: Calibration) -> None:
        self._scorer, self._calibration = scorer, calibration
        ordinary = probabilities_of(np.array([scorer.baseline]))
        self.base = float(calibration.logits(ordinary)[0])
        self._slope_at_base = float(calibration.slopes(ordinary)[0])

    def warm(self) -> None:
        self._scorer.warm()

    def score(self, features: np.ndarray) -> np.ndarray:
        """See `Scorer`. [n] float64."""
        return self._calibration(self._scorer.score(features))

    def explain(self, features: np.ndarray, scores: np.ndarray) -> Explained:
        """Explain the `scores` [n] that this gave to rows [n, f] float32.

        Calibration, with the rounding of scores, is a rising function of the family's logit. Between the logits of the
        baseline and of a row it has a mean slope, by which all contributions of the row are multiplied. So they add up
        exactly, and keep their order and shares.
        """
        contributions = self._scorer.explain(features).astype(np.float64)
        logits = self._calibration.logits_of_answers(scores)
        total = contributions.sum(axis=1)
        # Close to the baseline, a quotient would be one of rounding errors.
        slopes = np.full_like(total, self._slope_at_base)
        np.divide(logits - self.base, total, out=slopes, where=np.abs(total) > SMALLEST_TOTAL)
        return Explained(self.base, contributions * slopes[:, None], logits)


def scorer_of(bundle: Bundle) -> Calibrated:
    """The model of a bundle of any family, with the bundle's calibration.

    A few are kept in memory: one that comes back, as a champion after its successor, is not compiled again.

    Raises:
        BundleRefused: its architecture is unknown, its files do not fit, or its calibration is not valid.
    """
    known = hyperparameters_of(bundle)
    parts = (bundle.architecture, bundle.hyperparameters, bundle.files)
    digest = hashlib.sha256(msgspec.msgpack.encode(parts, order="deterministic")).digest()
    scorer = _kept.get(digest) or family_of(bundle.architecture).restore(known, bundle.files)
    _kept[digest] = scorer
    for oldest in list(_kept)[:-SCORERS_KEPT]:
        _kept.pop(oldest, None)
    return Calibrated(scorer, Calibration.from_json(bundle.description.calibration))


# By what they were made from.
_kept: dict[bytes, Scorer] = {}
