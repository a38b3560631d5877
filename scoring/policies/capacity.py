"""How many reviews the live policy opens, beside how many analysts can do."""

from datetime import timedelta

from django.utils import timezone
from msgspec import Struct

from scoring.decisions import ALERTS, Decision
from scoring.models import Review
from scoring.policies.stored import rows_of
from training.core.schema import Schema

COUNTED_REVIEWS = 10_000


class Load(Struct):
    """Reviews that were opened in the last hour and in the last 24 hours, and those that are open, at most
    `COUNTED_REVIEWS`. `capacity` is how many a day analysts can do; None if the policy does not say."""

    hour: int
    day: int
    waiting: int
    capacity: float | None = None

    @property
    def is_above(self) -> bool:
        return self.capacity is not None and self.day > self.capacity


def load(schema: Schema, capacity: float | None) -> Load:
    """The load of a schema's reviews now."""
    now = timezone.now()
    # Each alert opens a review. Without `exclude`, the index of alerts would not be used.
    hour, day = (
        rows_of(schema, now - timedelta(hours=hours), now)
        .exclude(decision=Decision.APPROVE)
        .filter(decision__in=ALERTS)
        .count()
        for hours in (1, 24)
    )
    waiting = Review.objects.filter(state=Review.State.OPEN, prediction__transaction__schema=schema.name)
    return Load(hour, day, waiting[:COUNTED_REVIEWS].count(), capacity)
