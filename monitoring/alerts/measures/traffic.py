"""Measures of answers and refusals, read from roll-ups: shares of alerts, latencies, answers without a score."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
from django.db.models import Sum

from monitoring.alerts.measures.base import HOUR, MINUTE, Scope, SeriesBySubject, Subject, filled, start_of
from monitoring.alerts.series import Kind, Series
from monitoring.rollups import histograms
from monitoring.rollups.counting import ALL_CLIENTS, SCORED
from monitoring.rollups.models import RollupProgress, Span, TrafficRollup
from scoring.decisions import ALERTS
from scoring.models import Client, RefusalCount

FEW_MINUTES = 5 * MINUTE
# Roll-ups are counted a little after the answers, and rows of a batch may be committed a little late.
LATE = 2 * MINUTE
# Calls that were refused as we could not answer, or did not want to: too many requests, and 5xx.
OURS = 429
P99 = 0.99


def complete_until(now: datetime) -> datetime:
    """Until when the roll-ups are complete: what came later is unknown, not nothing."""
    counted = RollupProgress.objects.values_list("counted_until", flat=True).first()
    return min(now, counted) - LATE if counted else now - timedelta(days=3_650)


def alert_rate(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    return _alert_rate(scope, since, until, by_client=False)


def client_alert_rate(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    return _alert_rate(scope, since, until, by_client=True)


def _alert_rate(scope: Scope, since: datetime, until: datetime, *, by_client: bool) -> SeriesBySubject:
    until = complete_until(until)
    rows = cells(Span.HOUR, scope, since, until, by_client=by_client).filter(answer=SCORED)
    groups = rows.values_list("schema", "client", "start", "decision").annotate(number=Sum("transactions"))
    by_step = (
        (Subject(schema, client or None), start, float(number if decision in ALERTS else 0), number)
        for schema, client, start, decision, number in groups
    )
    return filled(by_step, since, until, HOUR, Kind.SHARE)


def transactions(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    until = complete_until(until)
    groups = (
        cells(Span.HOUR, scope, since, until)
        .filter(answer=SCORED)
        .values_list("schema", "start")
        .annotate(number=Sum("transactions"))
    )
    by_step = ((Subject(schema), start, float(number), number) for schema, start, number in groups)
    return filled(by_step, since, until, HOUR, Kind.COUNT, empty=0.0)


def unscored_rate(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    until = complete_until(until)
    groups = (
        cells(Span.MINUTE, scope, since, until)
        .values_list("schema", "start", "answer")
        .annotate(number=Sum("transactions"))
    )
    by_step = (
        (Subject(schema), start, float(number if answer != SCORED else 0), number)
        for schema, start, answer, number in groups
    )
    return filled(by_step, since, until, FEW_MINUTES, Kind.SHARE)


def latency_p99(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    until = complete_until(until)
    since, place = start_of(since, FEW_MINUTES), histograms.PLACES["total"]
    length = max(0, (until - since) // FEW_MINUTES)
    added: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((length, histograms.LATENCY_BINS), np.int64))
    rows = cells(Span.MINUTE, scope, since, until).values_list("schema", "start", "histograms")
    for schema, start, packed in rows:
        if 0 <= (index := (start - since) // FEW_MINUTES) < length:
            added[schema][index] += histograms.unpacked([packed])[0][place]
    found = {}
    for schema, counts in added.items():
        values = [histograms.quantile_ms(each, P99) for each in counts]
        levels = np.array([np.nan if value is None else value for value in values])
        found[Subject(schema)] = Series(since, FEW_MINUTES, levels, counts.sum(axis=1))
    return found


def refused_by_us(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    return _refused(since, until, is_ours=True)


def refused_by_fault(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    return _refused(since, until, is_ours=False)


def _refused(since: datetime, until: datetime, *, is_ours: bool) -> SeriesBySubject:
    """The share of calls and rows of lists that were refused, among these and those that were answered."""
    until = complete_until(until)

    def rows() -> Iterator[tuple[Subject, datetime, float, float]]:
        refused = RefusalCount.objects.filter(minute__gte=since, minute__lt=until)
        for minute, status, number in refused.values_list("minute", "status", "count"):
            yield Subject(), minute, float(number if (status >= OURS) == is_ours else 0), number
        answered = cells(Span.MINUTE, Scope(), since, until).values_list("start").annotate(number=Sum("transactions"))
        for minute, number in answered:
            yield Subject(), minute, 0.0, number

    return filled(rows(), since, until, FEW_MINUTES, Kind.SHARE)


def cells(span: Span, scope: Scope, since: datetime, until: datetime, *, by_client: bool = False):  # type: ignore
    """The roll-ups of a scope, of all clients together or of each."""
    rows = TrafficRollup.objects.filter(span=span, start__gte=since, start__lt=until).order_by()
    if scope.schema:
        rows = rows.filter(schema=scope.schema)
    if not by_client:
        return rows.filter(client=ALL_CLIENTS)
    # The rows of all clients are read by an index that begins with the client.
    clients = [scope.client] if scope.client else list(Client.objects.values_list("pk", flat=True))
    return rows.filter(client__in=clients)
