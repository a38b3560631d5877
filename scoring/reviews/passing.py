"""Passing a review on: to a colleague, or to the supervisors. Each is one database transaction with its event."""

from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from scoring.models import Review, ReviewEvent, ReviewQueue
from scoring.reviews import due, queue
from scoring.reviews.notes import PassingRefused, checked_note, record
from scoring.tenancy import restriction

HANDED_SHOWN = 5
MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


def colleagues_of(user: User) -> QuerySet[User]:
    """Those to whom a user can hand a review over: who may decide on it."""
    deciding = User.objects.with_perm("scoring.change_review", backend=MODEL_BACKEND)
    return deciding.exclude(pk=user.pk).order_by("username")


def hand_over(*, review: UUID, by: User, to: str, note: str = "") -> None:
    """Hand an open review to a colleague by name, who is offered it first; for `REVIEW_HAND_OVER_S`, nobody else is.

    Raises:
        PassingRefused: nothing was changed.
    """
    note = checked_note(note)
    colleague = colleagues_of(by).filter(username=to).first() if "\0" not in to else None
    if colleague is None:
        raise PassingRefused("Choose a colleague who may decide on alerts. Nothing was changed.")
    if not restriction.sees(colleague, Review.objects.values_list("client", flat=True).get(pk=review)):
        raise PassingRefused(f"{to} does not work for this client. Choose another colleague. Nothing was changed.")
    until = Now() + timedelta(seconds=settings.REVIEW_HAND_OVER_S)
    with transaction.atomic():
        _pass_on(review, by, assigned_to=colleague, assigned_until=until)
        record(review, ReviewEvent.Did.HANDED_OVER, by=by, to=colleague.username, note=note)


def handed_over(user: User) -> list[tuple[Review, ReviewEvent | None]]:
    """The first open reviews that were handed to a user, each with the event that tells from whom, and the note."""
    reviews = queue.handed_to(user).select_related("prediction__transaction").order_by("assigned_until")
    events = ReviewEvent.objects.filter(did=ReviewEvent.Did.HANDED_OVER, to=user.username).select_related("by")
    return [(review, events.filter(review=review).order_by("-pk").first()) for review in reviews[:HANDED_SHOWN]]


def escalate(*, review: UUID, by: User, note: str) -> ReviewQueue:
    """Move an open review to the supervisors' queue, whose due time counts from now on. Returns the queue.

    Raises:
        PassingRefused: nothing was changed.
    """
    note = checked_note(note, needed=True)
    target = due.supervisors_queue()
    with transaction.atomic():
        _pass_on(review, by, queue=target, due_at=due.due_at_in(target), assigned_to=None, assigned_until=None)
        record(review, ReviewEvent.Did.ESCALATED, by=by, to=target.name, note=note)
    return target


def take_over(*, review: UUID, by: User) -> None:
    """Claim an open review for a supervisor, whoever is at it.

    Raises:
        PassingRefused: it is closed.
    """
    with transaction.atomic():
        if not queue.take_over(review, by):
            raise PassingRefused
        record(review, ReviewEvent.Did.TAKEN_OVER, by=by)


def _pass_on(review: UUID, by: User, **changes: object) -> None:
    """Change an open review that is with nobody else, and end its claim. Supervisors may do so with any."""
    rows = Review.objects.filter(pk=review, state=Review.State.OPEN)
    if not by.has_perm("scoring.supervise_review"):
        rows = rows.filter(queue.free_for(by))
    if not rows.update(claimed_by=None, claimed_until=None, **changes):
        raise PassingRefused
