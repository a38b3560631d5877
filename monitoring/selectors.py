"""Queries for the dashboard, at a cost that does not grow with the tables.

Queries with an optional schema count all schemas if none is given.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.conf import settings
from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from monitoring.models import LATENCY_EDGES_MS, SCORE_BINS, DriftReport, TrafficRollup
from scoring.decisions import ALERTS
from scoring.models import Decision, Fallback, Pending, Prediction, RefusalCount, Review
from training.models import ModelVersion, Stage

LATEST = 12
# The latest predictions are looked up for this many versions: those promoted last.
VERSIONS = 3
# Counts of rows end at this number.
COUNT_LIMIT = 100_000
MINUTE = timedelta(minutes=1)
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Traffic:
    """Traffic of a window, in steps of whole minutes.

    `minutes` are the first minutes of the steps with traffic, oldest first; the lists up to `latency_p95_ms` have a
    value for each. The histograms cover the whole window.
    """

    minutes: list[datetime]
    approved: list[int]
    challenged: list[int]
    reviewed: list[int]
    blocked: list[int]
    latency_mean_ms: list[float]
    latency_p95_ms: list[float]
    score_histogram: list[int]
    latency_histogram: list[int]
    latency_sum_ms: float
    window: timedelta
    step: timedelta

    @property
    def alerts(self) -> int:
        return sum(self.reviewed) + sum(self.blocked)

    @property
    def transactions(self) -> int:
        return sum(self.approved) + sum(self.challenged) + self.alerts

    @property
    def mean_ms(self) -> float | None:
        return self.latency_sum_ms / self.transactions if self.transactions else None

    @property
    def p95_ms(self) -> float | None:
        return quantile_ms(self.latency_histogram, 0.95)


def traffic(
    window: timedelta, *, schema: str | None = None, now: datetime | None = None, step: timedelta = MINUTE
) -> Traffic:
    """The traffic of the minutes that began within the window before `now`, added up in steps of whole minutes."""
    now = now or timezone.now()
    rows = TrafficRollup.objects.filter(minute__gt=now - window, minute__lte=now).order_by("minute")
    rows = rows.filter(schema=schema) if schema else rows
    steps: dict[datetime, list[TrafficRollup]] = {}
    for row in rows:
        steps.setdefault(row.minute - (row.minute - EPOCH) % step, []).append(row)
    groups = list(steps.values())
    challenged = [sum(row.challenged for row in group) for group in groups]
    reviewed = [sum(row.reviewed for row in group) for group in groups]
    blocked = [sum(row.blocked for row in group) for group in groups]
    transactions = [sum(row.transactions for row in group) for group in groups]
    sums_ms = [sum(row.latency_sum_ms for row in group) for group in groups]
    latencies = [_added(len(LATENCY_EDGES_MS) + 1, [row.latency_histogram for row in group]) for group in groups]
    scores = [_added(SCORE_BINS, [row.score_histogram for row in group]) for group in groups]
    return Traffic(
        minutes=list(steps),
        approved=[
            count - sum(others) for count, *others in zip(transactions, challenged, reviewed, blocked, strict=True)
        ],
        challenged=challenged,
        reviewed=reviewed,
        blocked=blocked,
        latency_mean_ms=[sum_ms / count for sum_ms, count in zip(sums_ms, transactions, strict=True)],
        latency_p95_ms=[quantile_ms(histogram, 0.95) or 0.0 for histogram in latencies],
        score_histogram=_added(SCORE_BINS, scores),
        latency_histogram=_added(len(LATENCY_EDGES_MS) + 1, latencies),
        latency_sum_ms=sum(sums_ms),
        window=window,
        step=step,
    )


def quantile_ms(histogram: list[int], q: float) -> float | None:
    """A quantile from counts per bin of `LATENCY_EDGES_MS`, linear within its bin; None if the histogram is empty.

    `q` lies in (0, 1]. The last bin has no upper edge: a quantile in it is given as its lower edge.
    """
    counts = np.cumsum(histogram)
    if not counts[-1]:
        return None
    rank = q * counts[-1]
    bin_ = int(np.searchsorted(counts, rank))
    if bin_ == len(LATENCY_EDGES_MS):
        return float(LATENCY_EDGES_MS[-1])
    low = LATENCY_EDGES_MS[bin_ - 1] if bin_ else 0.0
    before = counts[bin_ - 1] if bin_ else 0
    return float(low + (LATENCY_EDGES_MS[bin_] - low) * (rank - before) / histogram[bin_])


def review_outcomes(window: timedelta, *, schema: str | None = None, now: datetime | None = None) -> dict[str, int]:
    """Counts of alerts that people closed within the window, as {"fraud": n, "legitimate": m}, and of all reviews that
    are "open"."""
    now = now or timezone.now()
    judged = _reviews(schema).filter(decided_by_default=False, is_sample=False)
    closed = judged.filter(closed_at__gt=now - window).values_list("state").annotate(count=Count("*"))
    outcomes = {Review.State.FRAUD: 0, Review.State.LEGITIMATE: 0} | dict(closed)
    return {str(state): count for state, count in outcomes.items()} | {"open": open_reviews(schema)}


def open_reviews(schema: str | None = None) -> int:
    """How many reviews are open, counted up to `COUNT_LIMIT`."""
    return _reviews(schema).filter(state=Review.State.OPEN)[:COUNT_LIMIT].count()


def _reviews(schema: str | None) -> QuerySet[Review]:
    return Review.objects.filter(prediction__model_version__schema=schema) if schema else Review.objects.all()


def fallbacks(window: timedelta, *, schema: str | None = None, now: datetime | None = None) -> int:
    """Answers without a score within the window before `now`, counted up to `COUNT_LIMIT`."""
    now = now or timezone.now()
    rows = Fallback.objects.filter(created_at__gt=now - window, created_at__lte=now)
    rows = rows.filter(transaction__schema=schema) if schema else rows
    return rows[:COUNT_LIMIT].count()


def refusals(window: timedelta, *, now: datetime | None = None) -> dict[tuple[int, str], int]:
    """Refused calls of all schemas in the minutes that began within the window before `now`, by status and kind, the
    most frequent first."""
    now = now or timezone.now()
    rows = RefusalCount.objects.filter(minute__gt=now - window, minute__lte=now)
    counted = rows.values_list("status", "kind").annotate(calls=Sum("count")).order_by("-calls", "status", "kind")
    return {(status, kind): calls for status, kind, calls in counted}


@dataclass(frozen=True)
class Unscored:
    """Stored transactions without a score, counted up to `COUNT_LIMIT`."""

    waiting: int
    set_aside: int


def unscored(schema: str | None = None) -> Unscored:
    """How many pending transactions wait for their score, and how many are set aside after too many attempts."""
    waits = Q(attempts__lt=settings.PENDING_ATTEMPTS_LIMIT)
    rows = Pending.objects.filter(transaction__schema=schema) if schema else Pending.objects.all()
    counts = rows[:COUNT_LIMIT].aggregate(waiting=Count("pk", filter=waits), set_aside=Count("pk", filter=~waits))
    return Unscored(**counts)


def decisions(window: timedelta, *, now: datetime | None = None) -> dict[str, int]:
    """Transactions by decision in the minutes that began within the window before `now`."""
    seen = traffic(window, now=now)
    return {
        str(Decision.APPROVE): sum(seen.approved),
        str(Decision.CHALLENGE): sum(seen.challenged),
        str(Decision.REVIEW): sum(seen.reviewed),
        str(Decision.BLOCK): sum(seen.blocked),
    }


def latest_predictions(schema: str) -> list[Prediction]:
    return _latest(schema, Prediction.objects.select_related("transaction"))


def latest_alerts(schema: str) -> list[Prediction]:
    alerts = Prediction.objects.exclude(decision=Decision.APPROVE).filter(decision__in=ALERTS)
    return _latest(schema, alerts.select_related("transaction", "review"))


def _latest(schema: str, rows: QuerySet[Prediction]) -> list[Prediction]:
    """The latest rows of a schema. They are read by version, by an index: a schema with little traffic may have its
    latest rows far back in the table."""
    decided = ModelVersion.objects.filter(schema=schema, promoted_at__isnull=False).order_by("-promoted_at")
    latest = [
        row
        for version in decided[:VERSIONS]
        for row in rows.filter(model_version=version).order_by("-created_at")[:LATEST]
    ]
    return sorted(latest, key=lambda row: row.created_at, reverse=True)[:LATEST]


def latest_drift(schema: str) -> DriftReport | None:
    """The newest drift report of the schema's champion."""
    return DriftReport.objects.filter(model_version__stage=Stage.CHAMPION, model_version__schema=schema).first()


def samples_so_far(version: ModelVersion, limit: int) -> int:
    """How many predictions the version has made, counted up to `limit`."""
    return Prediction.objects.filter(model_version=version)[:limit].count()


def _added(length: int, histograms: list[Any]) -> list[int]:
    return [int(count) for count in np.sum(histograms, axis=0)] if histograms else [0] * length
