"""How many frauds were no alerts, by the random sample of approved traffic.

The known ones are too few: an approved fraud is known only if somebody reports it. Each transaction of the sample that
an analyst judged stands for 1 / probability others (Horvitz and Thompson, 1952). A fraud that clients, networks or
chargebacks report is known whether or not it was drawn, so it counts as itself, and the sample tells only what they do
not report: the difference estimator (Särndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, chapter 6).
"""

from datetime import datetime
from itertools import groupby
from uuid import UUID

import numpy as np
from django.db.models import QuerySet
from msgspec import Struct

from scoring.decisions import ALERTS, Decision
from scoring.models import Label, Review, SampledPeriod
from scoring.policies.stored import rows_of
from scoring.reviews import verdicts
from training.core.schema import Schema


class Missed(Struct, frozen=True):
    """Frauds that were no alerts: the `known` ones, and the estimate of all with its variance. `sampled` reviews were
    drawn from the traffic, of which analysts have `judged` so many; without any, the estimate is what is known."""

    known: int
    value: float
    variance: float = 0.0
    sampled: int = 0
    judged: int = 0


def estimate(
    known_otherwise: int, probability: np.ndarray, fraud: np.ndarray, reported: np.ndarray
) -> tuple[float, float]:
    """Estimate a total and its variance from a sample. `known_otherwise` are all frauds that are reported; the arrays
    have one item for each that was drawn, [n]: its probability, whether it is fraud, and whether that was reported."""
    new = fraud.astype(float) - reported.astype(float)
    total = known_otherwise + float((new / probability).sum())
    return total, float(((1 - probability) * (new / probability) ** 2).sum())


def of_period(schema: Schema, since: datetime, until: datetime, in_group: set[UUID]) -> Missed:
    """The frauds of a schema's predictions from `since`, before `until`, that were no alerts, by what is known now.
    `in_group` are would-be alerts of the control group, which count as alerts."""
    of_schema = {"transaction__schema": schema.name, "transaction__prediction__created_at__range": (since, until)}
    labels = Label.objects.filter(**of_schema)
    known = _no_alerts(schema, since, until, in_group, {key for key, word in verdicts.known(labels).items() if word})
    drawn = _drawn(schema, since, until)
    judged = [each for each in drawn if each[2]]
    if not judged:
        return Missed(len(known), float(len(known)), sampled=len(drawn))
    reported = reported_by_others(labels)
    by_others = _no_alerts(schema, since, until, in_group, reported)
    # Nobody could be drawn from other traffic: there, what analysts report counts as well.
    outside = {key for key in known.keys() - by_others.keys() if not _is_covered(known[key])}
    # Those that are not judged yet are represented by those that are.
    weight = sum(1 / chance for _, chance, _ in drawn) / sum(1 / chance for _, chance, _ in judged)
    chance = np.array([chance for _, chance, _ in judged]) / weight
    fraud = np.array([state == Review.State.FRAUD for _, _, state in judged])
    value, variance = estimate(
        len(by_others) + len(outside),
        np.minimum(1.0, chance),
        fraud,
        np.array([key in reported for key, _, _ in judged]),
    )
    return Missed(len(known), value, variance, len(drawn), len(judged))


def _drawn(schema: Schema, since: datetime, until: datetime) -> list[tuple[UUID, float, str]]:
    """The sample: key, probability, and the judgement of an analyst, empty if there is none."""
    reviews = Review.objects.filter(
        is_sample=True, sample_probability__gt=0, prediction__in=rows_of(schema, since, until)
    )
    rows = reviews.values_list("pk", "sample_probability", "state", "decided_by_default")
    return [
        (key, chance, "" if state == Review.State.OPEN or is_default else state)
        for key, chance, state, is_default in rows
        if chance is not None
    ]


def reported_by_others(labels: QuerySet[Label]) -> set[UUID]:
    """The transactions that others than analysts say are fraud, by these labels."""
    words = labels.exclude(source=Label.Source.ANALYST)
    of_each = groupby(words.order_by("transaction", "created_at", "pk"), key=lambda label: label.transaction_id)
    return {key for key, given in of_each if (held := verdicts.holding(given)) and held.is_fraud}


def _no_alerts(
    schema: Schema, since: datetime, until: datetime, in_group: set[UUID], keys: set[UUID]
) -> dict[UUID, tuple[datetime, str]]:
    """Those of these that were no alerts: when they were decided, and how."""
    rows = (
        rows_of(schema, since, until).filter(pk__in=list(keys - in_group)).values_list("pk", "created_at", "decision")
    )
    return {key: (at, decision) for key, at, decision in rows if decision not in ALERTS}


def _is_covered(decided: tuple[datetime, str]) -> bool:
    """Whether a transaction could be drawn."""
    at, decision = decided
    return decision == Decision.APPROVE and SampledPeriod.objects.filter(since__lt=at, until__gte=at).exists()
