"""The figures of the dashboard *Model*: of all, by period, and by model version, policy, rule and queue."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from django.conf import settings

from monitoring.matured import estimates, ranking, selectors
from monitoring.matured.counting import QUEUE, RULE
from monitoring.matured.estimates import Caught, Costs, Fate, Missed, Money, Sums
from monitoring.matured.ranking import Ranked
from monitoring.matured.selectors import Counts, Window
from scoring.policies.backtesting import Share

# Tables by what, in their order: the column, and what the rows are counted by.
TABLES = {"version": ("model_version_id", ""), "policy": ("policy", ""), RULE: ("name", RULE), QUEUE: ("name", QUEUE)}
# Longer windows are told by the week.
BY_DAY = timedelta(days=14)
# What Prometheus is told about.
LATEST = timedelta(days=28)


@dataclass(frozen=True)
class Figures:
    """What is known of some decisions."""

    name: str
    caught: Caught
    missed: Missed
    recall: Share
    at_most: float | None
    saved: Money
    final: int
    rows: int

    @property
    def precision(self) -> Share:
        return self.caught.precision

    @property
    def is_final(self) -> float:
        """The share of the decisions whose outcome is final."""
        return self.final / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Period:
    """A week from a Monday, or a day; cut at the ends of the window."""

    since: date
    until: date
    is_matured: bool
    figures: Figures


@dataclass(frozen=True)
class Ranks:
    """How well a version's scores rank and are calibrated."""

    version: str
    ranked: Ranked


class Report(NamedTuple):
    """`all` is None without any decision. It and the tables are of the matured days, or of all if `is_matured` is
    false, as none is."""

    window: Window
    is_matured: bool
    all: Figures | None
    periods: list[Period]
    tables: dict[str, list[Figures]]


def of(window: Window, costs: Costs) -> Report:
    """The report of a window."""
    told = _told(window, costs)
    tables = {name: _table(name, told, costs) for name in TABLES}
    return Report(window, told.is_matured, told.whole, _periods(window, told.covered, costs), tables)


def table(window: Window, costs: Costs, name: str) -> list[Figures]:
    """One of the `TABLES` of a window's report."""
    return _table(name, _told(window, costs), costs)


class _Told(NamedTuple):
    """What a report tells of: its matured days, or all; how far labels cover them, and the figures of all decisions."""

    window: Window
    is_matured: bool
    covered: Mapping[str, float]
    whole: Figures | None


def _told(window: Window, costs: Costs) -> _Told:
    matured = window.matured
    everything = {} if matured.is_empty else selectors.counts(matured).get((), {})
    is_matured = bool(everything)
    if not is_matured:
        matured, everything = window, selectors.counts(window).get((), {})
    covered = estimates.coverage(everything)
    whole = _figures("", everything, covered, costs, is_matured) if everything else None
    return _Told(matured, is_matured, covered, whole)


def _table(name: str, told: _Told, costs: Costs) -> list[Figures]:
    column, by = TABLES[name]
    # An alert's rule or queue says nothing of what was missed: that is of all.
    of_all = told.whole if by else None
    rows = [
        _figures(_named(name, key), part, told.covered, costs, told.is_matured, of_all)
        for [key], part in selectors.counts(told.window, column, by=by).items()
    ]
    return sorted(rows, key=lambda row: (-row.caught.alerts, row.name))


def ranks(found: Report) -> list[Ranks]:
    """How well the scores of each version of a report rank, on the same days, the most decisions first."""
    window = found.window.matured if found.is_matured else found.window
    covered = estimates.coverage(selectors.counts(window).get((), {}))
    of_versions = selectors.counts(window, "model_version_id")
    all_ranks = [
        Ranks(version, ranking.ranked(sums, covered, estimates.missed(of_versions.get((version,), {}))))
        for version, sums in selectors.banded(window).items()
    ]
    return sorted(all_ranks, key=lambda each: -float(each.ranked.rows.sum()))


def latest_matured(schema: str, version: str, now: datetime) -> Figures | None:
    """The figures of a model version's last matured days; None if it decided nothing then."""
    before = selectors.matured_before(now, settings.LABEL_MATURITY_DAYS)
    window = Window(schema, before - LATEST, before - timedelta(days=1), before, version)
    found = selectors.counts(window).get((), {})
    return _figures(version, found, estimates.coverage(found), Costs(), is_matured=True) if found else None


def _periods(window: Window, covered: Mapping[str, float], costs: Costs) -> list[Period]:
    by_day = window.until - window.since < BY_DAY
    parts: dict[date, list[Counts]] = defaultdict(list)
    for [day], part in selectors.counts(window, "day").items():
        parts[day if by_day else day - timedelta(days=day.weekday())].append(part)
    periods = []
    for since in sorted(parts):
        until = min(since if by_day else since + timedelta(days=6), window.until)
        is_matured = until < window.matured_before
        figures = _figures("", together(parts[since]), covered, costs, is_matured)
        periods.append(Period(max(since, window.since), until, is_matured, figures))
    return periods


def _figures(
    name: str,
    counts: Counts,
    covered: Mapping[str, float],
    costs: Costs,
    is_matured: bool,
    of_all: Figures | None = None,
) -> Figures:
    """`of_all` are the figures of all decisions, if these are a part of the alerts."""
    caught, missed = estimates.caught(counts, covered), of_all.missed if of_all else estimates.missed(counts)
    all_caught = of_all.caught if of_all else caught
    final, rows = estimates.final(counts, is_matured=is_matured)
    return Figures(
        name=name,
        caught=caught,
        missed=missed,
        recall=estimates.recall(caught, all_caught, missed),
        at_most=estimates.at_most(caught, all_caught, missed),
        saved=caught.saved(costs, 0 if of_all else missed.drawn),
        final=final,
        rows=rows,
    )


def together(parts: list[Counts]) -> Counts:
    found: dict[Fate, list[Sums]] = defaultdict(list)
    for part in parts:
        for fate, sums in part.items():
            found[fate].append(sums)
    return {fate: estimates.added(each) for fate, each in found.items()}


def _named(table: str, key: object) -> str:
    if table == "policy":
        return f"policy {key}" if key else "thresholds of the model"
    return str(key)
