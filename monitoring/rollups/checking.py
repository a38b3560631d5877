"""Holds roll-ups against the rows, one by one, by code that shares nothing with what counts them."""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from math import isclose
from typing import Any

from monitoring.rollups.counting import ALL_CLIENTS, Key
from monitoring.rollups.histograms import LATENCY_EDGES_MS, SCORE_EDGES, STAGES, unpacked
from monitoring.rollups.models import RefusalRollup, ReviewRollup, RuleRollup, Span, TrafficRollup
from scoring.models import (
    Fallback,
    Prediction,
    RefusalCount,
    RefusalOfClientCount,
    Review,
    RuleCount,
    RuleOfClientCount,
)

# A key, and of it the count, the amount, and a list of counts for the score and each stage.
Counts = dict[Key, tuple[int, float, list[list[int]]]]


def differences(span: Span, start: datetime, end: datetime) -> Iterator[str]:
    """What roll-ups of whole spans in [start, end) say otherwise than the rows, in words."""
    counted, rolled_up = one_by_one(span, start, end), as_rolled_up(span, start, end)
    for key in sorted(counted.keys() | rolled_up.keys()):
        rows, stored = counted.get(key, (0, 0.0, [])), rolled_up.get(key, (0, 0.0, []))
        where = f"{span.label} {key.start:%Y-%m-%d %H:%M}, {' '.join(str(part) for part in key[1:])}"
        if rows[0] != stored[0]:
            yield f"{where}: {rows[0]:,} rows, {stored[0]:,} in the roll-up."
        elif not isclose(rows[1], stored[1], rel_tol=1e-9, abs_tol=1e-6):
            yield f"{where}: rows come to an amount of {rows[1]}, the roll-up to {stored[1]}."
        elif rows[2] != stored[2]:
            yield f"{where}: the histograms differ."


def one_by_one(span: Span, start: datetime, end: datetime) -> Counts:
    """The counts of the rows, each looked at by itself."""
    counts: Counts = {}
    scores = Prediction.objects.filter(created_at__gte=start, created_at__lt=end).order_by()
    for score in scores.select_related("transaction", "policy").defer("reasons", "explanation", "derived").iterator():
        begin = _begin(score.created_at, span)
        policy = score.policy.number if score.policy else 0
        latencies = [getattr(score, f"{stage}_ms") for stage in STAGES[:-1]] + [score.latency_ms]
        for client in (score.transaction.client_id, ALL_CLIENTS):
            schema, version = score.transaction.schema, score.model_version_id
            key = Key(begin, client, schema, version, policy, score.decision, "scored")
            _add(counts, key, score.transaction.amount, score.fraud_score, latencies)
    for answer in Fallback.objects.filter(created_at__gte=start, created_at__lt=end).select_related("transaction"):
        for client in (answer.transaction.client_id, ALL_CLIENTS):
            begin = _begin(answer.created_at, span)
            key = Key(begin, client, answer.transaction.schema, "", 0, answer.decision, answer.reason)
            _add(counts, key, answer.transaction.amount, None, [None, None, None, answer.latency_ms])
    return counts


def as_rolled_up(span: Span, start: datetime, end: datetime) -> Counts:
    """The same, as the roll-ups have it."""
    counts: Counts = {}
    for row in TrafficRollup.objects.filter(span=span, start__gte=start, start__lt=end):
        flat = unpacked([row.histograms])[0].tolist()
        lists = []
        for length in (len(SCORE_EDGES) + 1, *[len(LATENCY_EDGES_MS) + 1] * len(STAGES)):
            part, flat = flat[:length], flat[length:]
            lists.append(part)
        key = Key(*(getattr(row, name) for name in Key._fields))
        counts[key] = (row.transactions, row.amount, lists)
    return counts


def _begin(moment: datetime, span: Span) -> datetime:
    minute_of_day = 60 * moment.hour + moment.minute
    hour, minute = divmod(minute_of_day - minute_of_day % span, 60)
    return moment.replace(hour=hour, minute=minute, second=0, microsecond=0)


def _add(counts: Counts, key: Key, amount: float, score: float | None, latencies: list[float | None]) -> None:
    number, total, lists = counts.get(key, (0, 0.0, []))
    if not lists:
        lists = [[0] * (len(SCORE_EDGES) + 1), *([0] * (len(LATENCY_EDGES_MS) + 1) for _ in STAGES)]
    if score is not None:
        lists[0][bisect_right(SCORE_EDGES, score)] += 1
    for place, latency in enumerate(latencies, 1):
        if latency is not None:
            lists[place][bisect_right(LATENCY_EDGES_MS, latency)] += 1
    counts[key] = (number + 1, total + amount, lists)


def differences_of_sums(span: Span, start: datetime, end: datetime) -> Iterator[str]:
    """What the roll-ups of refused calls, rules and decided reviews, of longer spans in [start, end), say otherwise
    than their counts by the minute and their rows, in words. Ask for spans of which no counts have been deleted."""
    for of_rows, of_rollups in zip(_sums_of_rows(span, start, end), _sums_rolled_up(span, start, end), strict=True):
        for key in sorted(of_rows.keys() | of_rollups.keys(), key=str):
            counted, rolled_up = of_rows.get(key, ()), of_rollups.get(key, ())
            if counted != rolled_up:
                where = f"{span.label} {key[0]:%Y-%m-%d %H:%M}, {' '.join(str(part) for part in key[1:])}"
                yield f"{where}: {counted or 'nothing'} counted, {rolled_up or 'nothing'} in the roll-up."


Sums = dict[tuple[Any, ...], tuple[int, ...]]
RULE_COLUMNS = ("decided", "matched", "absent", "failed")


def _sums_of_rows(span: Span, start: datetime, end: datetime) -> tuple[Sums, Sums, Sums]:
    refusals, rules, reviews = Sums(), Sums(), Sums()
    within = {"minute__gte": start, "minute__lt": end}

    def add(sums: Sums, moment: datetime, *key: Any, counts: tuple[int, ...]) -> None:
        whole = (_begin(moment, span), *key)
        sums[whole] = tuple(map(sum, zip(sums.get(whole, (0,) * len(counts)), counts, strict=True)))

    for of_all in RefusalCount.objects.filter(**within):
        add(refusals, of_all.minute, ALL_CLIENTS, of_all.status, of_all.kind, counts=(of_all.count,))
    for of_client in RefusalOfClientCount.objects.filter(**within):
        add(refusals, of_client.minute, of_client.client, of_client.status, of_client.kind, counts=(of_client.count,))
    for model in (RuleCount, RuleOfClientCount):
        for row in model.objects.filter(**within).select_related("policy"):
            key = (getattr(row, "client", ALL_CLIENTS), row.policy.schema, row.policy.number, row.rule)
            add(rules, row.minute, *key, counts=tuple(getattr(row, name) for name in RULE_COLUMNS))
    for review in Review.objects.filter(closed_at__gte=start, closed_at__lt=end):
        for client in (ALL_CLIENTS, review.client_id):
            of_kind = (review.reviewer_id or 0, review.state, review.is_sample, review.decided_by_default)
            add(reviews, review.closed_at, client, review.schema, *of_kind, counts=(1,))  # type: ignore[arg-type]
    return refusals, rules, reviews


def _sums_rolled_up(span: Span, start: datetime, end: datetime) -> tuple[Sums, Sums, Sums]:
    def stored(model: Any, keys: tuple[str, ...], columns: tuple[str, ...]) -> Sums:
        rows = model.objects.filter(span=span, start__gte=start, start__lt=end)
        return {
            tuple(getattr(row, name) for name in ("start", "client", *keys)): tuple(
                getattr(row, name) for name in columns
            )
            for row in rows
        }

    return (
        stored(RefusalRollup, ("status", "kind"), ("count",)),
        stored(RuleRollup, ("schema", "policy", "rule"), RULE_COLUMNS),
        stored(ReviewRollup, ("schema", "analyst", "state", "is_sample", "by_default"), ("decided",)),
    )
