"""Judges all rules, and opens and resolves alerts, each exactly once whoever judges at the same time.

A rule is judged once in each step of its measure: who moves its `judged_at` judges it. An alert is opened by inserting
the one open row that its rule and subject may have, and resolved by an update that finds it open. Its event, and the
notices to the routes, are written in the same transaction.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import redis
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q

from monitoring.alerts import clock, telling
from monitoring.alerts.conditions import Condition, Direction, Judged, NoData, Verdict, change, judge
from monitoring.alerts.measures import all_of_them, gauges
from monitoring.alerts.measures.base import MINUTE, Measure, Scope, Subject, start_of
from monitoring.alerts.models import Alert, AlertEvent, AlertMessage, AlertNotice, AlertRule, AlertSample
from training.core.exceptions import FraudsiteError

logger = logging.getLogger(__name__)

Kind = AlertEvent.Kind
# What is older than this, besides the time that a rule asks for, is not acted on any more.
SLACK = timedelta(minutes=30)
# An open alert of which nothing is measured for so long is resolved.
FORGOTTEN = timedelta(days=1)
DETAIL_LENGTH = 300


@dataclass(frozen=True)
class Finding:
    """What a rule found of one subject: its latest value as people read it, and whether it fires."""

    rule: AlertRule
    subject: Subject
    shown: str
    verdict: Verdict
    is_open: bool


def evaluate(*, now: datetime | None = None, everything: bool = False) -> list[Finding]:
    """Judge the rules that are due, or `everything`, and write what has changed. Returns what was found."""
    now = now or clock.now()
    gauges.record(now)
    findings: list[Finding] = []
    for rule in AlertRule.objects.filter(is_on=True).select_related("client"):
        measure = all_of_them().get(rule.measure)
        if measure is None or not _claim(rule, measure, now, everything=everything):
            continue
        try:
            findings += list(_judge(rule, measure, now))
        except (FraudsiteError, redis.RedisError, OSError) as error:
            logger.warning("The alert rule %s was not judged: %s", rule, error)
    _resolve_what_is_off(now)
    telling.remind(now)
    telling.gather(now)
    return findings


def _claim(rule: AlertRule, measure: Measure, now: datetime, *, everything: bool) -> bool:
    """Whether it is for us to judge the rule. A `judged_at` in the future is of a clock that was set back since."""
    if everything:
        return True
    # What is measured of a step may be complete only some time after its end, so long steps are looked at more often.
    last = max(start_of(now, measure.step), now - max(MINUTE, measure.step / 4))
    due = Q(judged_at=None) | Q(judged_at__lt=last) | Q(judged_at__gt=now + measure.step)
    return bool(AlertRule.objects.filter(due, pk=rule.pk).update(judged_at=now))


def condition_of(rule: AlertRule, measure: Measure) -> Condition:
    return Condition(
        direction=Direction(measure.direction),
        fires_at=rule.fires_at,
        clears_at=rule.clears_at,
        lasts=timedelta(minutes=rule.lasts_min),
        calm=timedelta(minutes=rule.calm_min),
        min_samples=rule.min_samples,
        no_data=NoData(rule.no_data),
        is_seasonal=measure.is_seasonal,
        least_ratio=rule.least_ratio if measure.is_seasonal else 1.0,
    )


def _judge(rule: AlertRule, measure: Measure, now: datetime) -> Iterator[Finding]:
    condition = condition_of(rule, measure)
    since = now - condition.looked_at(measure.step) - SLACK
    found = measure.series(Scope(rule.schema, rule.client_id), since, now)
    open_alerts = {alert.subject: alert for alert in rule.alerts.filter(resolved_at=None)}
    for subject, series in sorted(found.items(), key=lambda each: each[0].key):
        judged = judge(series, condition)
        alert = open_alerts.pop(subject.key, None)
        wanted = change(judged, condition, is_open=alert is not None)
        if alert is None and wanted is Verdict.BREACH:
            alert = _fire(rule, measure, subject, judged, condition, now)
        elif alert is not None:
            _update(alert, measure, judged, now)
            if wanted is Verdict.CALM and resolve(alert, now=now):
                alert = None
        shown = str(_latest_of(measure, judged)["shown"])
        yield Finding(rule, subject, shown, judged.verdicts[-1], alert is not None)
    for alert in open_alerts.values():
        if alert.judged_at < now - FORGOTTEN:
            resolve(alert, now=now, note="Nothing has been measured of it for a day.")


def _fire(
    rule: AlertRule, measure: Measure, subject: Subject, judged: Judged, condition: Condition, now: datetime
) -> Alert | None:
    series = judged.series
    steps = min(condition.steps(series.step, is_open=False), len(series))
    try:
        with transaction.atomic():
            alert = Alert.objects.create(
                rule=rule,
                subject=subject.key,
                schema=subject.schema,
                client_id=subject.client,
                part=subject.part[:100],
                severity=rule.severity,
                began_at=series.end_of(len(series) - steps - 1),
                fired_at=now,
                fired_value=_latest(judged.compared),
                judged_at=now,
                **_latest_of(measure, judged),
            )
            telling.note(alert, Kind.FIRED, at=now)
    except IntegrityError:
        return None  # another evaluation was first
    logger.warning("Alert: %s (%s)", alert, alert.shown)
    return alert


def _update(alert: Alert, measure: Measure, judged: Judged, now: datetime) -> None:
    latest = _latest_of(measure, judged)
    Alert.objects.filter(pk=alert.pk, resolved_at=None).update(**latest, judged_at=now)
    for name, value in latest.items():
        setattr(alert, name, value)


def resolve(alert: Alert, *, now: datetime, by: str = "", note: str = "") -> bool:
    """Resolve an open alert, and tell of it. Returns False if somebody else has."""
    with transaction.atomic():
        open_one = Alert.objects.filter(pk=alert.pk, resolved_at=None)
        if not open_one.update(state=Alert.State.RESOLVED, resolved_at=now):
            return False
        telling.note(alert, Kind.RESOLVED, at=now, by=by, note=note)
    return True


def _resolve_what_is_off(now: datetime) -> None:
    for alert in Alert.objects.filter(resolved_at=None, rule__is_on=False).select_related("rule", "client"):
        resolve(alert, now=now, note="The rule was turned off.")


def _latest_of(measure: Measure, judged: Judged) -> dict[str, object]:
    series = judged.series
    shown = measure.shown(_latest(series.shown))
    if judged.expected is not None:
        shown += f", usually {measure.shown(_latest(judged.expected))}"
    note = next((series.note(index) for index in reversed(range(len(series))) if series.note(index)), "")
    return {"value": _latest(judged.compared), "shown": shown[:80], "detail": note[:DETAIL_LENGTH]}


def _latest(values: np.ndarray) -> float | None:
    """The last value that is known."""
    known = np.flatnonzero(~np.isnan(values))
    return float(values[known[-1]]) if len(known) else None


def delete_old(*, now: datetime | None = None) -> int:
    """Delete samples, and messages with their notices, that are older than `COUNTS_RETENTION_DAYS`. Returns how many
    samples and messages."""
    before = (now or clock.now()) - timedelta(days=settings.COUNTS_RETENTION_DAYS)
    deleted, _ = AlertSample.objects.filter(minute__lt=before).delete()
    # First, as a notice without its message is one that still has to be told.
    AlertNotice.objects.filter(message__finished_at__lt=before).delete()
    messages, _ = AlertMessage.objects.filter(finished_at__lt=before).delete()
    return deleted + messages
