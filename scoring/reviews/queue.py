"""The queue of open reviews and their claims. Claims lead analysts who work at the same time to different reviews.

A claim expires by itself, and does not keep others from opening or closing the review: the first to close it decides,
whoever has the claim.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from scoring.acts import acted
from scoring.models import Review


def open_reviews(limit: int) -> int:
    """How many reviews are open, counted up to `limit`."""
    return Review.objects.filter(state=Review.State.OPEN)[:limit].count()


def newest_opening() -> datetime:
    """When the newest open review was opened, by the workers' clock; now, if there is none."""
    newest = Review.objects.filter(state=Review.State.OPEN).order_by("-opened_at").values_list("opened_at", flat=True)
    return newest.first() or timezone.now()


def claim(review: UUID, user: User) -> bool:
    """Claim an open review for a user. Returns False if another user has it, or it is closed."""
    until = timezone.now() + timedelta(seconds=settings.REVIEW_CLAIM_S)
    # A conditional update: of two users the first gets it.
    with transaction.atomic():
        won = bool(Review.objects.filter(_free_for(user), pk=review).update(claimed_by=user, claimed_until=until))
        if won:
            acted.send(Review, action="claimed", key=review, detail="", person=user.get_username())
    return won


def claim_next(queue: QuerySet[Review], user: User, passed: Iterable[UUID | str]) -> UUID | None:
    """Claim the first review of a list that is open, not claimed by others and not `passed`. Returns its key."""
    candidates = queue.exclude(pk__in=list(passed)).values_list("pk", flat=True)
    while (found := candidates.filter(_free_for(user)).first()) is not None:
        if claim(found, user):
            return found
    return None


def release(review: UUID, user: User) -> None:
    with transaction.atomic():
        if Review.objects.filter(pk=review, claimed_by=user).update(claimed_by=None, claimed_until=None):
            acted.send(Review, action="released", key=review, detail="", person=user.get_username())


def _free_for(user: User) -> Q:
    free = Q(claimed_by=None) | Q(claimed_by=user) | Q(claimed_until__lte=timezone.now())
    return free & Q(state=Review.State.OPEN)
