"""How the queues stand: open reviews that are not snoozed, the age of the oldest, and those that are late."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db.models import Count, Min, Q
from django.utils import timezone

from scoring.models import Review
from scoring.pages.display import span
from scoring.reviews.filters import NO_QUEUE
from scoring.reviews.skills import queues_of
from scoring.reviews.snoozing import awake
from scoring.tenancy import restriction


class Counts(NamedTuple):
    """Of the reviews of a queue and a client: how many are open, since when the oldest is, and how many are late."""

    queue: int | None
    client: int | None
    open: int
    oldest: datetime
    late: int


def standings(user: User) -> list[dict[str, Any]]:
    """A row for each queue that somebody sees, and one for reviews without a queue if there are any; nothing if there
    are no queues. The reviews are counted for everybody together, once in `QUEUE_COUNTS_S` in each web process."""
    queues = queues_of(user)
    if not queues:
        return []
    clients = restriction.clients_of(user)
    found: dict[int | None, list[Counts]] = {}
    counts: list[Counts] = cache.get_or_set("standings", _count, settings.QUEUE_COUNTS_S)  # type: ignore[assignment]
    for each in counts:
        if clients is None or each.client in clients:
            found.setdefault(each.queue, []).append(each)
    rows: list[tuple[int | None, str]] = [
        (queue.pk, queue.name) for queue in queues if queue.is_active or queue.pk in found
    ]
    if None in found:
        rows.append((None, "No queue"))
    return [{"key": str(key or NO_QUEUE), "name": name, **_told(found.get(key, []))} for key, name in rows]


def _count() -> list[Counts]:
    """One scan of the open reviews: it costs more, the more there are."""
    opened = Review.objects.filter(awake(), state=Review.State.OPEN).order_by().values("queue", "client")
    late = Count("pk", filter=Q(due_at__lte=timezone.now()))
    sums = opened.annotate(open=Count("pk"), oldest=Min("opened_at"), late=late)
    return [Counts(**row) for row in sums]


def _told(counts: Iterable[Counts]) -> dict[str, Any]:
    oldest = min((each.oldest for each in counts), default=None)
    return {
        "open": sum(each.open for each in counts),
        "oldest": span(timezone.now() - oldest) if oldest else "",
        "late": sum(each.late for each in counts),
    }
