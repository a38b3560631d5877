"""Snoozes: reviews that are not offered for a while."""

from django.db.models import Q
from django.db.models.functions import Now


def awake() -> Q:
    """The reviews that are not snoozed."""
    return Q(snoozed_until=None) | Q(snoozed_until__lte=Now())
