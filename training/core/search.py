"""Searches hyperparameters, on training and validation rows only.

A study is a file to which all processes of a search add lines: it can be interrupted and continued, and machines that
share the disk share the search. Method: tree-structured Parzen estimator (Bergstra, Bardenet, Bengio and Kégl,
Algorithms for Hyper-Parameter Optimization, NIPS 2011); trials below the median are pruned.
"""

import json
from collections.abc import Callable
from pathlib import Path

import optuna
from msgspec.structs import replace
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sklearn.metrics import average_precision_score

from training.core import configuration, families, stages
from training.core.configuration import Configuration, Overrides
from training.core.configuration.sections import SETTINGS, Between, Tried
from training.core.datasets import splits
from training.core.datasets.storage import Dataset
from training.core.exceptions import ConfigurationError
from training.core.families import encoding

# How often a trial reports its AUPRC, at most; each report is a line in the study.
REPORTS = 20
# A trial is not pruned before this epoch.
WARM_UP = 5


# The search space, by architecture and setting.
SPACES: dict[str, dict[str, Tried]] = {
    architecture: {
        name: tried
        for name, setting in SETTINGS.items()
        if name.startswith(f"{entry.section}.") and (tried := setting.tried_for(architecture)) is not None
    }
    for architecture, entry in families.FAMILIES.items()
}


def open_study(path: Path, config: Configuration | None = None) -> optuna.Study:
    """Open the study of a file: begin it with a configuration, or continue it.

    Raises:
        ConfigurationError: there is neither a study nor a configuration; the study was begun with another
            configuration; or the architecture has no search space.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if config is None and not path.is_file():
        raise ConfigurationError(f"There is no study {path.stem}.")
    if config is not None and not SPACES.get(config.model.architecture):
        tuned = sorted(architecture for architecture, space in SPACES.items() if space)
        raise ConfigurationError(f"model.architecture must be one of {tuned} to be tuned.")
    path.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=path.stem,
        storage=JournalStorage(JournalFileBackend(str(path))),
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=WARM_UP),
        load_if_exists=True,
    )
    kept = study.user_attrs.get("configuration")
    if kept is None and config is not None:
        study.set_user_attr("configuration", configuration.as_json(config))
    elif config is not None and begun_with(study) != config:
        raise ConfigurationError(f"The study {path.stem} was begun with another configuration: choose another name.")
    study.sampler = optuna.samplers.TPESampler(constant_liar=True)  # several workers may use the study at once
    return study


def begun_with(study: optuna.Study) -> Configuration:
    """The configuration with which a study was begun."""
    return configuration.from_json(study.user_attrs["configuration"])


def run_trial(
    study: optuna.Study,
    dataset: Dataset,
    *,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, logs: None,
) -> optuna.trial.FrozenTrial:
    """Draw hyperparameters, train with them, and evaluate them by the AUPRC of validation rows. Test rows are split off
    before anything is trained.

    Raises:
        ConfigurationError, DatasetError: see `pipeline.train`.
    """
    config = begun_with(study)
    split = splits.split_rows(config.split, dataset)
    encode = encoding.learn(dataset, split.train)
    train, validation = (encode.applied_to(dataset).rows(part) for part in (split.train, split.validation))
    trial = study.ask()
    stages.enter(f"Trial {trial.number}: loading the model's library")
    try:
        chosen = configuration.with_overrides(config, draw(trial, config.model.architecture))
        hyperparameters = replace(families.hyperparameters(chosen), columns=encode.columns)
        every = max(1, hyperparameters.epochs // REPORTS)

        def report(epoch: int, logs: dict[str, float]) -> None:
            on_epoch(epoch, logs)
            stages.enter(f"Trial {trial.number}: epoch {epoch}, AUPRC {logs['val_auprc']:.4f}")
            if epoch % every == 0:
                trial.report(logs["val_auprc"], epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned

        scores = families.train(hyperparameters, train, validation, on_epoch=report).score(validation[0])
    except optuna.TrialPruned:
        return study.tell(trial, state=TrialState.PRUNED)
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    return study.tell(trial, float(average_precision_score(validation[1], scores)))


def draw(trial: optuna.trial.BaseTrial, architecture: str) -> Overrides:
    """Hyperparameters of a trial, as overrides of the configuration."""
    overrides: Overrides = {}
    for name, space in SPACES[architecture].items():
        if isinstance(space, Between):
            overrides[name] = trial.suggest_float(name, space.low, space.high, log=space.log)
        else:
            # A study can store only plain values, so lists are stored as JSON.
            overrides[name] = json.loads(trial.suggest_categorical(name, [json.dumps(item) for item in space]))
    return overrides


def best(study: optuna.Study) -> Configuration:
    """The configuration of the best trial.

    Raises:
        ConfigurationError: no trial has been finished.
    """
    if not done(study):
        raise ConfigurationError(f"No trial of the study {study.study_name} has been finished.")
    config, found = begun_with(study), optuna.trial.FixedTrial(study.best_params)
    return configuration.with_overrides(config, draw(found, config.model.architecture))


def done(study: optuna.Study) -> int:
    """How many trials are complete or pruned."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def as_toml(config: Configuration) -> str:
    """The values that differ from the defaults, for `train --config`."""
    shipped = configuration.as_json(configuration.read())
    lines = []
    for section, keys in configuration.as_json(config).items():
        differing = {key: value for key, value in keys.items() if value != shipped[section][key]}
        if differing:
            # Of strings, numbers, lists and booleans, JSON is TOML.
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in differing.items()), ""]
    return "\n".join(lines)
