"""Baselines: models of other libraries that ours are compared with, each with its search space.

They are never deployed: a model that should score transactions is a family (training/core/families/). Imports are late,
because each takes a second.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optuna
from sklearn.base import TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from training.core import families
from training.core.configuration.sections import Columns, TreeHyperparameters
from training.core.exceptions import ConfigurationError
from training.core.families import Rows

# From rows [n, f] to scores [n] in [0, 1].
Score = Callable[[np.ndarray], np.ndarray]
Parameters = dict[str, Any]
# Trains with parameters on training and validation rows, whose columns are as said, and with a seed.
Fit = Callable[[Parameters, Rows, Rows, Columns | None, int], Score]
ROUNDS, PATIENCE = 1000, 50
# HistGradientBoosting has at most 255 values of a category. It takes more for numbers, the most frequent first.
MOST_VALUES_OF_HISTOGRAMS = 254


class Baseline(NamedTuple):
    """`space` draws parameters; `fit` trains with them on training rows alone. Only boosted trees also use validation
    rows, for the number of trees with the lowest loss. `trials` is the budget of the search."""

    title: str
    space: Callable[[optuna.Trial], Parameters]
    fit: Fit
    trials: int


def _logistic_space(trial: optuna.Trial) -> Parameters:
    return {"C": trial.suggest_float("C", 1e-4, 1e2, log=True)}


def _logistic(parameters: Parameters, train: Rows, validation: Rows, columns: Columns | None, seed: int) -> Score:
    model = make_pipeline(*_as_numbers(columns), StandardScaler(), LogisticRegression(max_iter=1000, **parameters))
    return _probability(model.fit(*train))


def _forest_space(trial: optuna.Trial) -> Parameters:
    return {
        "max_features": trial.suggest_int("max_features", 3, 12),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 20, log=True),
        "max_samples": trial.suggest_float("max_samples", 0.05, 0.25),
    }


def _forest(parameters: Parameters, train: Rows, validation: Rows, columns: Columns | None, seed: int) -> Score:
    forest = RandomForestClassifier(100, n_jobs=-1, random_state=seed, **parameters)
    return _probability(make_pipeline(*_as_numbers(columns), forest).fit(*train))


def _histogram_space(trial: optuna.Trial) -> Parameters:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
        "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 7, 63, log=True),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 5, 200, log=True),
        "max_features": trial.suggest_float("max_features", 0.3, 1.0),
        "l2_regularization": trial.suggest_float("l2_regularization", 1e-2, 1e2, log=True),
    }


def _histogram(parameters: Parameters, train: Rows, validation: Rows, columns: Columns | None, seed: int) -> Score:
    model = HistGradientBoostingClassifier(
        max_iter=ROUNDS,
        early_stopping=True,
        n_iter_no_change=PATIENCE,
        random_state=seed,
        categorical_features=_categories(columns, at_most=MOST_VALUES_OF_HISTOGRAMS) or None,
        **parameters,
    )
    return _probability(model.fit(*train, X_val=validation[0], y_val=validation[1]))


def _lightgbm_space(trial: optuna.Trial) -> Parameters:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 7, 63, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 200, log=True),
        "min_sum_hessian_in_leaf": trial.suggest_float("min_sum_hessian_in_leaf", 1e-4, 1.0, log=True),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 1e-2, 1e2, log=True),
    }


def _lightgbm(parameters: Parameters, train: Rows, validation: Rows, columns: Columns | None, seed: int) -> Score:
    try:
        import lightgbm
    except OSError as error:
        raise ConfigurationError(
            f"LightGBM cannot be loaded: {error}. Install OpenMP (libgomp1 on Debian, libomp on macOS), or choose "
            "others with --models."
        ) from error
    rows = lightgbm.Dataset(*train, categorical_feature=_categories(columns))
    settings = {
        "objective": "binary",
        "metric": "binary_logloss",
        "bagging_freq": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "verbosity": -1,
    }
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    model = lightgbm.train(
        settings | parameters,
        rows,
        ROUNDS,
        valid_sets=[lightgbm.Dataset(*validation, reference=rows, categorical_feature=_categories(columns))],
        callbacks=[stop],
    )
    return lambda rows: np.asarray(model.predict(rows))


def _xgboost_space(trial: optuna.Trial) -> Parameters:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
        "depth": trial.suggest_int("depth", 3, 9),
        "leaf_weight": trial.suggest_float("leaf_weight", 1e-3, 10, log=True),
        "row_share": trial.suggest_float("row_share", 0.5, 1.0),
        "feature_share": trial.suggest_float("feature_share", 0.3, 1.0),
        "l2": trial.suggest_float("l2", 1e-2, 1e2, log=True),
    }


def _xgboost(parameters: Parameters, train: Rows, validation: Rows, columns: Columns | None, seed: int) -> Score:
    """Our own family of boosted trees."""
    settings = TreeHyperparameters(epochs=ROUNDS, patience=PATIENCE, seed=seed, columns=columns, **parameters)
    # Epochs are not reported as stages: the stage is the trial of the search.
    return families.train(settings, train, validation, on_epoch=lambda epoch, logs: None).score


def _categories(columns: Columns | None, *, at_most: float = math.inf) -> list[int]:
    """The columns of categories with at most so many values."""
    return [column for column, values in enumerate(columns.values if columns else []) if 0 < values <= at_most]


def _as_numbers(columns: Columns | None) -> list[TransformerMixin]:
    """The steps that turn categories into a flag for each value, and missing numbers into their mean and a flag."""
    if columns is None:
        return []
    flags = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    numbers = SimpleImputer(add_indicator=True, keep_empty_features=True)
    return [make_column_transformer((flags, _categories(columns)), remainder=numbers)]


def _probability(model: Any) -> Score:
    return lambda rows: model.predict_proba(rows)[:, 1]


BASELINES = {
    "logistic": Baseline("logistic regression", _logistic_space, _logistic, 8),
    "lightgbm": Baseline("LightGBM", _lightgbm_space, _lightgbm, 15),
    "xgboost": Baseline("XGBoost", _xgboost_space, _xgboost, 15),
    "histogram": Baseline("HistGradientBoosting", _histogram_space, _histogram, 15),
    "forest": Baseline("random forest", _forest_space, _forest, 4),
}
