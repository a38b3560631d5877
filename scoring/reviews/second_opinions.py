"""Second opinions: a share of the decided reviews goes to another analyst, who does not see what was decided.

`SECOND_OPINION_SHARE` of the reviews are drawn by a hash of their keys, so the draw depends on nobody's choice and can
be repeated. Who gave any label of the transaction gives no second opinion on it. If the two disagree, a supervisor who
is neither of them settles it.
"""

import hashlib
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from scoring.reviews.models import Label


class SecondOpinion(models.Model):
    """A second opinion that was asked for when a review was decided. `first_is_fraud` is what was decided then."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        AGREED = "agreed", "Agreed"
        DISAGREED = "disagreed", "Disagreed"
        SETTLED = "settled", "Settled"

    review = models.OneToOneField("scoring.Review", primary_key=True, on_delete=models.CASCADE, related_name="second")
    state = models.CharField(max_length=12, choices=State.choices, default=State.WAITING)
    first = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    first_is_fraud = models.BooleanField()
    asked_at = models.DateTimeField(default=timezone.now)
    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    claimed_until = models.DateTimeField(null=True)
    second = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    is_fraud = models.BooleanField(null=True)
    code = models.CharField(max_length=32, blank=True)
    note = models.TextField(blank=True)
    given_at = models.DateTimeField(null=True, db_index=True)
    settled_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    settled_is_fraud = models.BooleanField(null=True)
    settled_because = models.TextField(blank=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["asked_at"], name="second_opinion_waiting", condition=Q(state="waiting")),
            models.Index(fields=["given_at"], name="second_opinion_disagreed", condition=Q(state="disagreed")),
        ]

    def __str__(self) -> str:
        return f"second opinion, {self.get_state_display().lower()}"


def is_drawn(review: UUID) -> bool:
    """Whether a review is one of the share that gets a second opinion."""
    digest = hashlib.sha256(b"second opinion" + review.bytes).digest()
    return int.from_bytes(digest[:8]) < settings.SECOND_OPINION_SHARE * 2**64


def ask(review: UUID, *, is_fraud: bool, first: User) -> None:
    """Ask for a second opinion on a review that was decided just now, if it is drawn and has none yet."""
    if is_drawn(review):
        SecondOpinion.objects.get_or_create(review_id=review, defaults={"first": first, "first_is_fraud": is_fraud})


def withdraw(review: UUID) -> None:
    """Ask for no second opinion any more, as the review is open again."""
    SecondOpinion.objects.filter(review_id=review, state=SecondOpinion.State.WAITING).delete()


def waiting_for(user: User) -> QuerySet[SecondOpinion]:
    """The second opinions that a user may give, the oldest first."""
    found = SecondOpinion.objects.filter(state=SecondOpinion.State.WAITING).exclude(first=user)
    said = Label.objects.filter(transaction_id=models.OuterRef("pk"), author=user)
    return found.exclude(models.Exists(said)).order_by("asked_at", "pk")


def claim_next(user: User, passed: list[str]) -> UUID | None:
    """Claim the first one that a user may give and nobody is at. Returns the key of its review."""
    free = Q(claimed_by=None) | Q(claimed_by=user) | Q(claimed_until__lte=Now())
    candidates = waiting_for(user).filter(free).exclude(pk__in=passed)
    until = Now() + timedelta(seconds=settings.REVIEW_CLAIM_S)
    while (found := candidates.values_list("pk", flat=True).first()) is not None:
        if SecondOpinion.objects.filter(free, pk=found).update(claimed_by=user, claimed_until=until):
            return found
    return None


def hidden_from(user: User) -> QuerySet[SecondOpinion]:
    """Those on whose reviews a user sees no label, so that a second opinion that they could give is their own."""
    if not user.has_perm("scoring.second_review"):
        return SecondOpinion.objects.none()
    return waiting_for(user).order_by()


def hides(user: User, review: UUID) -> bool:
    return hidden_from(user).filter(pk=review).exists()


def disagreements(user: User) -> QuerySet[SecondOpinion]:
    """Those that a user may settle, the oldest first."""
    found = SecondOpinion.objects.filter(state=SecondOpinion.State.DISAGREED).exclude(Q(first=user) | Q(second=user))
    return found.select_related("first", "second", "review__prediction__transaction__client").order_by("given_at")
