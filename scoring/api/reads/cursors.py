"""Cursors: the place in a listing where its next page begins.

A cursor is signed, and good for one listing of one client with the same filters: a place in another listing would skip
rows without saying so.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.core.signing import BadSignature, Signer

from scoring.exceptions import FieldError, InvalidFields

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LENGTH_LIMIT = 512

_signer = Signer(salt="scoring.api.reads.cursors", sep=".")


class Position(NamedTuple):
    """The time by which the listing is ordered and the key of the last row that was read."""

    at: datetime
    key: UUID | int


def write(position: Position, *, of: tuple[object, ...]) -> str:
    """A cursor that is good `of` one listing: its name, its client, its filters."""
    at = (position.at - EPOCH) // MICROSECOND
    key = position.key.hex if isinstance(position.key, UUID) else position.key
    return _signer.sign_object([_digest(of), at, key])


def read(cursor: str, *, of: tuple[object, ...]) -> Position:
    """The place that a cursor stands for.

    Raises:
        InvalidFields: it was changed, or it is of another listing, client or filter.
    """
    try:
        if len(cursor) > LENGTH_LIMIT:
            raise BadSignature
        digest, at, key = _signer.unsign_object(cursor)
    except (BadSignature, ValueError):
        raise _refused("invalid_cursor", "cursor: take it from `next` of the page before, unchanged.") from None
    if digest != _digest(of):
        other = "cursor: it is of another listing, key or filter. Send the filters of the page before, or no cursor."
        raise _refused("cursor_of_another_listing", other)
    return Position(EPOCH + at * MICROSECOND, UUID(key) if isinstance(key, str) else key)


def _digest(of: tuple[object, ...]) -> str:
    return hashlib.blake2b(repr(of).encode(), digest_size=9).hexdigest()


def _refused(code: str, detail: str) -> InvalidFields:
    return InvalidFields(errors=[FieldError("", code, detail, parameter="cursor")])
