"""What the control group tells of the alerts: how many would have been fraud, and which share of the fraud they are.

Recall counts the frauds that were no alerts as well: `scoring.policies.missed` estimates them from the random sample.

What becomes of a blocked transaction, nobody sees: it has no chargeback. Frauds among would-be alerts are therefore
estimated from those that the control group let through, each weighted by the inverse of its propensity (Horvitz and
Thompson, A Generalization of Sampling Without Replacement, 1952).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import inf, sqrt
from uuid import UUID

import numpy as np
from msgspec import Struct

from scoring.models import Label
from scoring.policies import evidence, missed
from scoring.policies.missed import Missed
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

    `let_through` of these `alerts` were; `missed` are the frauds that were no alerts, as far as they are known.
    `sampled` of the approved transactions were drawn at random and `judged` so many; `all_missed` is estimated by them.
    """

    alerts: int
    let_through: int
    missed: int
    sampled: int
    judged: int
    all_missed: Estimate
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


def estimate(drawn: Drawn, missed: Missed) -> Estimates:
    """Estimate from the control group, and from the random sample what was no alert.

    The variance of a total is that of Poisson sampling: the sum of (1 - p) / p² over the frauds that were let through.
    That of recall is by the delta method if both totals have one.
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
        missed=missed.known,
        sampled=missed.sampled,
        judged=missed.judged,
        all_missed=_between(missed.value, sqrt(missed.variance), missed.known, inf),
        frauds=frauds,
        precision=_mapped(frauds, lambda count: count / alerts if alerts else float("nan")),
        recall=_recall(frauds, error, missed),
    )


def _recall(frauds: Estimate, error: float, missed: Missed) -> Estimate:
    both = frauds.value + missed.value
    if not missed.variance:
        return _mapped(frauds, lambda count: count / (count + missed.value) if count + missed.value else float("nan"))
    value = frauds.value / both
    return _between(value, sqrt(missed.value**2 * error**2 + frauds.value**2 * missed.variance) / both**2, 0.0, 1.0)


def of_period(schema: Schema, since: datetime, until: datetime) -> Estimates:
    """The estimates of a schema's predictions from `since`, before `until`, by the labels that are known now."""
    labels = Label.objects.filter(
        transaction__schema=schema.name, transaction__prediction__created_at__range=(since, until)
    )
    latest = verdicts.known(labels)
    with_control = rows_of(schema, since, until).filter(evidence__control__isnull=False)
    stored: list[tuple[UUID, object]] = list(with_control.values_list("pk", "evidence"))
    draws = [(key, draw) for key, content in stored if (draw := evidence.read(content).control)]
    return estimate(
        Drawn(
            propensity=np.array([draw.propensity for _, draw in draws]),
            let_through=np.array([draw.let_through for _, draw in draws], bool),
            fraud=np.array([bool(latest.get(key)) for key, _ in draws], bool),
        ),
        missed.of_period(schema, since, until, {key for key, _ in draws}),
    )


def _between(value: float, error: float, lowest: float, highest: float) -> Estimate:
    return Estimate(value, max(lowest, value - NORMAL_95 * error), min(highest, value + NORMAL_95 * error))


def _mapped(estimate: Estimate, rising: Callable[[float], float]) -> Estimate:
    """A rising function of an estimate."""
    return Estimate(rising(estimate.value), rising(estimate.low), rising(estimate.high))
