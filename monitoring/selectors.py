"""Queries for the dashboard, at a cost that does not grow with the tables.

Queries with an optional schema count all schemas if none is given.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Q, QuerySet

from monitoring.models import DriftReport
from monitoring.rollups import reading
from monitoring.rollups.windows import Window
from scoring.decisions import ALERTS
from scoring.models import Decision, Pending, Prediction, Review
from training.models import ModelVersion, Stage

LATEST = 12
# The latest predictions are looked up for this many versions: those promoted last.
VERSIONS = 3
# Counts of rows end at this number.
COUNT_LIMIT = 100_000


def open_reviews(schema: str | None = None) -> int:
    """How many reviews are open, counted up to `COUNT_LIMIT`."""
    return _reviews(schema).filter(state=Review.State.OPEN)[:COUNT_LIMIT].count()


def _reviews(schema: str | None) -> QuerySet[Review]:
    return Review.objects.filter(prediction__model_version__schema=schema) if schema else Review.objects.all()


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
    """Scored transactions by decision in the minutes that began within the window before `now`."""
    seen = reading.traffic(Window.last(window, now=now))
    return {decision: int(counts.sum()) for decision, counts in seen.counts.items()}


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
