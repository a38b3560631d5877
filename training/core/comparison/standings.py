"""What the cells of a comparison amount to: per protocol and contender every metric, its interval, and differences.

A model is judged as `manage.py train` judges its own: calibration and threshold come from the validation rows, metrics
from the test rows. Every model of a case meets the same bootstrap draws, so differences are paired.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.core import evaluation
from training.core.comparison.cells import Case, Cell
from training.core.configuration import Configuration
from training.core.evaluation import Ranking, calibration
from training.core.scored import ScoredRows

# Beside the metrics of the calibrated scores: what they were before.
RAW_METRICS = ("brier", "calibration_error")


@dataclass(frozen=True)
class Judged:
    """A cell's metrics by name, and each over the bootstrap's draws [resamples]; its scores once calibrated."""

    cell: Cell
    values: dict[str, float]
    drawn: dict[str, np.ndarray]
    calibrated: ScoredRows
    method: str


@dataclass(frozen=True)
class Standing:
    """What a contender achieved under a protocol: means over its models of each split, then over splits.

    `values`, `lows` and `highs` by metric, with 95 % intervals over the draws of test rows; `spread` is the standard
    deviation over its models, None of a single one. The intervals of several splits are narrower than they should be,
    because the splits share rows.
    """

    protocol: str
    name: str
    title: str
    judged: list[Judged]
    values: dict[str, float]
    drawn: dict[str, np.ndarray]
    spread: dict[str, float | None]

    def interval(self, metric: str) -> tuple[float | None, float | None]:
        return evaluation.interval(self.drawn[metric]) if metric in self.drawn else (None, None)

    def ahead_of(self, other: "Standing", metric: str) -> tuple[float, float | None, float | None]:
        """The paired difference of the means, and its interval; 0 outside of it is a difference."""
        low, high = evaluation.interval(self.drawn[metric] - other.drawn[metric])
        return self.values[metric] - other.values[metric], low, high

    @property
    def seconds(self) -> float:
        return float(np.mean([one.cell.said["seconds"] for one in self.judged]))


def judge(cell: Cell, config: Configuration) -> Judged:
    """Calibrate, choose a threshold, and judge. Where no threshold attains the precision, nothing is an alert."""
    policy, evaluated = config.policy, config.evaluation
    validation, test = cell.scored["validation"], cell.scored["test"]
    calibrate, _ = calibration.choose(validation.labels, validation.scores)
    chosen_on, judged_on = (rows._replace(scores=calibrate(rows.scores)) for rows in (validation, test))
    threshold = evaluation.threshold_for_precision(chosen_on.labels, chosen_on.scores, policy.review_precision)
    ranking = Ranking(
        judged_on.labels,
        judged_on.scores,
        threshold=np.inf if threshold is None else threshold,
        amounts=None if np.isnan(test.amounts).any() else test.amounts,
        review_cost=policy.review_cost,
    )
    raw = Ranking(test.labels, test.scores, threshold=0.5).metrics()
    values = ranking.metrics() | {f"raw_{name}": raw[name] for name in RAW_METRICS}
    drawn = ranking.bootstrap(resamples=evaluated.bootstrap_resamples, seed=cell.case.number)
    return Judged(cell, values, drawn, judged_on, calibrate.method)


def standings(cells: Sequence[Cell], config: Configuration, *, say: Callable[[str], None]) -> dict[str, list[Standing]]:
    """By protocol, the contenders in the order of their AUPRC. Only splits that all of them have judged count."""
    groups: dict[str, dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        groups[cell.case.protocol][cell.said["contender"]].append(cell)
    found = {}
    for protocol, contenders in groups.items():
        shared = set.intersection(*({cell.case for cell in made} for made in contenders.values()))
        of_protocol = []
        for name, made in contenders.items():
            judged = []
            for cell in made:
                if cell.case in shared:
                    say(f"Judging {cell.said['title']}, {cell.case}, seed {cell.said['seed']}")
                    judged.append(judge(cell, config))
            if judged:
                of_protocol.append(_standing(protocol, name, judged))
        found[protocol] = sorted(of_protocol, key=lambda standing: -standing.values["auprc"])
    return found


def _standing(protocol: str, name: str, judged: list[Judged]) -> Standing:
    by_case: dict[Case, list[Judged]] = defaultdict(list)
    for one in judged:
        by_case[one.cell.case].append(one)

    def mean(part: str, metric: str) -> Any:
        return np.mean(
            [np.mean([getattr(one, part)[metric] for one in models], axis=0) for models in by_case.values()], axis=0
        )

    first = judged[0]
    return Standing(
        protocol,
        name,
        first.cell.said["title"],
        judged,
        {metric: float(mean("values", metric)) for metric in first.values},
        {metric: mean("drawn", metric) for metric in first.drawn},
        {
            metric: float(np.std([one.values[metric] for one in judged], ddof=1)) if len(judged) > 1 else None
            for metric in first.values
        },
    )
