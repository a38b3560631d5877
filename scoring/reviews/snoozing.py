"""Snoozes: reviews that are not offered for a while, one by one or all of a card, also those that come meanwhile."""

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now
from django.utils import timezone

from scoring.models import CardSnooze, Review, ReviewEvent
from scoring.reviews.notes import PassingRefused, checked_note, record
from training.core.figures import at


def awake() -> Q:
    """The reviews that are not snoozed, neither themselves nor with their card."""
    return (Q(snoozed_until=None) | Q(snoozed_until__lte=Now())) & ~Q(card__in=_snoozed_cards().values("card"))


def with_snoozes(reviews: QuerySet[Review]) -> QuerySet[Review]:
    """These reviews with `card_snoozed_until`, null if their card is not snoozed."""
    of_card = _snoozed_cards().filter(card=OuterRef("card"))
    return reviews.annotate(card_snoozed_until=Subquery(of_card.values("until")[:1]))


def _snoozed_cards() -> QuerySet[CardSnooze]:
    return CardSnooze.objects.filter(until__gt=Now())


def is_snoozed(review: Review) -> bool:
    return not Review.objects.filter(awake(), pk=review.pk).exists()


def end_of(choice: str, date: str = "") -> datetime:
    """The end of a snooze: in an "hour", the beginning of "tomorrow", or that of the given "date". Days are UTC's.

    Raises:
        PassingRefused: it is none of these, or no day that is to come within `SNOOZE_LIMIT_DAYS`.
    """
    now = timezone.now()
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if choice == "hour":
        return now + timedelta(hours=1)
    if choice == "tomorrow":
        return today + timedelta(days=1)
    last = today + timedelta(days=settings.SNOOZE_LIMIT_DAYS)
    try:
        until = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        until = now
    if choice != "date" or not now < until <= last:
        remedy = f"an hour, tomorrow, or a date from tomorrow to {last:%Y-%m-%d}"
        raise PassingRefused(f"Choose until when to snooze: {remedy}. Nothing was changed.")
    return until


@transaction.atomic
def snooze(*, review: Review, by: User, until: datetime, note: str = "", whole_card: bool = False) -> None:
    """Do not offer an open review before a time; with `whole_card`, none of its card.

    Raises:
        PassingRefused: nothing was changed.
    """
    note = checked_note(note)
    if whole_card and not review.card:
        raise PassingRefused("This alert has no card. Nothing was changed.")
    rows = Review.objects.filter(pk=review.pk, state=Review.State.OPEN)
    rested = {} if whole_card else {"snoozed_until": until}
    if not rows.update(claimed_by=None, claimed_until=None, **rested):
        raise PassingRefused
    if whole_card:
        CardSnooze.objects.update_or_create(card=review.card, defaults={"until": until})
    did = ReviewEvent.Did.CARD_SNOOZED if whole_card else ReviewEvent.Did.SNOOZED
    record(review.pk, did, by=by, to=f"until {at(until)}", note=note)


@transaction.atomic
def wake(*, review: Review, by: User) -> bool:
    """Offer a snoozed review again, and all of its card if that is snoozed. Returns False if it was not snoozed."""
    rows = Review.objects.filter(pk=review.pk, snoozed_until__gt=Now())
    woken = rows.update(snoozed_until=None)
    of_card, _ = _snoozed_cards().filter(card=review.card).delete()
    if woken or of_card:
        record(review.pk, ReviewEvent.Did.WOKEN, by=by, to="all of the card" if of_card else "")
    return bool(woken or of_card)
