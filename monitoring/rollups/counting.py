"""Counts rows into cells: one for each stretch of time, client, schema, version, policy, decision and answer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from django.db.models import Count
from django.db.models.functions import TruncMinute

from monitoring.rollups import histograms
from monitoring.rollups.models import Span, TrafficRollup
from scoring.models import Fallback, PolicyVersion, Prediction

ALL_CLIENTS = 0
SCORED = "scored"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
EPOCH = datetime.fromtimestamp(0, UTC)
AT_ONCE = 20_000


class Key(NamedTuple):
    start: datetime
    client: int
    schema: str
    version: str
    policy: int
    decision: str
    answer: str


@dataclass
class Cell:
    transactions: int = 0
    amount: float = 0.0
    histograms: np.ndarray = field(default_factory=lambda: np.zeros(histograms.BINS, np.int64))

    def add(self, other: "Cell") -> None:
        self.transactions += other.transactions
        self.amount += other.amount
        self.histograms += other.histograms


Cells = dict[Key, Cell]
# Of one answer: its amount, and what its histograms count.
Figures = tuple[float, ...]
SCORE_FIGURES = ("score", *histograms.STAGES)
FALLBACK_FIGURES = ("total",)


def start_of(moment: datetime, step: timedelta) -> datetime:
    """The beginning of the step that a moment is in; steps are counted from 1970 on, in UTC."""
    return moment - (moment - EPOCH) % step


def count(start: datetime, end: datetime) -> Cells:
    """The cells by the minute of all answers in [start, end). Each answer is in the cell of its client and in that of
    all clients."""
    found: dict[Key, list[Figures]] = {}
    for moment, client, *kind, figures in chain(_scores(start, end), _fallbacks(start, end)):
        found.setdefault(Key(moment.replace(second=0, microsecond=0), client, *kind), []).append(figures)
    cells: Cells = {}
    for key, rows in found.items():
        names = SCORE_FIGURES if key.answer == SCORED else FALLBACK_FIGURES
        amounts, *others = np.array(rows).T
        counts = histograms.counted(dict(zip(names, others, strict=True)))
        cells[key] = Cell(len(rows), float(amounts.sum()), counts)
        cells.setdefault(key._replace(client=ALL_CLIENTS), Cell()).add(cells[key])
    return cells


def merged(cells: Iterable[tuple[Key, Cell]], step: timedelta) -> Cells:
    """Cells added up by a longer step."""
    found: Cells = {}
    for key, cell in cells:
        found.setdefault(key._replace(start=start_of(key.start, step)), Cell()).add(cell)
    return found


def stored(span: Span, start: datetime, end: datetime) -> Iterator[tuple[Key, Cell]]:
    """The cells in the roll-ups of [start, end)."""
    rows = TrafficRollup.objects.filter(span=span, start__gte=start, start__lt=end)
    for *key, transactions, amount, packed in rows.values_list(*Key._fields, "transactions", "amount", "histograms"):
        yield Key(*key), Cell(transactions, amount, histograms.unpacked([packed])[0])


def answers_by_minute(start: datetime, end: datetime) -> dict[datetime, int]:
    """How many answers there are in each minute of [start, end), told by indexes alone."""
    found: dict[datetime, int] = {}
    for model in (Prediction, Fallback):
        rows = model.objects.filter(created_at__gte=start, created_at__lt=end)
        by_minute = rows.annotate(minute=TruncMinute("created_at", tzinfo=UTC)).order_by().values_list("minute")
        for minute, number in by_minute.annotate(number=Count("*")):
            found[minute] = found.get(minute, 0) + number
    return found


def first_answer(since: datetime | None = None) -> datetime | None:
    """The moment of the first answer, from `since` on if it is given."""
    moments = [
        (rows.filter(created_at__gte=since) if since else rows).first()
        for rows in (model.objects.order_by("created_at").values_list("created_at", flat=True) for model in _TABLES)
    ]
    return min((moment for moment in moments if moment), default=None)


def last_answer(before: datetime) -> datetime | None:
    """The moment of the last answer before a moment."""
    moments = [
        model.objects.filter(created_at__lt=before).order_by("-created_at").values_list("created_at", flat=True).first()
        for model in _TABLES
    ]
    return max((moment for moment in moments if moment), default=None)


_TABLES: tuple[Any, ...] = (Prediction, Fallback)


def _scores(start: datetime, end: datetime) -> Iterator[tuple[Any, ...]]:
    numbers = dict(PolicyVersion.objects.values_list("pk", "number"))
    rows = Prediction.objects.filter(created_at__gte=start, created_at__lt=end).order_by()
    of_row = rows.values_list(
        *("created_at", "transaction__client_id", "transaction__schema", "model_version_id", "policy_id", "decision"),
        *("transaction__amount", "fraud_score", *(f"{stage}_ms" for stage in histograms.STAGES[:-1]), "latency_ms"),
    )
    for moment, client, schema, version, policy, decision, *figures in of_row.iterator(chunk_size=AT_ONCE):
        yield moment, client, schema, version, numbers.get(policy, 0), decision, SCORED, figures


def _fallbacks(start: datetime, end: datetime) -> Iterator[tuple[Any, ...]]:
    rows = Fallback.objects.filter(created_at__gte=start, created_at__lt=end).order_by()
    of_row = rows.values_list(
        *("created_at", "transaction__client_id", "transaction__schema", "decision", "reason"),
        *("transaction__amount", "latency_ms"),
    )
    for moment, client, schema, decision, reason, amount, latency_ms in of_row.iterator(chunk_size=AT_ONCE):
        yield moment, client, schema, "", 0, decision, reason, (amount, latency_ms)
