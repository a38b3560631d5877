"""Compares many models on several splits: `manage.py evaluate`.

A *case* is a split of the rows, a *contender* a way to make a model, and a *result* the scores of one contender, with
one seed, on one case. Results take hours, so each is kept as soon as it is done and never made twice: as a JSON file
that records how it was made, named by a hash of all that it depends on, and the scores of validation and test rows.
Metrics are computed from those scores afterwards, in seconds.

Test rows are only scored: fitting, tuning, the sanity check, calibration and thresholds use training and validation
rows alone.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.metrics import average_precision_score

from training.core import configuration, families
from training.core.comparison.baselines import BASELINES, Fit, Parameters, Score
from training.core.configuration.sections import Columns, Configuration, Hyperparameters
from training.core.datasets.splits import Split, split_rows
from training.core.datasets.storage import Dataset
from training.core.families import Rows, encoding
from training.core.scored import ScoredRows, pack, unpack

SEED_MLP = "seed-mlp"
# The seed system's network, independent of the shipped configuration.
SEED_SYSTEM = {
    "model.architecture": "mlp",
    "model.units": [32, 16],
    "model.dropout": 0.2,
    "model.learning_rate": 0.001,
    "model.batch_size": 1024,
    "model.epochs": 100,
    "model.patience": 5,
}
# A model whose validation AUPRC is this far below that of its search has collapsed, as boosted trees sometimes do on
# rare labels; then the next best parameters of the search are taken.
COLLAPSE = 0.15
PROTOCOLS = {"seed": 1, "stratified": 5, "time": 1}  # the number of splits of each protocol


@dataclass(frozen=True)
class Case:
    """One split under one protocol. `number` is the seed of a stratified split; the others have one split, 0."""

    protocol: str
    number: int

    def __str__(self) -> str:
        return f"{self.protocol} {self.number}" if PROTOCOLS[self.protocol] > 1 else self.protocol


@dataclass(frozen=True)
class Contender:
    """A way to make a model. With `space` its parameters are searched for; otherwise they are `parameters`. `seeds` is
    the number of models for a protocol with one split, `seeds_per_split` that for each of several splits."""

    name: str
    title: str
    fit: Fit
    parameters: Parameters
    space: Callable[[optuna.Trial], Parameters] | None = None
    trials: int = 0
    seeds: int = 1
    seeds_per_split: int = 1

    def seeds_of(self, case: Case) -> range:
        return range(self.seeds_per_split if PROTOCOLS[case.protocol] > 1 else self.seeds)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """How a result was made, as its JSON file keeps it. `split` is the number of the case, and `collapsed` how many
    better parameters of the search gave a model that had collapsed. `rows` and `frauds` are counts by part."""

    protocol: str
    split: int
    contender: str
    title: str
    seed: int
    parameters: Parameters
    collapsed: int
    trials: int
    seconds: float
    rows: dict[str, int]
    frauds: dict[str, int]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters to train with, and the AUPRC on validation rows that they had in a search, 0 without one."""

    parameters: Parameters
    value: float = 0.0


@dataclass(frozen=True)
class Result:
    """The scores of a contender on a case."""

    record: Record
    scored: dict[str, ScoredRows]

    @property
    def case(self) -> Case:
        return Case(self.record.protocol, self.record.split)


def contenders(schema: str, *, trials: int | None = None, seeds: int | None = None) -> dict[str, Contender]:
    """All contenders, by name: the baselines, the seed system's network, and the shipped configurations.

    `trials` and `seeds` replace the budget of every search and the number of models of a case.
    """
    found = {
        name: Contender(name, baseline.title, baseline.fit, {}, baseline.space, baseline.trials)
        for name, baseline in BASELINES.items()
    }
    seed_system = families.hyperparameters(configuration.read(overrides=SEED_SYSTEM))
    found[SEED_MLP] = _ours(SEED_MLP, "Keras: the seed system's MLP", seed_system, seeds=10, seeds_per_split=2)
    for path in configuration.recipes_of(schema):
        recipe = families.hyperparameters(configuration.read(path))
        if any(getattr(recipe, name.removeprefix("model."), None) != value for name, value in SEED_SYSTEM.items()):
            found[path.stem] = _ours(path.stem, f"{path.name}: {recipe.architecture}", recipe, seeds=3)
    for name, contender in found.items():
        if trials is not None and contender.space:
            found[name] = replace(contender, trials=trials)
        if seeds is not None:
            found[name] = replace(found[name], seeds=min(seeds, contender.seeds), seeds_per_split=1)
    return found


def _ours(
    name: str, title: str, hyperparameters: Hyperparameters, *, seeds: int, seeds_per_split: int = 1
) -> Contender:
    ignored = families.ignored(hyperparameters.architecture) | {"seed"}
    read = {key: value for key, value in families.as_recorded(hyperparameters).items() if key not in ignored}
    fit = partial(_fit_ours, hyperparameters)
    return Contender(name, title, fit, read, seeds=seeds, seeds_per_split=seeds_per_split)


def _fit_ours(
    shipped: Hyperparameters,
    parameters: Parameters,
    train: Rows,
    validation: Rows,
    columns: Columns | None,
    seed: int,
) -> Score:
    return families.train(msgspec.structs.replace(shipped, seed=seed, columns=columns), train, validation).score


class Comparison:
    """The results on a dataset, kept in a directory."""

    def __init__(self, dataset: Dataset, config: Configuration, directory: Path) -> None:
        self._dataset, self._config, self._directory = dataset, config, directory
        self._splits: dict[Case, Split] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def plan(self, cases: Sequence[Case], chosen: Sequence[Contender]) -> list[tuple[Case, Contender, int]]:
        """All results to make, in order: the quick contenders of all cases first."""
        return [(case, contender, seed) for contender in chosen for case in cases for seed in contender.seeds_of(case)]

    def is_finished(self, case: Case, contender: Contender, seed: int) -> bool:
        return self._path(case, contender, seed).exists()

    def finished(self, plan: Sequence[tuple[Case, Contender, int]]) -> Iterator[Result]:
        """The finished results of a plan."""
        for step in plan:
            path = self._path(*step)
            if path.exists():
                record = msgspec.json.decode(path.read_bytes(), type=Record)
                yield Result(record, unpack(path.with_suffix(".safetensors").read_bytes()))

    def make(self, case: Case, contender: Contender, seed: int, *, on_step: Callable[[str], None]) -> None:
        """Make a result and keep it. `on_step` is called with a text at each step."""
        split = self._split(case)
        data, columns = self._encoded(split)
        train, validation = data.rows(split.train), data.rows(split.validation)
        candidates = [Candidate(parameters=contender.parameters)]
        if contender.space:
            candidates = self._searched(case, contender, contender.space, on_step=on_step)
        on_step(f"{contender.title}, {case}, seed {seed}")
        started = time.monotonic()
        for attempt, candidate in enumerate(candidates):  # noqa: B007
            score = contender.fit(candidate.parameters, train, validation, columns, seed)
            scores = score(validation[0])
            if average_precision_score(validation[1], scores) >= candidates[0].value - COLLAPSE:
                break
        seconds = time.monotonic() - started
        scored = {
            "validation": data.scored(split.validation, scores),
            "test": data.scored(split.test, score(data.features[split.test])),
        }
        path = self._path(case, contender, seed)
        path.with_suffix(".safetensors").write_bytes(pack(scored))
        _write(
            path,
            Record(
                protocol=case.protocol,
                split=case.number,
                contender=contender.name,
                title=contender.title,
                seed=seed,
                parameters=candidate.parameters,
                collapsed=attempt,
                trials=contender.trials,
                seconds=round(seconds, 1),
                rows={part: len(rows) for part, rows in vars(split).items()},
                frauds={part: int(data.labels[rows].sum()) for part, rows in vars(split).items()},
            ),
        )

    def _searched(
        self,
        case: Case,
        contender: Contender,
        space: Callable[[optuna.Trial], Parameters],
        *,
        on_step: Callable[[str], None],
    ) -> list[Candidate]:
        """The trials of a search, best first.

        The search runs once per protocol, on its first split. It can be interrupted between trials.
        """
        case = Case(case.protocol, 0)
        path = self._directory / f"search-{self._hash(case, contender)}.json"
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=list[Candidate])
        split = self._split(case)
        data, columns = self._encoded(split)
        train, validation = data.rows(split.train), data.rows(split.validation)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal = path.with_suffix(".journal")
        study = optuna.create_study(
            study_name="search",
            storage=JournalStorage(JournalFileBackend(str(journal))),
            sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=max(4, contender.trials // 3)),
            direction="maximize",
            load_if_exists=True,
        )

        def objective(trial: optuna.Trial) -> float:
            on_step(f"{contender.title}, {case}: trial {trial.number + 1} of {contender.trials}")
            score = contender.fit(space(trial), train, validation, columns, 0)
            return float(average_precision_score(validation[1], score(validation[0])))

        done = sum(trial.state.is_finished() for trial in study.trials)
        study.optimize(objective, n_trials=max(0, contender.trials - done))
        finished = [trial for trial in study.trials if trial.value is not None]
        finished.sort(key=lambda trial: trial.value or 0.0, reverse=True)
        found = [Candidate(parameters=trial.params, value=trial.value or 0.0) for trial in finished]
        _write(path, found)
        journal.unlink()
        return found

    def _encoded(self, split: Split) -> tuple[Dataset, Columns | None]:
        """The dataset with its categories numbered as in the split's training rows, and what is to know of columns."""
        encode = encoding.learn(self._dataset, split.train)
        return encode.applied_to(self._dataset), encode.columns

    def _split(self, case: Case) -> Split:
        if case not in self._splits:
            overrides = {"split.protocol": case.protocol, "split.seed": case.number}
            chosen = configuration.with_overrides(self._config, overrides).split
            self._splits[case] = split_rows(chosen, self._dataset)
        return self._splits[case]

    def _path(self, case: Case, contender: Contender, seed: int) -> Path:
        return (
            self._directory
            / f"{case.protocol}-{case.number}-{contender.name}-{seed}-{self._hash(case, contender)}.json"
        )

    def _hash(self, case: Case, contender: Contender) -> str:
        """A hash of all that a result depends on, except its case and seed, which are in the file's name."""
        rows = {part: hashlib.sha256(rows.tobytes()).hexdigest() for part, rows in vars(self._split(case)).items()}
        decides = {
            "data": self._dataset.report.source_sha256,
            "schema": self._dataset.schema.hash,
            "split": rows,
            "contender": contender.name,
            "parameters": contender.parameters,
            "trials": contender.trials,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]


def _write(path: Path, content: Record | Sequence[Candidate]) -> None:
    """Write the whole file or nothing, so that an interrupted result is made again."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(msgspec.to_builtins(content), indent=2))
    unfinished.replace(path)
