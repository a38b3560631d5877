"""Measures of drift, read from the reports of the champions."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np

from monitoring.alerts.measures.base import MINUTE, Scope, SeriesBySubject, Subject, start_of
from monitoring.alerts.series import Kind, Series
from monitoring.drift.clock import of_the_clock
from monitoring.drift.psi import PopulationStabilityIndex
from monitoring.models import DriftReport
from scoring import served

TEN_MINUTES = 10 * MINUTE
NAMED = 3
# Of a report, the value and what stood out.
Figure = Callable[[str, Any], tuple[float, str]]


def features(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    return _read(scope, since, until, _of_features)


def score(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    return _read(scope, since, until, lambda _, report: (report.score, ""))


def unseen(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    return _read(scope, since, until, lambda _, report: _of_shares(report, "unseen"))


def missing(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    return _read(scope, since, until, lambda _, report: _of_shares(report, "missing"))


def _read(scope: Scope, since: datetime, until: datetime, figure: Figure) -> SeriesBySubject:
    """Of each schema, the last report of each step."""
    since = start_of(since, TEN_MINUTES)
    length = max(0, (until - since) // TEN_MINUTES)
    rows = DriftReport.objects.filter(created_at__gte=since, created_at__lt=since + length * TEN_MINUTES)
    if scope.schema:
        rows = rows.filter(model_version__schema=scope.schema)
    latest: dict[tuple[str, int], DriftReport] = {}
    for report in rows.select_related("model_version").order_by("created_at").iterator(chunk_size=2_000):
        latest[report.model_version.schema, (report.created_at - since) // TEN_MINUTES] = report
    found: dict[Subject, Series] = {}
    for (schema, index), report in latest.items():
        subject = Subject(schema)
        if subject not in found:
            unknown = np.full(length, np.nan)
            found[subject] = Series(since, TEN_MINUTES, unknown, np.zeros(length), Kind.LEVEL, {})
        series = found[subject]
        series.values[index], note = figure(schema, report)
        series.samples[index] = report.samples
        if note and series.notes is not None:
            series.notes[index] = note
    return found


def _of_features(schema: str, report: DriftReport) -> tuple[float, str]:
    clock = of_the_clock(served.now().schemas.get(schema), report)
    ranked = sorted(((psi, name) for name, psi in report.features.items() if name not in clock), reverse=True)
    moved = [f"{name} {psi:.2f}" for psi, name in ranked if psi >= PopulationStabilityIndex.MODERATE]
    return (ranked[0][0] if ranked else 0.0), ", ".join(moved[:NAMED])


def _of_shares(report: DriftReport, part: str) -> tuple[float, str]:
    ranked = sorted(
        ((of[part]["excess"], name, of[part]) for name, of in report.unusual.items() if part in of),
        key=lambda each: (-each[0], each[1]),
    )
    told = []
    for excess, name, share in ranked[:NAMED]:
        if excess > 0:
            value = f", such as {share['value']}" if share.get("value") else ""
            told.append(f"{name}: {share['share']:.1%} {part}{value} (trained with {share['reference']:.1%})")
    return (ranked[0][0] if ranked else 0.0), "; ".join(told)
