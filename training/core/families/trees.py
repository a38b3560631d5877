"""The family of boosted trees: XGBoost (Chen and Guestrin, XGBoost: A Scalable Tree Boosting System, KDD 2016).

Trees need no scaling or encoding of rows, and know categories and missing values. The one file is in XGBoost's own
UBJSON, with numbers and names only.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import xgboost
from scipy.special import expit

from training.core.configuration.sections import Columns, TreeHyperparameters
from training.core.exceptions import BundleRefused
from training.core.families import Fitted, OnEpoch, Rows

FILE = "trees.ubj"
# XGBoost's names of the settings in the configuration's section `xgboost`.
THEIR_NAMES = {
    "learning_rate": "eta",
    "depth": "max_depth",
    "leaf_weight": "min_child_weight",
    "row_share": "subsample",
    "feature_share": "colsample_bytree",
    "l2": "lambda",
}


def fit(hyperparameters: TreeHyperparameters, train: Rows, validation: Rows, on_epoch: OnEpoch) -> Fitted:
    """See `families.Family`. An epoch is a tree; those after the lowest validation loss are cut off."""
    parts = [
        (_matrix(rows.astype(np.float32), hyperparameters.columns, labels), name)
        for (rows, labels), name in ((train, "train"), (validation, "validation"))
    ]
    parameters = {
        "objective": "binary:logistic",
        "eval_metric": ["aucpr", "logloss"],
        "tree_method": "hist",
        "seed": hyperparameters.seed,
        "verbosity": 0,
    } | {theirs: getattr(hyperparameters, ours) for ours, theirs in THEIR_NAMES.items()}
    logs: dict[str, dict[str, list[float]]] = {}
    # Stop by the loss, not by the AUPRC: with a few dozen frauds, the AUPRC of a few trees can be highest by chance.
    stop = xgboost.callback.EarlyStopping(
        rounds=max(1, hyperparameters.patience), metric_name="logloss", data_name="validation"
    )
    booster = xgboost.train(
        parameters,
        parts[0][0],
        hyperparameters.epochs,
        evals=parts,
        evals_result=logs,
        verbose_eval=False,
        callbacks=[_ReportEpochs(on_epoch), stop],
    )
    kept = booster.best_iteration + 1
    return Fitted({FILE: bytes(booster[:kept].save_raw("ubj"))}, _history(logs), kept)


def restore(hyperparameters: TreeHyperparameters, files: Mapping[str, bytes]) -> "Scorer":
    """See `families.Family`."""
    return Scorer.read(files, hyperparameters.columns)


def _matrix(
    rows: np.ndarray, columns: Columns | None, labels: np.ndarray | None = None, threads: int | None = None
) -> xgboost.DMatrix:
    types = ["c" if values else "q" for values in columns.values] if columns else None
    return xgboost.DMatrix(rows, labels, feature_types=types, enable_categorical=columns is not None, nthread=threads)


def device() -> str:
    return "CPU"


def _history(logs: Mapping[str, Mapping[str, list[float]]]) -> dict[str, list[float]]:
    return {
        "loss": logs["train"]["logloss"],
        "val_loss": logs["validation"]["logloss"],
        "val_auprc": logs["validation"]["aucpr"],
    }


class _ReportEpochs(xgboost.callback.TrainingCallback):
    def __init__(self, on_epoch: OnEpoch) -> None:
        super().__init__()
        self._on_epoch = on_epoch

    def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: Mapping[str, Any]) -> bool:
        self._on_epoch(epoch + 1, {name: values[-1] for name, values in _history(evals_log).items()})
        return False


class Scorer:
    """Trained trees. See `families.Scorer`."""

    def __init__(self, booster: xgboost.Booster, columns: Columns | None) -> None:
        self._booster, self._columns = booster, columns
        self._required = np.setdiff1d(np.arange(booster.num_features()), columns.optional if columns else [])
        # A batch is small, and threads would only wait for each other.
        self._booster.set_param({"nthread": 1})
        self.baseline = float(self._contributions(np.zeros((1, booster.num_features()), np.float32))[0, -1])

    @classmethod
    def read(cls, files: Mapping[str, bytes], columns: Columns | None = None) -> Self:
        content = files.get(FILE, b"")
        if not content:  # XGBoost aborts the process for an empty file
            raise BundleRefused(f"{FILE} is missing or empty.")
        try:
            return cls(xgboost.Booster(model_file=bytearray(content)), columns)
        except xgboost.core.XGBoostError as error:
            raise BundleRefused(f"{FILE} is no model of boosted trees.") from error

    def warm(self) -> None:
        row = np.zeros((1, self._booster.num_features()), np.float32)
        self.score(row)
        self.explain(row)

    def score(self, features: np.ndarray) -> np.ndarray:
        """See `families.Scorer`."""
        if not len(features):
            return np.empty(0, np.float32)
        logits = self._booster.inplace_predict(features, predict_type="margin", validate_features=False)
        # XGBoost takes every NaN for a missing value, also where none may be missing.
        return np.where(np.isnan(features[:, self._required]).any(axis=1), np.nan, expit(logits))

    def explain(self, features: np.ndarray) -> np.ndarray:
        """See `families.Scorer`. Exact Shapley values of the trees (Lundberg et al., From local explanations to global
        understanding with explainable AI for trees, Nature Machine Intelligence 2020). Those of a row add up to its
        logit minus the mean over the training rows."""
        if not len(features):
            return np.empty((0, self._booster.num_features()), np.float32)
        return self._contributions(features)[:, :-1]

    def _contributions(self, features: np.ndarray) -> np.ndarray:
        """The contributions of the features, and in the last column the baseline, [n, f + 1] float32."""
        return self._booster.predict(_matrix(features, self._columns, threads=1), pred_contribs=True)
