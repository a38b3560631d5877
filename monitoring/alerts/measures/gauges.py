"""Measures that nothing else keeps: what the evaluation sees at the moment. It writes them down once a minute."""

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import redis
from django.conf import settings
from django.db.models import Min
from django.utils import timezone

from monitoring import selectors
from monitoring.alerts.measures import traffic
from monitoring.alerts.measures.base import HOUR, MINUTE, Scope, SeriesBySubject, Subject, filled, start_of
from monitoring.alerts.models import AlertSample
from monitoring.alerts.series import Kind
from scoring import served
from scoring.models import Review, WebhookDelivery, WebhookEndpoint
from scoring.webhooks import figures as webhooks
from scoring.worker import workers

# A subject, its value and what stands out.
Found = Iterator[tuple[Subject, float, str]]
NAMED = 5
# For how many evaluations a value stands in for those that are missing.
CARRIED = 3


def record(now: datetime) -> None:
    """Write down all gauges, once a minute whoever is first."""
    minute = start_of(now, MINUTE)
    if AlertSample.objects.filter(minute=minute).exists():
        return
    rows = []
    for name, read in GAUGES.items():
        try:
            found = list(read(now))
        except (redis.RedisError, OSError):
            continue  # unknown, which is not the same as none
        rows += [
            AlertSample(measure=name, subject=subject.key, minute=minute, value=value, note=note[:300])
            for subject, value, note in found
        ]
    AlertSample.objects.bulk_create(rows, ignore_conflicts=True)


def reading(name: str) -> Callable[[Scope, datetime, datetime], SeriesBySubject]:
    """What reads the series of a gauge."""

    def read(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
        first, end = start_of(since, MINUTE), start_of(until, MINUTE) + MINUTE
        notes: dict[Subject, dict[int, str]] = {}
        by_minute = []
        samples = AlertSample.objects.filter(measure=name, minute__gte=first, minute__lt=end).order_by("minute")
        for key, minute, value, note in samples.values_list("subject", "minute", "value", "note"):
            subject = Subject.of(key)
            if not subject.schema or scope.has(subject):
                by_minute.append((subject, minute, value, 1.0))
                if note:
                    notes.setdefault(subject, {})[(minute - first) // MINUTE] = note
        found = filled(by_minute, first, end, MINUTE, Kind.LEVEL)
        return {
            subject: replace(series, values=_carried(series.values), notes=notes.get(subject))
            for subject, series in found.items()
        }

    return read


def _carried(values: np.ndarray) -> np.ndarray:
    """Values [n] in which each minute without one has that before it, if it is not older than a few evaluations: these
    may be rarer than once a minute, and come late."""
    places = np.where(np.isnan(values), 0, np.arange(1, len(values) + 1))
    latest = np.maximum.accumulate(places)
    age = np.arange(1, len(values) + 1) - latest
    longest = CARRIED * max(1.0, settings.ALERTS_INTERVAL_S / 60)
    return np.where((latest > 0) & (age <= longest), values[np.maximum(latest - 1, 0)], np.nan)


def workers_at_work(now: datetime) -> Found:
    """How many worker processes that score what somebody waits for say that they are there."""
    yield Subject(), float(sum(status.scores_at_once for status in workers.known())), ""


def worker_processes(now: datetime) -> Found:
    """How many worker processes there are in all, for `workers_lost`."""
    yield Subject(), float(len(workers.known())), ""


def workers_lost(now: datetime) -> Found:
    """How many fewer they are than within the last hour."""
    here = len(workers.known())
    hour = AlertSample.objects.filter(measure="worker_processes", minute__gt=now - HOUR, minute__lte=now)
    most = max(hour.values_list("value", flat=True), default=0.0)
    yield Subject(), max(0.0, most - here), f"{here} of {most:.0f} are left"


def models_refused(now: datetime) -> Found:
    """How many worker processes refuse a champion, by schema."""
    refusing: dict[str, list[str]] = {}
    for status in workers.known():
        for schema in status.versions:
            refusing.setdefault(schema, [])
        for schema, refusal in status.refused.items():
            refusing.setdefault(schema, []).append(f"{refusal.version}: {refusal.fault}")
    for schema, faults in refusing.items():
        yield Subject(schema), float(len(faults)), "; ".join(sorted(set(faults))[:NAMED])


def review_age(now: datetime) -> Found:
    """How many hours the oldest review that could be done has been open, by schema; 0 if there is none."""
    waiting = Review.objects.filter(state=Review.State.OPEN, is_sample=False).exclude(snoozed_until__gt=now).order_by()
    oldest_of = dict(waiting.values_list("schema").annotate(oldest=Min("opened_at")))
    for schema in sorted({*served.now().schemas, *oldest_of}):
        yield Subject(schema), max(0.0, (now - oldest_of.get(schema, now)) / HOUR), ""


def pending_set_aside(now: datetime) -> Found:
    """How many stored transactions without a score are not tried any more."""
    yield Subject(), float(selectors.unscored().set_aside), ""


def webhooks_given_up(now: datetime) -> Found:
    """How many deliveries of webhooks were given up in the last hour."""
    dead = WebhookDelivery.objects.filter(state=WebhookDelivery.State.DEAD, finished_at__gt=now - HOUR)
    to = dead[: webhooks.COUNTED].values_list("endpoint", flat=True)
    urls = WebhookEndpoint.objects.filter(pk__in=set(to)).values_list("url", flat=True)
    yield Subject(), float(len(to)), ", ".join(sorted(urls)[:NAMED])


def webhook_wait(now: datetime) -> Found:
    """How many minutes the delivery that waits longest has waited."""
    yield Subject(), webhooks.oldest_pending_s() / 60, ""


def disk_free(now: datetime) -> Found:
    """The share of the disk that is free where VAR_DIR is, on the machine that evaluates."""
    usage = shutil.disk_usage(settings.VAR_DIR)
    yield Subject(part=platform.node()), usage.free / usage.total, f"{usage.free / 1e9:,.1f} GB left"


def counting_behind(now: datetime) -> Found:
    """How many minutes ago the roll-ups were complete, where there was traffic since."""
    behind = timezone.now() - traffic.LATE - traffic.complete_until(timezone.now())
    if behind < timedelta(days=3_000):  # nothing was ever counted
        yield Subject(), max(0.0, behind / MINUTE), ""


GAUGES: dict[str, Callable[[datetime], Found]] = {
    "workers": workers_at_work,
    "worker_processes": worker_processes,
    "workers_lost": workers_lost,
    "models_refused": models_refused,
    "review_age": review_age,
    "set_aside": pending_set_aside,
    "webhooks_dead": webhooks_given_up,
    "webhook_wait": webhook_wait,
    "disk_free": disk_free,
    "counting_behind": counting_behind,
}
