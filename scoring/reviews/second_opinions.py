"""Second opinions: a share of the decided reviews goes to another analyst, who does not see what was decided.

`SECOND_OPINION_SHARE` of the reviews are drawn by a hash of their keys, so the draw depends on nobody's choice and can
be repeated. Who gave any label of the transaction gives no second opinion on it. If the two disagree, a supervisor who
is neither of them settles it.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from scoring.reviews.models import Label, Review
from scoring.tenancy import restriction

Entry = TypeVar("Entry", bound=models.Model)


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
    found = restriction.visible(SecondOpinion.objects.filter(state=SecondOpinion.State.WAITING), user).exclude(
        first=user
    )
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


def is_hidden(user: User, key: str) -> Q:
    """The condition on rows, whose column `key` has a transaction, that a user sees neither label nor decision of it:
    it waits for an opinion of theirs, or was decided in one act with such a one, and so in the same way."""
    if not user.has_perm("scoring.second_review"):
        return Q(pk__in=[])
    told = Label.objects.filter(models.Exists(_of_a_hidden_act(user)), transaction_id=models.OuterRef(key))
    return Q(models.Exists(hidden_from(user).filter(pk=models.OuterRef(key)))) | Q(models.Exists(told))


def _of_a_hidden_act(user: User) -> QuerySet[Label]:
    """The labels of waiting reviews that were given in the act of a row."""
    waiting = hidden_from(user).filter(pk=models.OuterRef("transaction_id"))
    return Label.objects.filter(models.Exists(waiting), act=models.OuterRef("act"))


def asked_instead(user: User, review: UUID) -> UUID | None:
    """The review whose second opinion a user may give before they see what was decided on this one: this one itself, or
    one that was decided in the same act. None if it is not kept from them."""
    waiting = hidden_from(user)
    if waiting.filter(pk=review).exists():
        return review
    acts = Label.objects.filter(transaction_id=review, act__isnull=False).values("act")
    return (
        waiting.filter(review_id__in=Label.objects.filter(act__in=acts).values("transaction_id"))
        .values_list("pk", flat=True)
        .first()
    )


def decided_at(user: User, review: UUID) -> datetime | None:
    """When a review was decided on which a user may give the second opinion; None for others. What came later may tell
    what was decided."""
    return hidden_from(user).filter(pk=review).values_list("asked_at", flat=True).first()


def hides(user: User, review: UUID) -> bool:
    return asked_instead(user, review) is not None


def hidden_among(user: User, reviews: Iterable[UUID]) -> set[UUID]:
    """Those of these reviews on which a user sees neither label nor decision."""
    found = Review.objects.filter(is_hidden(user, "pk"), pk__in=list(reviews))
    return set(found.values_list("pk", flat=True))


def all_hidden_from(user: User) -> set[UUID]:
    """All of them. They are as many as wait for an opinion of the user, and those that were decided with these."""
    waiting = set(hidden_from(user).values_list("pk", flat=True))
    acts = Label.objects.filter(transaction__in=waiting, act__isnull=False).values("act")
    return waiting.union(Label.objects.filter(act__in=acts).values_list("transaction_id", flat=True))


def labels_shown_to(user: User, labels: QuerySet[Label]) -> QuerySet[Label]:
    """Those of these labels that a user may see."""
    return labels.filter(~is_hidden(user, "transaction_id"))


def entries_shown_to(user: User, entries: QuerySet[Entry]) -> QuerySet[Entry]:
    """Those of these entries of lists that a user may see: without those that came with a decision which is kept from
    them or, since that, for an entity of the case; and without those whose place one of these took."""
    if not user.has_perm("scoring.second_review"):
        return entries
    of_case = hidden_from(user).filter(
        review__links__key=models.OuterRef("key"), asked_at__lte=models.OuterRef("created_at")
    )
    hidden = Q(models.Exists(_of_a_hidden_act(user))) | Q(models.Exists(of_case))
    later = entries.model._default_manager.filter(
        hidden, list=models.OuterRef("list"), key=models.OuterRef("key"), created_at=models.OuterRef("removed_at")
    )
    return entries.filter(~hidden, ~models.Exists(later))


def disagreements(user: User) -> QuerySet[SecondOpinion]:
    """Those that a user may settle, the oldest first."""
    found = restriction.visible(SecondOpinion.objects.filter(state=SecondOpinion.State.DISAGREED), user)
    found = found.exclude(Q(first=user) | Q(second=user))
    return found.select_related("first", "second", "review__prediction__transaction__client").order_by("given_at")
