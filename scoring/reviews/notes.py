"""The events of a review, and the notes that people write with them."""

from uuid import UUID

from django.contrib.auth.models import User

from scoring.models import ReviewEvent
from training.core.card_numbers import holds_card_number
from training.core.exceptions import FraudsiteError

NOTE_LIMIT = 1_000


class PassingRefused(FraudsiteError):
    """This alert is closed, or with somebody else. Nothing was changed."""


def record(review: UUID, did: ReviewEvent.Did, *, by: User | None, to: str = "", note: str = "") -> None:
    ReviewEvent.objects.create(review_id=review, did=did, by=by, to=to, note=note)


def checked_note(note: str, *, needed: bool = False) -> str:
    """The note without white space around it.

    Raises:
        PassingRefused: it is missing, too long, or holds a card number.
    """
    note = note.strip()
    if needed and not note:
        raise PassingRefused("Write a note. Nothing was changed.")
    if len(note) > NOTE_LIMIT or "\0" in note:
        raise PassingRefused(f"The note is text of at most {NOTE_LIMIT:,} characters. Nothing was changed.")
    if holds_card_number(note):
        raise PassingRefused("The note holds a card number. Leave that out; nothing was changed.")
    return note
