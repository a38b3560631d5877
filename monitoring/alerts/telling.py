"""Who is told of what, and when: events become notices to routes, and the notices of a route become one message.

A storm stays small. A route gets one message in `ALERT_GROUP_S`, with all that has happened since the last one, and
none while one is on its way. What still fires is told again every `ALERT_REPEAT_H` until somebody acknowledges it. What
is silenced is not told; once the silence has ended and it still fires, it is.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.urls import reverse

from monitoring.alerts.models import (
    Alert,
    AlertEvent,
    AlertMessage,
    AlertNotice,
    AlertRoute,
    AlertSilence,
    Severity,
)

Kind = AlertEvent.Kind
RANK = {severity: rank for rank, severity in enumerate((Severity.INFO, Severity.WARNING, Severity.CRITICAL))}
# Of a message; what is left out is counted.
LINES_LIMIT = 50


def hears(route: AlertRoute, alert: Alert) -> bool:
    """Whether a route is for an alert: by its severity, and by its schema if it has one."""
    for_schema = not route.schemas or not alert.schema or alert.schema in route.schemas
    return route.is_on and for_schema and RANK[Severity(alert.severity)] >= RANK[Severity(route.severity)]


def is_silenced(alert: Alert, silences: Iterable[AlertSilence], now: datetime) -> bool:
    """Whether a silence that holds at a time covers an alert."""
    return any(
        silence.starts_at <= now < silence.ends_at
        and silence.rule_id in (None, alert.rule_id)
        and silence.schema in ("", alert.schema)
        and silence.client_id in (None, alert.client_id)
        for silence in silences
    )


def note(alert: Alert, kind: Kind, *, at: datetime, by: str = "", note: str = "") -> AlertEvent:
    """Write down what happened to an alert, and for whom. Call it in the transaction of what happened."""
    event = AlertEvent.objects.create(alert=alert, kind=kind, at=at, by=by[:150], note=note)
    if is_silenced(alert, _silences(at), at):
        return event
    if kind in (Kind.FIRED, Kind.STILL):
        Alert.objects.filter(pk=alert.pk).update(told_at=at)
    elif kind is Kind.RESOLVED and alert.told_at is None:
        return event  # nobody has heard of it
    elif kind is Kind.SILENCED:
        return event
    routes = [route for route in AlertRoute.objects.filter(is_on=True) if hears(route, alert)]
    AlertNotice.objects.bulk_create(AlertNotice(route=route, event=event) for route in routes)
    return event


def _silences(now: datetime) -> list[AlertSilence]:
    return list(AlertSilence.objects.filter(starts_at__lte=now, ends_at__gt=now))


def remind(now: datetime) -> None:
    """Tell again of what fires and nobody has acknowledged, and for the first time of what was silenced until now."""
    before = now - timedelta(hours=settings.ALERT_REPEAT_H)
    # A `told_at` in the future is of a clock that was set back since.
    due = Q(told_at=None) | Q(told_at__lte=before) | Q(told_at__gt=now + timedelta(minutes=5))
    silences = _silences(now)
    for alert in Alert.objects.filter(due, state=Alert.State.FIRING).select_related("rule", "client"):
        if is_silenced(alert, silences, now):
            continue
        with transaction.atomic():
            if Alert.objects.filter(due, pk=alert.pk, state=Alert.State.FIRING).update(told_at=now):
                note(alert, Kind.STILL, at=now)


def gather(now: datetime) -> None:
    """Make a message of the notices of each route that may have one now."""
    waiting = AlertNotice.objects.filter(message=None).values("route")
    for route in AlertRoute.objects.filter(pk__in=waiting):
        if not route.is_on:
            AlertNotice.objects.filter(route=route, message=None).delete()
            continue
        recent = AlertMessage.objects.filter(
            route=route, created_at__gt=now - timedelta(seconds=settings.ALERT_GROUP_S), created_at__lte=now
        )
        if not recent.exists():
            _gather(route, now)


def _gather(route: AlertRoute, now: datetime) -> None:
    try:
        with transaction.atomic():
            # The one pending message that a route may have: another sender that makes one waits here, and fails.
            message = AlertMessage.objects.create(route=route, lines=[], created_at=now, due_at=now)
            notices = list(
                AlertNotice.objects.filter(route=route, message=None)
                .select_related("event__alert__rule", "event__alert__client")
                .order_by("event")
            )
            if not notices:
                raise _NothingToTellError
            AlertNotice.objects.filter(pk__in=[notice.pk for notice in notices]).update(message=message)
            message.lines = lines_of([notice.event for notice in notices])
            message.save(update_fields=["lines"])
    except (IntegrityError, _NothingToTellError):
        return


class _NothingToTellError(Exception):
    """Another sender has told it."""


def lines_of(events: Sequence[AlertEvent]) -> list[dict[str, Any]]:
    """What a message tells: of each alert what happened last, what fires before what does not, the severest first."""
    latest = {event.alert_id: event for event in events}
    over = (Kind.RESOLVED, Kind.ACKNOWLEDGED)
    ranked = sorted(
        latest.values(),
        key=lambda event: (event.kind in over, -RANK[Severity(event.alert.severity)], event.alert.fired_at, event.pk),
    )
    return [line_of(event) for event in ranked[:LINES_LIMIT]] + [
        {"more": len(ranked) - LINES_LIMIT} for _ in range(len(ranked) > LINES_LIMIT)
    ]


def line_of(event: AlertEvent) -> dict[str, Any]:
    """What is told of an event: words of ours, names and figures, no personal values but names of colleagues."""
    alert = event.alert
    return {
        "alert": alert.pk,
        "event": event.kind,
        "said": event.get_kind_display(),
        "name": alert.rule.name,
        "severity": alert.severity,
        "of": alert.of,
        "schema": alert.schema,
        "client": str(alert.client or ""),
        "value": alert.shown,
        "detail": alert.detail,
        "fired_at": alert.fired_at.isoformat(),
        "at": event.at.isoformat(),
        "by": event.by,
        "note": event.note,
        "address": address_of(reverse("admin:monitoring_alert_change", args=[alert.pk])),
        "runbook": address_of(f"{reverse('runbooks')}#{alert.rule.measure}"),
    }


def address_of(path: str) -> str:
    """The address of a page in a message."""
    return f"{settings.SITE_URL}{path}"
