"""What people do with alerts: acknowledge, silence, resolve."""

from datetime import datetime, timedelta

from django.db import transaction

from monitoring.alerts import evaluating, telling
from monitoring.alerts.models import Alert, AlertEvent, AlertSilence
from training.core.exceptions import FraudsiteError


class AlertRefused(FraudsiteError):
    """The alert is not open any more."""


def acknowledge(alert: Alert, *, by: str, note: str, now: datetime) -> None:
    """Somebody has taken an alert on: its routes hear who, and it is not told again.

    Raises:
        AlertRefused: it is acknowledged or resolved already.
    """
    with transaction.atomic():
        firing = Alert.objects.filter(pk=alert.pk, state=Alert.State.FIRING)
        if not firing.update(state=Alert.State.ACKNOWLEDGED, acknowledged_at=now, acknowledged_by=by[:150]):
            raise AlertRefused("The alert was acknowledged or resolved meanwhile.")
        telling.note(alert, AlertEvent.Kind.ACKNOWLEDGED, at=now, by=by, note=note)


def silence(alert: Alert, *, by: str, note: str, hours: float, now: datetime) -> AlertSilence:
    """Tell nobody of an alert's rule, for its schema and client, for so many hours."""
    with transaction.atomic():
        made = AlertSilence.objects.create(
            rule=alert.rule,
            schema=alert.schema,
            client=alert.client,
            starts_at=now,
            ends_at=now + timedelta(hours=hours),
            note=note,
            by=by[:150],
        )
        telling.note(alert, AlertEvent.Kind.SILENCED, at=now, by=by, note=f"For {hours:g} h. {note}")
    return made


def resolve(alert: Alert, *, by: str, note: str, now: datetime) -> None:
    """Close an alert by hand. If its rule still finds it, it fires anew.

    Raises:
        AlertRefused: it is resolved already.
    """
    if not evaluating.resolve(alert, now=now, by=by, note=note):
        raise AlertRefused("The alert was resolved meanwhile.")
