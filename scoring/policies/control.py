"""What the control group tells of the alerts: how many would have been fraud, and which share of the fraud they are.

What becomes of a blocked transaction, nobody sees: it has no chargeback. Frauds among would-be alerts are therefore
estimated from those that the control group let through, each weighted by the inverse of its propensity (Horvitz and
Thompson, A Generalization of Sampling Without Replacement, 1952).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import sqrt
from uuid import UUID

import numpy as np
from msgspec import Struct

from scoring.decisions import ALERTS
from scoring.models import Label
from scoring.policies import evidence
from scoring.policies.stored import rows_of
from scoring.reviews import verdicts
from training.core.schema import Schema

NORMAL_95 = 1.959964


class Estimate(Struct, frozen=True):
    """An estimate with its 95 % interval; NaN if nothing was let through."""

    value: float
    low: float
    high: float


class Estimates(Struct, frozen=True):
    """Precision and recall of alerts that the control group could have, and the number of frauds among them.

    `let_through` of these `alerts` were; `missed` are known frauds that were no alerts.
    """

    alerts: int
    let_through: int
    missed: int
    frauds: Estimate
    precision: Estimate
    recall: Estimate


@dataclass(frozen=True)
class Drawn:
    """Would-be alerts that the control group could have. All arrays have one item for each, [n]: its propensity,
    whether it was let through, and whether it was fraud, which is known of those that were let through."""

    propensity: np.ndarray
    let_through: np.ndarray
    fraud: np.ndarray


def estimate(drawn: Drawn, missed: int) -> Estimates:
    """Estimate from the control group. `missed` is the number of frauds that were no alerts.

    The variance of a total is that of Poisson sampling: the sum of (1 - p) / p² over the frauds that were let through.
    """
    alerts, seen = len(drawn.propensity), drawn.let_through.astype(bool)
    chance = drawn.propensity[seen]
    fraud = drawn.fraud[seen].astype(bool)
    total = float((1 / chance[fraud]).sum())
    error = sqrt(float(((1 - chance[fraud]) / chance[fraud] ** 2).sum()))
    if not seen.any():
        total = error = float("nan")
    frauds = _between(total, error, 0.0, alerts)
    return Estimates(
        alerts=alerts,
        let_through=int(seen.sum()),
        missed=missed,
        frauds=frauds,
        precision=_mapped(frauds, lambda count: count / alerts if alerts else float("nan")),
        recall=_mapped(frauds, lambda count: count / (count + missed) if count + missed else float("nan")),
    )


def of_period(schema: Schema, since: datetime, until: datetime) -> Estimates:
    """The estimates of a schema's predictions from `since`, before `until`, by the labels that are known now."""
    labels = Label.objects.filter(
        transaction__schema=schema.name, transaction__prediction__created_at__range=(since, until)
    )
    latest = verdicts.known(labels)
    with_control = rows_of(schema, since, until).filter(evidence__control__isnull=False)
    stored: list[tuple[UUID, object]] = list(with_control.values_list("pk", "evidence"))
    draws = [(key, draw) for key, content in stored if (draw := evidence.read(content).control)]
    in_group = {key for key, _ in draws}
    of_frauds = rows_of(schema, since, until).filter(pk__in=[key for key, fraud in latest.items() if fraud])
    missed = sum(
        decision not in ALERTS and key not in in_group for key, decision in of_frauds.values_list("pk", "decision")
    )
    return estimate(
        Drawn(
            propensity=np.array([draw.propensity for _, draw in draws]),
            let_through=np.array([draw.let_through for _, draw in draws], bool),
            fraud=np.array([bool(latest.get(key)) for key, _ in draws], bool),
        ),
        missed,
    )


def _between(value: float, error: float, lowest: float, highest: float) -> Estimate:
    return Estimate(value, max(lowest, value - NORMAL_95 * error), min(highest, value + NORMAL_95 * error))


def _mapped(estimate: Estimate, rising: Callable[[float], float]) -> Estimate:
    """A rising function of an estimate."""
    return Estimate(rising(estimate.value), rising(estimate.low), rising(estimate.high))
