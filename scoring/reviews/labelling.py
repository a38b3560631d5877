"""The one way to write labels, and to close and reopen reviews.

Labels are never changed or deleted: a correction is a new row, and the latest label counts. A label whose `is_fraud` is
None takes the earlier ones back. Every write locks the transaction, so of two people who label at once, the second sees
the label of the first.
"""

from datetime import datetime, timedelta
from typing import TypedDict
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from scoring.card_numbers import holds_card_number
from scoring.exceptions import LabelledMeanwhile, ReasonMissing, UndoRefused
from scoring.models import Label, Review, Transaction
from scoring.worker import storage
from training import registry

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
    of the label; a label that is older than the latest one is stored and has no effect. `seen` is the key of the latest
    label that the author saw, 0 for none: if there is a later one, nothing is written. Labels of one `act` can be
    undone together.

    Raises:
        ReasonMissing, LabelledMeanwhile: nothing was changed.
        StaleHistory: nothing was changed; the schema's histories have to be rebuilt.
    """
    by_analyst = source == Label.Source.ANALYST
    reason = _checked(reason, needed=by_analyst)
    _get_histories_ready(transaction_id)
    with transaction.atomic():
        row, latest = _lock(transaction_id, seen)
        if by_analyst and latest and latest.is_fraud is is_fraud and latest.source == source:
            raise LabelledMeanwhile
        state = _state_of(is_fraud) if by_analyst else None
        return _record(
            row, latest, is_fraud=is_fraud, source=source, author=author, reason=reason, at=at, state=state, act=act
        )


def close_review(*, review: Review, is_fraud: bool, reviewer: User, act: UUID | None = None) -> bool:
    """Store an analyst's label and close the review. Returns False, and changes nothing, if it is closed already.

    Raises:
        StaleHistory: nothing was changed; the schema's histories have to be rebuilt.
    """
    _get_histories_ready(review.pk)
    with transaction.atomic():
        row, latest = _lock(review.pk)
        if not Review.objects.filter(pk=review.pk, state=Review.State.OPEN).exists():
            return False
        state, source = _state_of(is_fraud), Label.Source.ANALYST
        _record(row, latest, is_fraud=is_fraud, source=source, author=reviewer, state=state, act=act)
    return True


def reopen_review(
    *, review: Review, author: User, reason: str, seen: int | None = None, act: UUID | None = None
) -> Label:
    """Put a closed review back into the queue. The analyst's label is taken back; a later label by a chargeback or an
    import stays in force.

    Raises:
        ReasonMissing, LabelledMeanwhile, StaleHistory: as above.
    """
    reason = _checked(reason, needed=True)
    _get_histories_ready(review.pk)
    with transaction.atomic():
        row, latest = _lock(review.pk, seen)
        if not Review.objects.filter(pk=review.pk).exclude(state=Review.State.OPEN).exists():
            raise LabelledMeanwhile("The review is open already.")
        stands = latest if latest and latest.source != Label.Source.ANALYST else None
        return _record(
            row,
            latest,
            is_fraud=stands.is_fraud if stands else None,
            source=stands.source if stands else Label.Source.ANALYST,
            author=author,
            reason=f"Reopened: {reason}",
            state=Review.State.OPEN,
            act=act,
        )


def undo(*, act: UUID, author: User) -> tuple[list[Label], int]:
    """Undo the labels of one click: each transaction gets its earlier label again, and each review its earlier state.

    Returns the new labels, and how many transactions keep their label because they were labelled again since.

    Raises:
        UndoRefused: nothing was changed; it is too late, or somebody else labelled them.
        StaleHistory: as above.
    """
    given = list(Label.objects.filter(act=act).order_by("created_at"))
    if not given:
        raise UndoRefused
    if given[0].author_id != author.pk:
        raise UndoRefused("Only the person who labelled can undo it.")
    if timezone.now() > given[-1].created_at + timedelta(seconds=settings.UNDO_S):
        raise UndoRefused
    undone = [_undo(label, author) for label in given]
    restored = [label for label in undone if label]
    if not restored:
        raise UndoRefused("There is nothing to undo: it is undone already, or was labelled again since.")
    return restored, len(undone) - len(restored)


def _undo(label: Label, author: User) -> Label | None:
    _get_histories_ready(label.transaction_id)
    with transaction.atomic():
        row, latest = _lock(label.transaction_id)
        if latest != label:
            return None
        earlier = _latest_first(row).exclude(pk=label.pk).first()
        restored = _record(
            row,
            latest,
            is_fraud=earlier.is_fraud if earlier else None,
            source=earlier.source if earlier else label.source,
            author=author,
            reason="Undone.",
        )
        if label.review_before:
            Review.objects.filter(pk=row.pk).update(**label.review_before)
        return restored


def latest_label(row: Transaction) -> Label | None:
    """The label that counts: the latest; None if there is none."""
    return _latest_first(row).first()


def _latest_first(row: Transaction) -> QuerySet[Label]:
    return row.labels.order_by("-created_at", "-pk")


def _lock(transaction_id: UUID, seen: int | None = None) -> tuple[Transaction, Label | None]:
    row = Transaction.objects.select_for_update().get(pk=transaction_id)
    latest = latest_label(row)
    if seen is not None and seen != (latest.pk if latest else 0):
        raise LabelledMeanwhile
    return row, latest


def _checked(reason: str, *, needed: bool) -> str:
    reason = reason.strip()
    if (needed and not reason) or len(reason) > REASON_LENGTH or "\0" in reason:
        raise ReasonMissing
    if holds_card_number(reason):
        raise ReasonMissing("The reason holds a card number. Leave that out; nothing was changed.")
    return reason


def _state_of(is_fraud: bool) -> Review.State:
    return Review.State.FRAUD if is_fraud else Review.State.LEGITIMATE


def _get_histories_ready(transaction_id: UUID) -> None:
    row = Transaction.objects.only("sequence", "schema").get(pk=transaction_id)
    if row.sequence is not None:
        from scoring.worker import histories

        histories.get_ready(registry.declaration_in_force(row.schema))


def _record(
    row: Transaction,
    latest: Label | None,
    *,
    is_fraud: bool | None,
    source: str,
    author: User | None,
    reason: str = "",
    at: datetime | None = None,
    state: Review.State | None = None,
    act: UUID | None = None,
) -> Label:
    """Store a label of a locked transaction, add it to the histories, and set the review to `state`."""
    # A slow clock must not put this label before the one that it corrects.
    now = max(timezone.now(), latest.created_at + timedelta(microseconds=1)) if latest else timezone.now()
    # Of two labels of the same time, the later row is the latest.
    counts = at is None or latest is None or at >= latest.created_at
    label = Label(
        transaction=row, is_fraud=is_fraud, source=source, author=author, reason=reason, created_at=at or now, act=act
    )
    # A transaction without a sequence is in no history: its schema has none, or it still waits for its score.
    if counts and row.sequence is not None:
        from scoring.worker import histories

        schema = registry.declaration_in_force(row.schema)
        locked = histories.lock(schema, [storage.tokens_of(schema, row)])
        label.sequence = locked.label_arrives(row, is_fraud=is_fraud)
        storage.save_histories(locked.changed())
    if counts and state:
        label.review_before = _review_fields(row)
        closed = state != Review.State.OPEN
        Review.objects.filter(pk=row.pk).update(
            state=state,
            closed_at=label.created_at if closed else None,
            reviewer=author if closed else None,
            claimed_by=None,
            claimed_until=None,
        )
    label.save()
    return label


class ReviewFields(TypedDict):
    """The fields of a review that undoing the next label restores."""

    state: str
    closed_at: str | None
    reviewer_id: int | None


def _review_fields(row: Transaction) -> ReviewFields | None:
    """None if the transaction has no review."""
    review = Review.objects.filter(pk=row.pk).first()
    if review is None:
        return None
    closed_at = review.closed_at.isoformat() if review.closed_at else None
    return ReviewFields(state=review.state, closed_at=closed_at, reviewer_id=review.reviewer_id)
