"""Turns the results of a comparison into standings: the metrics of each contender per protocol, with intervals, and
their differences.

Models are evaluated as in `manage.py train`: calibration and threshold come from the validation rows, metrics from the
test rows. All models of a case are evaluated on the same bootstrap draws, so differences are paired.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.core import evaluation
from training.core.comparison.results import Case, Result
from training.core.configuration import Configuration
from training.core.evaluation import Ranking, fitting
from training.core.scored import ScoredRows

# The metrics that are also computed before calibration.
RAW_METRICS = ("brier", "calibration_error")


@dataclass(frozen=True)
class Evaluated:
    """A result's metrics by name, each also over the bootstrap draws [resamples], and its calibrated scores."""

    result: Result
    values: dict[str, float]
    drawn: dict[str, np.ndarray]
    calibrated: ScoredRows
    method: str


@dataclass(frozen=True)
class Standing:
    """The metrics of a contender under a protocol: means over its models of each split, then over splits.

    `values` by metric, and `drawn` over the draws of test rows, for 95 % intervals. `spread` is the standard deviation
    over its models, None for a single one. The intervals of several splits are too narrow, because splits share rows.
    """

    protocol: str
    name: str
    title: str
    models: list[Evaluated]
    values: dict[str, float]
    drawn: dict[str, np.ndarray]
    spread: dict[str, float | None]

    def interval(self, metric: str) -> tuple[float | None, float | None]:
        return evaluation.interval(self.drawn[metric]) if metric in self.drawn else (None, None)

    def ahead_of(self, other: "Standing", metric: str) -> tuple[float, float | None, float | None]:
        """The paired difference of the means, and its interval; an interval without 0 is a difference."""
        low, high = evaluation.interval(self.drawn[metric] - other.drawn[metric])
        return self.values[metric] - other.values[metric], low, high

    @property
    def seconds(self) -> float:
        return float(np.mean([model.result.record.seconds for model in self.models]))


def evaluate_result(result: Result, config: Configuration) -> Evaluated:
    """Calibrate, choose a threshold and compute metrics. If no threshold attains the precision, nothing is an alert."""
    policy, evaluated = config.policy, config.evaluation
    validation, test = result.scored["validation"], result.scored["test"]
    calibrate = fitting.choose(validation.labels, validation.scores).calibration
    chosen_on, tested_on = (rows._replace(scores=calibrate(rows.scores)) for rows in (validation, test))
    threshold = evaluation.threshold_for_precision(chosen_on.labels, chosen_on.scores, policy.review_precision)
    ranking = Ranking(
        tested_on.labels,
        tested_on.scores,
        threshold=np.inf if threshold is None else threshold,
        amounts=None if np.isnan(test.amounts).any() else test.amounts,
        review_cost=policy.review_cost,
    )
    raw = Ranking(test.labels, test.scores, threshold=0.5).metrics()
    values = ranking.metrics() | {f"raw_{name}": raw[name] for name in RAW_METRICS}
    drawn = ranking.bootstrap(resamples=evaluated.bootstrap_resamples, seed=result.case.number)
    return Evaluated(result, values, drawn, tested_on, calibrate.method)


def standings(
    results: Sequence[Result], config: Configuration, *, on_step: Callable[[str], None]
) -> dict[str, list[Standing]]:
    """The contenders by protocol, ranked by AUPRC. Only splits on which all of them have results count."""
    groups: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        groups[result.case.protocol][result.record.contender].append(result)
    found = {}
    for protocol, contenders in groups.items():
        shared = set.intersection(*({result.case for result in made} for made in contenders.values()))
        of_protocol = []
        for name, made in contenders.items():
            models = []
            for result in made:
                if result.case in shared:
                    on_step(f"Evaluating {result.record.title}, {result.case}, seed {result.record.seed}")
                    models.append(evaluate_result(result, config))
            if models:
                of_protocol.append(_standing(protocol, name, models))
        found[protocol] = sorted(of_protocol, key=lambda standing: -standing.values["auprc"])
    return found


def _standing(protocol: str, name: str, models: list[Evaluated]) -> Standing:
    by_case: dict[Case, list[Evaluated]] = defaultdict(list)
    for model in models:
        by_case[model.result.case].append(model)

    def mean(part: str, metric: str) -> Any:
        return np.mean(
            [np.mean([getattr(model, part)[metric] for model in of_case], axis=0) for of_case in by_case.values()],
            axis=0,
        )

    first = models[0]
    return Standing(
        protocol,
        name,
        first.result.record.title,
        models,
        {metric: float(mean("values", metric)) for metric in first.values},
        {metric: mean("drawn", metric) for metric in first.drawn},
        {
            metric: float(np.std([model.values[metric] for model in models], ddof=1)) if len(models) > 1 else None
            for metric in first.values
        },
    )
