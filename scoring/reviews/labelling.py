"""The one way to write labels, and to close and reopen reviews.

Labels are never changed or deleted: a correction is a new row, and `scoring.reviews.verdicts` tells which of them
holds. A label whose `is_fraud` is None takes back what its source said. Every write locks the transaction, so of two
people who label at once, the second sees the label of the first.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypedDict
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from scoring.exceptions import LabelledMeanwhile, ReasonMissing, TransactionDeleted, UndoRefused
from scoring.learning import archive
from scoring.lists import changes
from scoring.models import Label, Review, Transaction
from scoring.reviews import arrival, due, reasons, second_opinions
from scoring.reviews.verdicts import holding
from scoring.webhooks import about, events
from training.core.card_numbers import holds_card_number

REASON_LENGTH = 1_000


def add_label(
    *,
    transaction_id: UUID,
    is_fraud: bool,
    source: str,
    author: User | None = None,
    reason: str = "",
    at: datetime | None = None,
    seen: int | None = None,
    act: UUID | None = None,
) -> Label:
    """Store a label of a transaction. Computed features use it from its commit on.

    An analyst's label needs a reason, and closes or corrects the transaction's review, if it has one. `at` is the time
    at which it was said; one that is older than another of its source is stored and has no effect. `seen` is the key of
    the newest label that the author saw, 0 for none: if there is a newer one, nothing is written. Labels of one `act`
    can be undone together.

    Raises:
        ReasonMissing, LabelledMeanwhile, TransactionDeleted: nothing was changed.
        StaleHistory: nothing was changed; the schema's histories have to be rebuilt.
    """
    by_analyst = source == Label.Source.ANALYST
    reason = checked(reason, needed=by_analyst)
    get_histories_ready(transaction_id)
    with transaction.atomic():
        row, given = _lock(transaction_id, seen)
        held = holding(given)
        if by_analyst and held and held.is_fraud is is_fraud and held.source == source:
            raise LabelledMeanwhile
        state = _state_of(is_fraud) if by_analyst else None
        return _record(
            row, given, is_fraud=is_fraud, source=source, author=author, reason=reason, at=at, state=state, act=act
        )


def close_review(
    *,
    review: Review,
    is_fraud: bool,
    reviewer: User,
    act: UUID | None = None,
    code: str = "",
    note: str = "",
    listing: changes.Listing | None = None,
) -> bool:
    """Store an analyst's label and close the review. Returns False, and changes nothing, if it is closed already, or
    deleted.

    `code` is that of a `ReviewReason`, and `note` is kept as the label's reason. `listing` is an entry of a list that
    is added with the label: both are stored, or neither.

    Raises:
        ReasonMissing, ListRefused: nothing was changed.
        StaleHistory: nothing was changed; the schema's histories have to be rebuilt.
    """
    reasons.check(code, note, is_fraud=is_fraud)
    note = checked(note, needed=False)
    get_histories_ready(review.pk)
    with transaction.atomic():
        try:
            row, given = _lock(review.pk)
        except TransactionDeleted:
            return False
        # Locked, so that the action for late reviews does not close it at the same moment.
        found = Review.objects.select_for_update().filter(pk=review.pk, state=Review.State.OPEN).first()
        if found is None:
            return False
        state, source = _state_of(is_fraud), Label.Source.ANALYST
        _record(
            row, given, is_fraud=is_fraud, source=source, author=reviewer, reason=note, code=code, state=state, act=act
        )
        Review.objects.filter(pk=review.pk).update(decided_in_s=_seconds_at(found, reviewer))
        second_opinions.ask(review.pk, is_fraud=is_fraud, first=reviewer)
        if listing:
            changes.add(listing.list, [[replace(listing.addition, act=act)]], by=reviewer.get_username())
    return True


def reopen_review(
    *, review: Review, author: User, reason: str, seen: int | None = None, act: UUID | None = None
) -> Label:
    """Put a closed review back into the queue. The analysts' label is taken back; those of other sources stay.

    Raises:
        ReasonMissing, LabelledMeanwhile, TransactionDeleted, StaleHistory: as above.
    """
    reason = checked(reason, needed=True)
    get_histories_ready(review.pk)
    with transaction.atomic():
        row, given = _lock(review.pk, seen)
        if not Review.objects.filter(pk=review.pk).exclude(state=Review.State.OPEN).exists():
            raise LabelledMeanwhile("The review is open already.")
        second_opinions.withdraw(review.pk)
        return _record(
            row,
            given,
            is_fraud=None,
            source=Label.Source.ANALYST,
            author=author,
            reason=f"Reopened: {reason}",
            state=Review.State.OPEN,
            act=act,
        )


def undo(*, act: UUID, author: User, tell: Callable[[Label], object] | None = None) -> tuple[list[Label], int]:
    """Undo the labels of one click: each transaction gets its earlier label again, and each review its earlier state.
    Entries of lists that were added with the labels are taken off. `tell` writes each new label into a history, in the
    database transaction of the label.

    Returns the new labels, and how many transactions keep their label because they were labelled again since.

    Raises:
        UndoRefused: nothing was changed; it is too late, or somebody else labelled them.
        TransactionDeleted: likewise; one of them is deleted.
        StaleHistory: as above.
    """
    given = list(Label.objects.filter(act=act).order_by("created_at"))
    if not given:
        raise UndoRefused
    if given[0].author_id != author.pk:
        raise UndoRefused("Only the person who labelled can undo it.")
    if timezone.now() > given[-1].created_at + timedelta(seconds=settings.UNDO_S):
        raise UndoRefused
    undone = [_undo(label, author, tell) for label in given]
    restored = [label for label in undone if label]
    if not restored:
        raise UndoRefused("There is nothing to undo: it is undone already, or was labelled again since.")
    return restored, len(undone) - len(restored)


def _undo(label: Label, author: User, tell: Callable[[Label], object] | None) -> Label | None:
    get_histories_ready(label.transaction_id)
    with transaction.atomic():
        row, given = _lock(label.transaction_id)
        if given[-1] != label:
            return None
        earlier = holding(one for one in given[:-1] if one.source == label.source)
        restored = _record(
            row,
            given,
            is_fraud=earlier.is_fraud if earlier else None,
            source=label.source,
            author=author,
            reason="Undone.",
        )
        if label.review_before:
            now, after = Review.objects.get(pk=row.pk).state, label.review_before["state"]
            Review.objects.filter(pk=row.pk).update(**label.review_before)
            if after == Review.State.OPEN:
                second_opinions.withdraw(row.pk)
            elif now == Review.State.OPEN and earlier and earlier.is_fraud is not None and earlier.author:
                # The reopening had withdrawn the question, and of reviews that stay closed none may be missing.
                second_opinions.ask(row.pk, is_fraud=earlier.is_fraud, first=earlier.author)
            events.record_all(about.review_moved(row.pk, before=now, after=after, cause="undone"))
        if label.act:
            changes.undo_of(label.act, by=author.get_username())
        if tell:
            tell(restored)
        return restored


def latest_label(row: Transaction) -> Label | None:
    """The label that holds; None if none does."""
    return holding(row.labels.order_by("created_at", "pk"))


def newest_label(row: Transaction) -> Label | None:
    """The label that became known last, whether or not it holds; None if there is none."""
    return row.labels.order_by("-created_at", "-pk").first()


def _lock(transaction_id: UUID, seen: int | None = None) -> tuple[Transaction, list[Label]]:
    """Lock a transaction. Returns it and its labels, in the order of their arrival."""
    row = Transaction.objects.select_for_update().filter(pk=transaction_id).first()
    if row is None or archive.boundary().is_behind(row.pk):
        raise TransactionDeleted
    given = list(row.labels.order_by("created_at", "pk"))
    if seen is not None and seen != (given[-1].pk if given else 0):
        raise LabelledMeanwhile
    return row, given


def checked(reason: str, *, needed: bool) -> str:
    """What somebody wrote, without white space around it.

    Raises:
        ReasonMissing: it is empty, though it is needed, too long, or holds a card number.
    """
    reason = reason.strip()
    if (needed and not reason) or len(reason) > REASON_LENGTH or "\0" in reason:
        raise ReasonMissing
    if holds_card_number(reason):
        raise ReasonMissing("The reason holds a card number. Leave that out; nothing was changed.")
    return reason


def _seconds_at(review: Review, reviewer: User) -> float | None:
    """How long a reviewer was at a review that is decided now; None if they had not opened it."""
    if review.claimed_by_id != reviewer.pk or review.claimed_since is None:
        return None
    return max(0.0, (timezone.now() - review.claimed_since).total_seconds())


def _state_of(is_fraud: bool) -> Review.State:
    return Review.State.FRAUD if is_fraud else Review.State.LEGITIMATE


def get_histories_ready(transaction_id: UUID) -> None:
    """Prepare what a label of a transaction needs of the histories. Call it before a database transaction begins that
    holds the label: it takes a second the first time."""
    if Transaction.objects.filter(pk=transaction_id, sequence__isnull=False).exists():
        arrival.get_ready()


def _record(
    row: Transaction,
    given: list[Label],
    *,
    is_fraud: bool | None,
    source: str,
    author: User | None,
    reason: str = "",
    code: str = "",
    at: datetime | None = None,
    state: Review.State | None = None,
    act: UUID | None = None,
) -> Label:
    """Store a label of a locked transaction that has the labels `given`, and set the review to `state`."""
    kind = {True: Label.Kind.FRAUD, False: Label.Kind.LEGITIMATE, None: Label.Kind.RETRACTED}[is_fraud]
    label = Label(transaction=row, is_fraud=is_fraud, kind=kind, source=source, author=author, act=act)
    label.reason, label.code = reason, code
    # A slow clock must not put what is said now before what it corrects.
    label.event_time = at or max([timezone.now(), *(earlier.event_time + arrival.MICROSECOND for earlier in given)])
    by_source = [earlier.event_time for earlier in given if earlier.source == source]
    arrival.arrive([(row, label)], {row.pk: given})
    if state and all(label.event_time >= earlier for earlier in by_source):
        label.review_before = _review_fields(row)
        closed = state != Review.State.OPEN
        Review.objects.filter(pk=row.pk).update(
            state=state,
            closed_at=label.created_at if closed else None,
            reviewer=author if closed else None,
            decided_by_default=False,
            claimed_by=None,
            claimed_until=None,
            **({} if closed else due.begin_again(row.pk)),
        )
        if before := label.review_before:
            cause = "analyst" if before["state"] == Review.State.OPEN else "corrected" if closed else "reopened"
            moved = about.review_moved(row.pk, before=before["state"], after=state, cause=cause, code=code)
            events.record_all(moved)
    label.save()
    return label


class ReviewFields(TypedDict):
    """The fields of a review that undoing the next label restores."""

    state: str
    closed_at: str | None
    reviewer_id: int | None
    decided_by_default: bool


def _review_fields(row: Transaction) -> ReviewFields | None:
    """None if the transaction has no review. The review is locked."""
    review = Review.objects.select_for_update().filter(pk=row.pk).first()
    if review is None:
        return None
    closed_at = review.closed_at.isoformat() if review.closed_at else None
    return ReviewFields(
        state=review.state,
        closed_at=closed_at,
        reviewer_id=review.reviewer_id,
        decided_by_default=review.decided_by_default,
    )
