"""How many reviews the live policy opens, beside how many analysts can do."""

from datetime import timedelta

from django.utils import timezone
from msgspec import Struct

from scoring.decisions import ALERTS, Decision
from scoring.models import PolicyVersion, Prediction, Review

# So that a page and a scrape cost the same at any size.
COUNTED = 100_000


class Load(Struct):
    """Reviews that were opened in the last hour and in the last 24 hours, and those that are open, each at most
    `COUNTED`. `capacity` is how many a day analysts can do; None if the policy does not say."""

    hour: int
    day: int
    waiting: int
    capacity: float | None = None

    @property
    def is_above(self) -> bool:
        return self.capacity is not None and self.day > self.capacity


def load(schema: str, capacity: float | None) -> Load:
    """The load of a schema's reviews now."""
    # Each alert opens a review. Without `exclude`, the index of alerts would not be used.
    alerts = Prediction.objects.exclude(decision=Decision.APPROVE).filter(decision__in=ALERTS)
    now = timezone.now()
    hour, day = (
        alerts.filter(model_version__schema=schema, created_at__gte=now - timedelta(hours=hours))[:COUNTED].count()
        for hours in (1, 24)
    )
    waiting = Review.objects.filter(state=Review.State.OPEN, prediction__model_version__schema=schema)
    return Load(hour, day, waiting[:COUNTED].count(), capacity)


def declared() -> dict[str, Load]:
    """The load of each schema whose live policy says how many reviews can be done."""
    found = {}
    for version in PolicyVersion.objects.filter(state=PolicyVersion.State.LIVE).order_by("schema"):
        if capacity := version.document.get("capacity"):
            found[version.schema] = load(version.schema, capacity)
    return found
