"""The queue of open reviews and their claims. Claims lead analysts who work at the same time to different reviews.

Opening a review claims it, its page renews the claim while somebody looks at it, and leaving the page ends it. A claim
of a browser that died expires by itself. It does not keep others from opening or closing the review: the first to close
it decides, whoever has the claim. Times are compared by the database's clock, so clocks of web servers may differ.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from scoring.acts import acted
from scoring.models import Review, ReviewQueue
from scoring.reviews import second_opinions
from scoring.reviews.skills import seen_by
from scoring.reviews.snoozing import awake
from training.core.figures import at

RENEWAL_LIMIT_MS = 15_000


class Claim(NamedTuple):
    """What a user who looks at a review is told: whether it is theirs and until when, else why not."""

    is_mine: bool
    until: datetime | None
    message: str


def open_reviews(user: User, limit: int) -> int:
    """How many open reviews somebody sees that are not snoozed, counted up to `limit`."""
    return Review.objects.filter(seen_by(user), awake(), state=Review.State.OPEN)[:limit].count()


def newest_opening() -> datetime:
    """When the newest open review was opened, by the workers' clock; now, if there is none."""
    newest = Review.objects.filter(state=Review.State.OPEN).order_by("-opened_at").values_list("opened_at", flat=True)
    return newest.first() or timezone.now()


def renewal_ms() -> int:
    """How often a page renews its claim: some times before it would expire. 0 if there are no claims."""
    return min(RENEWAL_LIMIT_MS, settings.REVIEW_CLAIM_S * 1_000 // 3)


def claim(review: UUID, user: User) -> bool:
    """Claim an open review for a user, or renew the claim. Returns False if it is with another user, or closed."""
    until = Now() + timedelta(seconds=settings.REVIEW_CLAIM_S)
    # A conditional update: of two users the first gets it.
    rows = Review.objects.filter(free_for(user), pk=review)
    # The audit trail has who claimed it, and not each renewal.
    if rows.filter(claimed_by=user, claimed_until__gt=Now()).update(claimed_until=until):
        return True
    with transaction.atomic():
        won = bool(rows.update(claimed_by=user, claimed_until=until, claimed_since=Now()))
        if won:
            acted.send(Review, action="claimed", key=review, detail="", person=user.get_username())
    return won


def look_at(review: UUID, user: User) -> Claim:
    """Claim a review for a user who looks at it, if it is free. Tells the user with whom it is otherwise."""
    is_mine = claim(review, user)
    row = Review.objects.select_related("claimed_by", "assigned_to", "reviewer").get(pk=review)
    if is_mine:
        return Claim(True, row.claimed_until, "")
    if row.state != Review.State.OPEN:
        if second_opinions.hides(user, review):
            return Claim(False, None, "A colleague has closed this alert, and you may give the second opinion on it.")
        by = row.reviewer or "The action for late alerts"
        return Claim(False, None, f"{by} has closed this alert: {row.get_state_display().lower()}.")
    if row.is_claimed and row.claimed_until:
        return Claim(False, None, f"{row.claimed_by} is at this alert, until {at(row.claimed_until)} at the latest.")
    return Claim(False, None, f"This alert was handed over to {row.assigned_to}.")


def take_over(review: UUID, user: User) -> bool:
    """Claim an open review for a supervisor, whoever is at it. Returns False if it is closed."""
    until = Now() + timedelta(seconds=settings.REVIEW_CLAIM_S)
    row = Review.objects.filter(pk=review, state=Review.State.OPEN)
    return bool(
        row.update(claimed_by=user, claimed_until=until, claimed_since=Now(), assigned_to=None, assigned_until=None)
    )


def claim_next(queue: QuerySet[Review], user: User, passed: Iterable[Any]) -> UUID | None:
    """Claim the first review of a list that is open, with nobody else, not snoozed and not `passed`; before these, one
    that was handed to the user. Returns its key."""
    passed = list(passed)
    handed = Review.objects.filter(seen_by(user), assigned_to=user, assigned_until__gt=Now()).order_by("assigned_until")
    for candidates in (handed, queue.exclude(queue__in=_closed_to(user))):
        keys = candidates.filter(awake()).exclude(pk__in=passed).values_list("pk", flat=True)
        while (found := keys.filter(free_for(user)).first()) is not None:
            if claim(found, user):
                return found
    return None


def release(review: UUID, user: User, known_until: datetime | None = None) -> None:
    """End a user's claim. With `known_until`, only a claim that was not renewed since: a page that is left does not
    end the claim of the page that the same user has opened after it."""
    claims = Review.objects.filter(pk=review, claimed_by=user)
    if known_until:
        claims = claims.filter(claimed_until__lte=known_until)
    with transaction.atomic():
        if claims.update(claimed_by=None, claimed_until=None):
            acted.send(Review, action="released", key=review, detail="", person=user.get_username())


def free_for(user: User) -> Q:
    """The open reviews that are with nobody but perhaps this user."""
    free = Q(claimed_by=None) | Q(claimed_by=user) | Q(claimed_until__lte=Now())
    theirs = Q(assigned_to=None) | Q(assigned_to=user) | Q(assigned_until__lte=Now())
    return free & theirs & Q(state=Review.State.OPEN)


def handed_to(user: User) -> QuerySet[Review]:
    """The open reviews that were handed to a user and wait for them."""
    return Review.objects.filter(seen_by(user), assigned_to=user, assigned_until__gt=Now(), state=Review.State.OPEN)


def _closed_to(user: User) -> list[int]:
    """The queues from which a user is offered nothing."""
    if user.has_perm("scoring.supervise_review"):
        return []
    return list(ReviewQueue.objects.filter(is_for_supervisors=True).values_list("pk", flat=True))
