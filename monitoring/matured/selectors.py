"""Reads counts of outcomes. The cost grows with days, versions and rules, never with predictions."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, Self

import numpy as np
from django.db.models import F, Max, Sum

from monitoring.matured import bands
from monitoring.matured.counting import start_of
from monitoring.matured.estimates import SUMS, Fate, Sums
from monitoring.matured.models import LabelDelay, OutcomeCount, OutcomeDay, ScoreOutcome
from monitoring.rollups.counting import ALL_CLIENTS
from scoring.retention import periods

Counts = dict[Fate, Sums]
# Sums by name of `ScoreOutcome.BANDED`, each [bands.COUNT].
Banded = dict[str, np.ndarray]


@dataclass(frozen=True)
class Window:
    """Days from `since` to `until`, both included, of a schema and, if they are given, of one model version and one
    client. The days before `matured_before` are matured."""

    schema: str
    since: date
    until: date
    matured_before: date
    version: str = ""
    client: int = ALL_CLIENTS

    @property
    def matured(self) -> Self:
        """Its matured part, which may be empty."""
        return replace(self, until=min(self.until, self.matured_before - timedelta(days=1)))

    @property
    def is_empty(self) -> bool:
        return self.until < self.since


class Freshness(NamedTuple):
    """When days of a window were counted last, and how many will be counted again as labels have come since. If
    decisions of the window are deleted, the first midnight after them."""

    counted_at: datetime | None
    stale: int
    complete_since: datetime | None


def matured_before(now: datetime, maturity_days: float) -> date:
    """The first day whose decisions are not all `maturity_days` old."""
    return (now - timedelta(days=maturity_days)).astimezone(UTC).date()


def counts(window: Window, *columns: str, by: str = "") -> dict[tuple[Any, ...], Counts]:
    """The sums of a window by fate, for each combination of values of these columns; for all together without any."""
    rows: Any = _of(window).filter(by=by).order_by().values_list(*columns, *Fate._fields)
    found: dict[tuple[Any, ...], Counts] = defaultdict(dict)
    for row in rows.annotate(**{f"of_{name}": Sum(name) for name in SUMS}):
        at, end = len(columns), len(columns) + len(Fate._fields)
        found[row[:at]][Fate(*row[at:end])] = Sums(*row[end:])
    return dict(found)


def banded(window: Window) -> dict[str, dict[Fate, Banded]]:
    """The sums of a window by bands of the score, by model version and fate."""
    rows = _of(window, ScoreOutcome)
    found: dict[str, dict[Fate, Banded]] = defaultdict(lambda: defaultdict(_no_sums))
    for version, *fate, sums in rows.values_list("model_version_id", *Fate._fields, "sums"):
        for name, of_band in sums.items():
            at = np.fromiter(map(int, of_band), np.int64, len(of_band))
            found[version][Fate(*fate)][name][at] += np.fromiter(of_band.values(), np.float64, len(of_band))
    return {version: dict(of_version) for version, of_version in found.items()}


def _no_sums() -> Banded:
    return {name: np.zeros(bands.COUNT) for name in ScoreOutcome.BANDED}


def versions(window: Window) -> list[str]:
    """The model versions that decided in a window, whichever it is about."""
    rows = _of(replace(window, version="")).order_by("model_version_id")
    return list(rows.values_list("model_version_id", flat=True).distinct())


def schemas() -> list[str]:
    return list(OutcomeCount.objects.order_by("schema").values_list("schema", flat=True).distinct())


def delays(window: Window) -> dict[str, dict[int, int]]:
    """Numbers of transactions by the bin of the delay, of each source of labels."""
    rows = _of(replace(window, version=""), LabelDelay)
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for source, histogram in rows.values_list("source", "counts"):
        found[source].update({int(bin_): number for bin_, number in histogram.items()})
    return {source: dict(histogram) for source, histogram in found.items()}


def freshness(window: Window) -> Freshness:
    days = OutcomeDay.objects.filter(day__gte=window.since, day__lte=window.until)
    counted_at = days.aggregate(latest=Max("counted_at"))["latest"]
    complete = complete_since()
    is_whole = complete is None or start_of(window.since) >= complete
    return Freshness(counted_at, days.filter(counted__lt=F("marked")).count(), None if is_whole else complete)


def complete_since() -> datetime | None:
    """The first midnight after which no prediction was deleted by retention; None if none ever was."""
    deleted = periods.complete_since()
    if deleted is None:
        return None
    midnight = start_of(deleted.astimezone(UTC).date())
    return midnight if deleted == midnight else midnight + timedelta(days=1)


def _of(window: Window, model: Any = OutcomeCount) -> Any:
    rows = model.objects.filter(
        schema=window.schema, client=window.client, day__gte=window.since, day__lte=window.until
    )
    return rows.filter(model_version_id=window.version) if window.version else rows
