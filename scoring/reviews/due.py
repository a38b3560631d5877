"""Due times: what happens to a review that nobody decided in time.

Each review is taken by one conditional update, so an action is done once, however many schedulers run and however
often their messages come. What is late is decided by the database's clock alone.

An action that closes a review writes no label. A label is somebody's word on a transaction, and nobody has looked at
this one: trainings and metrics would learn from the clock. So the decision holds for the review alone, and
`decided_by_default` keeps it out of the analysts' precision. A label that comes later corrects it like any other.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now

from scoring.acts import acted
from scoring.models import Review, ReviewEvent, ReviewQueue
from scoring.reviews.notes import record
from scoring.webhooks import about, events


def due_at_in(queue: ReviewQueue | None) -> CombinedExpression | None:
    """When a review that comes to a queue now is late, as the database computes it; None without a due time."""
    if queue is None or queue.due_minutes is None:
        return None
    return Now() + timedelta(minutes=queue.due_minutes)


def begin_again(review: UUID) -> dict[str, Any]:
    """The fields of a review that is reopened: its due time counts from now on, and it is not snoozed."""
    row = Review.objects.select_related("queue").filter(pk=review).first()
    return {"due_at": due_at_in(row.queue if row else None), "snoozed_until": None}


def supervisors_queue() -> ReviewQueue:
    """The first active queue for supervisors. If there is none, it is made: no review is routed to it."""
    found = ReviewQueue.objects.filter(is_for_supervisors=True, is_active=True).first()
    if found is None:
        made = {"is_for_supervisors": True, "is_active": True, "expression": "false", "position": 999}
        found, _ = ReviewQueue.objects.update_or_create(name="Supervisors", defaults=made)
        found.groups.set(Group.objects.filter(name="Supervisor"))
    return found


def act_on_late() -> int:
    """Do what queues want done with their late reviews, with at most `DUE_LIMIT`; the next run goes on. Returns with
    how many it was done."""
    done = 0
    for queue in ReviewQueue.objects.exclude(when_due=ReviewQueue.WhenDue.NOTHING):
        late = Review.objects.filter(queue=queue, state=Review.State.OPEN, due_at__lte=Now()).order_by("due_at")
        keys = list(late.values_list("pk", flat=True)[: settings.DUE_LIMIT - done])
        done += sum(_act(key, queue) for key in keys)
    return done


@transaction.atomic
def _act(key: UUID, queue: ReviewQueue) -> bool:
    """Do it with one review, if it is still late. Whoever is at it has decided too late."""
    # Another scheduler, or an analyst who decides at this moment, has the row: there is nothing to do.
    rows = Review.objects.select_for_update(skip_locked=True)
    review = rows.filter(pk=key, queue=queue, state=Review.State.OPEN, due_at__lte=Now()).first()
    if review is None:
        return False
    unclaimed = {"claimed_by": None, "claimed_until": None, "assigned_to": None, "assigned_until": None}
    if queue.when_due == ReviewQueue.WhenDue.ESCALATE:
        target = supervisors_queue()
        # A queue for supervisors that escalates keeps its reviews; they are late once.
        due_at = due_at_in(target) if target != queue else None
        Review.objects.filter(pk=review.pk).update(queue=target, due_at=due_at, **unclaimed)
        told = f"escalated to {target}"
    else:
        closed = {"closed_at": Now(), "reviewer": None, "decided_by_default": True, "due_at": None}
        Review.objects.filter(pk=review.pk).update(state=queue.when_due, **closed, **unclaimed)
        events.record_all(about.review_moved(key, before=review.state, after=queue.when_due, cause="due_time"))
        told = Review.State(queue.when_due).label.lower()
    note = f"Not decided in the due time of {queue}: {told}, by the queue's action for late alerts."
    record(review.pk, ReviewEvent.Did.LATE, by=None, to=told, note=note)
    acted.send(Review, action="changed", key=review.pk, detail=note, person="")
    return True
