"""What pages, metrics and alerts ask of roll-ups. The cost depends on the number of steps, not on the traffic."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from django.conf import settings
from django.db.models import Count, F, QuerySet, Sum
from django.utils import timezone

from monitoring.rollups import histograms
from monitoring.rollups.counting import ALL_CLIENTS, MINUTE, SCORED, start_of
from monitoring.rollups.histograms import STAGES, quantile_ms
from monitoring.rollups.models import RefusalRollup, ReviewRollup, RollupProgress, RuleRollup, Span, TrafficRollup
from monitoring.rollups.stepping import by_step
from monitoring.rollups.windows import Window
from scoring.decisions import Decision
from scoring.models import RefusalCount, RefusalOfClientCount, Review, RuleCount, RuleOfClientCount

# Where the last run of the counting is so many of its intervals old, figures are called incomplete.
INTERVALS_LATE = 6


@dataclass(frozen=True)
class Traffic:
    """The answers of a window of n steps, dense: a step without traffic has zeros.

    `counts` and `amounts` are arrays [n] by decision, of scored transactions; `fallbacks` and `fallback_amounts` are
    arrays [n] by reason. Amounts are in the schema's currency, and mean nothing for several. `histograms` are counts
    [n, BINS] of scored transactions.
    """

    window: Window
    counts: dict[str, np.ndarray]
    amounts: dict[str, np.ndarray]
    fallbacks: dict[str, np.ndarray]
    fallback_amounts: dict[str, np.ndarray]
    histograms: np.ndarray
    client: int | None = None

    @property
    def scored(self) -> np.ndarray:
        """Scored transactions by step [n]."""
        return np.sum(list(self.counts.values()), axis=0)

    @property
    def alerts(self) -> np.ndarray:
        """Transactions to review and blocked, by step [n]."""
        return self.counts[Decision.REVIEW] + self.counts[Decision.BLOCK]

    @property
    def transactions(self) -> int:
        return int(self.scored.sum())

    @property
    def scores(self) -> np.ndarray:
        """Counts [n, SCORE_BINS] by bins of the score."""
        return self.histograms[:, histograms.PLACES["score"]]

    def latencies(self, stage: str = "total") -> np.ndarray:
        """Counts [n, LATENCY_BINS] by bins of a stage's latency."""
        return self.histograms[:, histograms.PLACES[stage]]

    def quantiles_ms(self, q: float, stage: str = "total") -> list[float | None]:
        """A quantile of a stage's latency by step."""
        return [quantile_ms(row, q) for row in self.latencies(stage)]

    def quantile_ms(self, q: float, stage: str = "total") -> float | None:
        """A quantile of a stage's latency in the whole window."""
        return quantile_ms(self.latencies(stage).sum(axis=0), q)


class Rule(NamedTuple):
    """What became of a rule by step: arrays [n]."""

    decided: np.ndarray
    matched: np.ndarray
    absent: np.ndarray
    failed: np.ndarray


class Share(NamedTuple):
    """So many reviews of one kind that an analyst decided, by the key of the account; None if nobody did."""

    analyst: int | None
    state: str
    is_sample: bool
    by_default: bool
    number: int


class Decided(NamedTuple):
    """Decided reviews: by step [n], and in the whole window by who decided what."""

    by_step: np.ndarray
    shares: list[Share]


@dataclass(frozen=True)
class Progress:
    """How far the roll-ups go: from `counted_from` (None: from the first answer on) to `counted_until` (None: nothing
    is counted yet)."""

    counted_from: datetime | None
    counted_until: datetime | None

    def lacks(self, window: Window, *, now: datetime | None = None) -> str:
        """What of a window is not counted yet, in words; empty if all is."""
        now = now or timezone.now()
        if self.counted_until is None:
            return "No traffic has been counted yet."
        late = timedelta(seconds=INTERVALS_LATE * settings.ROLLUP_INTERVAL_S)
        if self.counted_until < min(now - late, window.end):
            if self.counted_until == start_of(self.counted_until, MINUTE) and now - self.counted_until < MINUTE + late:
                return f"Counted until {self.counted_until:%H:%M} UTC: so busy a minute is counted when it is over."
            return f"Incomplete: counted until {self.counted_until:%Y-%m-%d %H:%M} UTC; the counting is behind."
        if self.counted_from and window.start < self.counted_from:
            return f"Incomplete: what was before {self.counted_from:%Y-%m-%d %H:%M} UTC is still being counted."
        return ""


@dataclass(frozen=True)
class Series:
    """A metric by step: `values` are None where it has none, such as a rate without traffic. `samples` are the scored
    transactions of each step, and `progress` says how far they are counted."""

    starts: list[datetime]
    values: list[float | None]
    samples: list[int]
    window: Window
    progress: Progress


def progress() -> Progress:
    """How far the roll-ups go."""
    row = RollupProgress.objects.filter(pk=1).first()
    if row is None:
        return Progress(None, None)
    lacking = [] if row.whole else [row.counted_from]
    return Progress(max(filter(None, [*lacking, row.merged_from]), default=None), row.counted_until)


def traffic(
    window: Window,
    *,
    schema: str | None = None,
    client: int | None = None,
    version: str | None = None,
    policy: int | None = None,
) -> Traffic:
    """The answers of a window: of all schemas, clients, versions or policies where none is named. One query."""
    rows = TrafficRollup.objects.filter(span=window.span, client=client or ALL_CLIENTS, **_of(window))
    wanted = {"schema": schema, "version": version, "policy": policy}
    rows = rows.filter(**{name: value for name, value in wanted.items() if value is not None})
    columns = ("start", "decision", "answer", "transactions", "amount", "histograms")
    n = len(window)
    counts, amounts = ({str(decision): np.zeros(n) for decision in Decision} for _ in range(2))
    fallbacks: dict[str, np.ndarray] = {}
    fallback_amounts: dict[str, np.ndarray] = {}
    steps: list[int] = []
    packed: list[Any] = []
    for start, decision, answer, number, amount, packed_row in rows.order_by().values_list(*columns):
        step = (start - window.start) // window.step
        if answer == SCORED:
            counts[decision][step] += number
            amounts[decision][step] += amount
            steps.append(step)
            packed.append(packed_row)
        else:
            fallbacks.setdefault(answer, np.zeros(n))[step] += number
            fallback_amounts.setdefault(answer, np.zeros(n))[step] += amount
    whole = np.zeros((n, histograms.BINS), np.int64)
    np.add.at(whole, steps, histograms.unpacked(packed))
    counts = {decision: found.astype(np.int64) for decision, found in counts.items()}
    return Traffic(window, counts, amounts, fallbacks, fallback_amounts, whole, client)


def refusals(window: Window, *, client: int | None = None) -> dict[tuple[int, str], np.ndarray]:
    """Refused calls by step [n], by status and kind, the most frequent first: those with a key of a client, or all.
    They are of all schemas, as that of a refused call may be unknown."""
    found: dict[tuple[int, str], np.ndarray] = {}
    rows = _of_client(window, client, (RefusalCount, RefusalOfClientCount), RefusalRollup)
    for step, status, kind, count in _by_step(rows, window, ("status", "kind"), sum_count=Sum("count")):
        counts = found.setdefault((status, kind), np.zeros(len(window), np.int64))
        counts[step] += count
    return dict(sorted(found.items(), key=lambda item: (-item[1].sum(), item[0])))


def rules(
    window: Window, *, schema: str | None = None, client: int | None = None, policy: int | None = None
) -> dict[str, Rule]:
    """What became of each rule by step, the one that matched most first; of all schemas, clients and policies where
    none is named."""
    of_minutes = window.span == Span.MINUTE
    named = {"schema": "policy__schema" if of_minutes else "schema", "policy": _POLICY[of_minutes]}
    wanted = {named[name]: value for name, value in (("schema", schema), ("policy", policy)) if value is not None}
    rows = _of_client(window, None, (RuleCount, RuleOfClientCount), RuleRollup).filter(**wanted)
    if client:
        of_client = _of_client(window, client, (RuleCount, RuleOfClientCount), RuleRollup).filter(**wanted)
        return _rules_of_client(window, rows, of_client)
    found: dict[str, Rule] = {}
    sums = {f"sum_{name}": Sum(name) for name in Rule._fields}
    for step, name, *counts in _by_step(rows, window, ("rule",), **sums):
        rule = found.setdefault(name, Rule(*(np.zeros(len(window), np.int64) for _ in Rule._fields)))
        for column, count in zip(rule, counts, strict=True):
            column[step] += count
    return _most_first(found)


def _most_first(found: dict[str, Rule]) -> dict[str, Rule]:
    return dict(sorted(found.items(), key=lambda item: (-item[1].matched.sum(), item[0])))


_POLICY = {True: "policy__number", False: "policy"}


def _rules_of_client(window: Window, rows: QuerySet[Any], of_client: QuerySet[Any]) -> dict[str, Rule]:
    """The rules of all rows, as of one client's rows: of these, the ones without a rule say how many transactions the
    rules of a policy were asked about, and the others what came of it."""
    policy = _POLICY[window.span == Span.MINUTE]
    of_policy: dict[int, list[Rule]] = {}
    found: dict[str, Rule] = {}
    for number, name in rows.values_list(policy, "rule").distinct():
        rule = found.setdefault(name, Rule(*(np.zeros(len(window), np.int64) for _ in Rule._fields)))
        of_policy.setdefault(number, []).append(rule)
    sums = {f"sum_{name}": Sum(name) for name in Rule._fields}
    for step, number, name, decided, *counts in _by_step(of_client, window, (policy, "rule"), **sums):
        for rule in of_policy.get(number, []) if not name else []:
            rule.decided[step] += decided
        for column, count in zip(found[name][1:], counts, strict=True) if name in found else ():
            column[step] += count
    return _most_first(found)


def decided(window: Window, *, schema: str, client: int | None = None) -> Decided:
    """The reviews that were decided in a window."""
    rows = _of_client(window, client, (Review, Review), ReviewRollup, at="closed_at").filter(schema=schema)
    if window.span == Span.MINUTE:
        keys, number = ("reviewer_id", "state", "is_sample", "decided_by_default"), Count("*")
    else:
        keys, number = ("analyst", "state", "is_sample", "by_default"), Sum("decided")  # type: ignore[assignment]
    by_step = np.zeros(len(window), np.int64)
    for step, count in _by_step(rows, window, (), number=number):
        by_step[step] += count
    of_each = rows.values_list(*keys).annotate(number=number)
    return Decided(by_step, [Share(analyst or None, *rest) for analyst, *rest in of_each])


def series(
    metric: str,
    length: timedelta,
    *,
    step: timedelta | None = None,
    schema: str | None = None,
    client: int | None = None,
    version: str | None = None,
    policy: int | None = None,
    now: datetime | None = None,
) -> Series:
    """One of `METRICS` over the time `length` before now, by step.

    Raises:
        KeyError: there is no such metric.
    """
    window = Window.last(length, step=step, now=now)
    seen = traffic(window, schema=schema, client=client, version=version, policy=policy)
    values = [None if np.isnan(value) else float(value) for value in METRICS[metric].of(seen)]
    return Series(window.starts, values, [int(number) for number in seen.scored], window, progress())


class Metric(NamedTuple):
    """`of` gives the values [n] of a window, NaN where there is none. `unit` is "", "share", "money" or "ms"."""

    label: str
    unit: str
    of: Callable[[Traffic], np.ndarray]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _fallen_back(seen: Traffic) -> np.ndarray:
    return np.sum([*seen.fallbacks.values(), np.zeros(len(seen.window))], axis=0)


def _refused(seen: Traffic) -> np.ndarray:
    return np.sum([*refusals(seen.window, client=seen.client).values(), np.zeros(len(seen.window))], axis=0)


def _quantiles(stage: str, q: float) -> Callable[[Traffic], np.ndarray]:
    return lambda seen: np.array(seen.quantiles_ms(q, stage), float)


def _mean_score(seen: Traffic) -> np.ndarray:
    middles = (np.arange(histograms.SCORE_BINS) + 0.5) / histograms.SCORE_BINS
    return _share(seen.scores @ middles, seen.scored)


# What a series can be asked for, by name.
METRICS: dict[str, Metric] = {
    "transactions": Metric("Scored transactions", "", lambda seen: seen.scored),
    **{
        name: Metric(label, "", lambda seen, decision=decision: seen.counts[decision])  # type: ignore[misc]
        for name, label, decision in (
            ("approved", "Approved", Decision.APPROVE),
            ("challenged", "Challenged", Decision.CHALLENGE),
            ("reviewed", "Sent to review", Decision.REVIEW),
            ("blocked", "Blocked", Decision.BLOCK),
        )
    },
    "alerts": Metric("Alerts", "", lambda seen: seen.alerts),
    "alert_rate": Metric("Alerts among scored transactions", "share", lambda seen: _share(seen.alerts, seen.scored)),
    "block_rate": Metric(
        "Blocked among scored transactions", "share", lambda seen: _share(seen.counts[Decision.BLOCK], seen.scored)
    ),
    "amount": Metric("Amount scored", "money", lambda seen: np.sum(list(seen.amounts.values()), axis=0)),
    "blocked_amount": Metric("Amount blocked", "money", lambda seen: seen.amounts[Decision.BLOCK]),
    "score_mean": Metric("Mean score, to its bin", "", _mean_score),
    "fallbacks": Metric("Answers without a score", "", _fallen_back),
    "fallback_rate": Metric(
        "Answers without a score, for each scored transaction",
        "share",
        lambda seen: _share(_fallen_back(seen), seen.scored),
    ),
    "refusals": Metric("Refused calls, of all schemas", "", _refused),
    **{
        f"{stage}_p{100 * q:g}": Metric(f"Latency of {stage}, p{100 * q:g}", "ms", _quantiles(stage, q))
        for stage in STAGES
        for q in (0.5, 0.95, 0.99)
    },
}


def _of(window: Window) -> dict[str, datetime]:
    return {"start__gte": window.start, "start__lt": window.end}


def _of_client(
    window: Window, client: int | None, counts: tuple[Any, Any], rollups: Any, *, at: str = "minute"
) -> QuerySet[Any]:
    """Rows of a window that have a `start`, of all clients or one: from roll-ups, or from `counts`, those of all and
    those by client, that have a moment in the column `at`."""
    if window.span != Span.MINUTE:
        return rollups.objects.filter(span=window.span, client=client or ALL_CLIENTS, **_of(window)).order_by()
    of_all, by_client = counts
    rows = by_client.objects.filter(client=client) if client else of_all.objects
    rows = rows.filter(**{f"{at}__gte": window.start, f"{at}__lt": window.end})
    return rows.order_by().annotate(start=F(at))


def _by_step(rows: QuerySet[Any], window: Window, keys: tuple[str, ...], **sums: Any) -> Iterator[tuple[Any, ...]]:
    """Rows of a window that have a `start`, added up by the number of their step and keys."""
    for start, *found in by_step(rows, window.step, keys, **sums):
        yield (start - window.start) // window.step, *found
