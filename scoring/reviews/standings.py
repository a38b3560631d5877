"""How the queues stand: open reviews that are not snoozed, the age of the oldest, and those that are late."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, Min, Q
from django.utils import timezone

from scoring.models import Review
from scoring.pages.display import span
from scoring.reviews.filters import NO_QUEUE
from scoring.reviews.skills import queues_of, seen_by
from scoring.reviews.snoozing import awake


def standings(user: User) -> list[dict[str, Any]]:
    """A row for each queue that somebody sees, and one for reviews without a queue if there are any; nothing if there
    are no queues. One index scan of the open reviews, and two small queries."""
    queues = queues_of(user)
    if not queues:
        return []
    now = timezone.now()
    opened = Review.objects.filter(seen_by(user), awake(), state=Review.State.OPEN).order_by().values("queue")
    sums = opened.annotate(open=Count("pk"), oldest=Min("opened_at"), late=Count("pk", filter=Q(due_at__lte=now)))
    found: dict[int | None, Any] = {row["queue"]: row for row in sums}
    rows: list[tuple[int | None, str]] = [
        (queue.pk, queue.name) for queue in queues if queue.is_active or queue.pk in found
    ]
    if None in found:
        rows.append((None, "No queue"))
    nothing: dict[str, Any] = {"open": 0, "oldest": None, "late": 0}
    return [
        {
            "key": str(key or NO_QUEUE),
            "name": name,
            "open": row["open"],
            "oldest": span(now - row["oldest"]) if row["oldest"] else "",
            "late": row["late"],
        }
        for key, name in rows
        for row in [found.get(key, nothing)]
    ]
