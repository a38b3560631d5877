"""Reads the query string of a listing, strictly: what it does not know, or what is sent twice, is refused by name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.http import QueryDict

from scoring.api.documents import Document
from scoring.api.validation import TRANSACTION_ID_LIMIT, USABLE_ID, is_transaction_id, refuse_card_data, rfc3339
from scoring.exceptions import FieldError, InvalidFields
from training.core.card_numbers import holds_card_number

NAME_SHOWN = 64
USUAL_LIMIT = 100
NEWEST, OLDEST = "newest", "oldest"


class Refused(Exception):
    """A value cannot be taken: its code and the remedy."""


@dataclass(frozen=True, eq=False)
class Filter:
    """A parameter that narrows a listing.

    `read` makes a value of the text, or raises `Refused`; `condition` makes a condition of the value. Indexes answer
    two kinds: those whose `time` is the column of a range of times, and those by a key of one transaction. Of these,
    `client` is the column of the transaction's client, where only both together are a key.
    """

    name: str
    description: str
    document: Document
    read: Callable[[str], Any]
    condition: Callable[[Any], Q]
    time: str = ""
    is_key: bool = False
    client: str = ""


@dataclass(frozen=True)
class Asked:
    """What a client asks of a listing. `names` are the fields that it wants, `filters` the conditions by their
    filters, and `identity` what tells the same filters again."""

    limit: int = USUAL_LIMIT
    names: tuple[str, ...] = ()
    order: str = NEWEST
    cursor: str | None = None
    filters: Mapping[Filter, Q] = field(default_factory=dict)
    identity: tuple[tuple[str, str], ...] = ()


def range_of(time: str, prefix: str, what: str) -> tuple[Filter, Filter]:
    """Two filters: from a time on, and before a time."""
    document = {"type": "string", "format": "date-time"}
    begins, ends = f"{time}__gte", f"{time}__lt"
    return (
        Filter(f"{prefix}_from", f"{what} at this time or later.", document, _time, lambda at: Q((begins, at)), time),
        Filter(f"{prefix}_to", f"{what} before this time.", document, _time, lambda at: Q((ends, at)), time),
    )


def one_of(
    name: str, values: Iterable[str] | Callable[[], Iterable[str]], condition: Callable[[Any], Q], description: str
) -> Filter:
    """A filter that takes some of these values, separated by commas."""
    known = values if callable(values) else lambda: values

    def read(text: str) -> list[str]:
        wanted = list(dict.fromkeys(text.split(",")))  # a condition of each, and a statement has room for so many
        if not set(wanted) <= set(known()):
            raise Refused("unknown_value", f"send one or several, with commas, of {', '.join(known())}.")
        return wanted

    # An array in the query is written with commas: OpenAPI's style `form`, not exploded.
    items = {"type": "string"} if callable(values) else {"type": "string", "enum": list(values)}
    return Filter(name, description, {"type": "array", "minItems": 1, "items": items}, read, condition)


def own_id(path: str) -> Filter:
    """A filter by the client's own id of a transaction."""
    document = {"type": "string", "minLength": 1, "maxLength": TRANSACTION_ID_LIMIT}
    described = "Of the transaction with this id of yours."
    return Filter(
        "transaction_id",
        described,
        document,
        _own_id,
        lambda name: Q((f"{path}transaction_id", name)),
        is_key=True,
        client=f"{path}client",
    )


def our_id(name: str, path: str, description: str) -> Filter:
    """A filter by Fraudsite's id of a transaction."""
    document = {"type": "string", "format": "uuid"}
    return Filter(name, description, document, _our_id, lambda key: Q((path, key)), is_key=True)


def read_listing(query: QueryDict, filters: Sequence[Filter], names: Sequence[str]) -> Asked:
    """Read the query string of a listing with these filters and fields.

    Raises:
        InvalidFields: a parameter is unknown, sent twice or malformed; all of them are named.
        UnacceptableValues: there is a card number.
    """
    readers: dict[str, Callable[[str], Any]] = {
        "limit": _limit,
        "fields": lambda text: _names(text, names),
        "order": _order,
        "cursor": str,
    }
    of_name = {one.name: one for one in filters}
    values = _values(query, readers | {one.name: one.read for one in filters})
    return Asked(
        limit=values.get("limit", min(USUAL_LIMIT, settings.LISTING_LIMIT)),
        names=values.get("fields", tuple(names)),
        order=values.get("order", NEWEST),
        cursor=values.get("cursor"),
        filters={of_name[name]: of_name[name].condition(value) for name, value in values.items() if name in of_name},
        identity=tuple(sorted((name, str(query[name])) for name in values if name in of_name or name == "order")),
    )


def read_fields(query: QueryDict, names: Sequence[str]) -> tuple[str, ...]:
    """Read the query string of one row: which of these fields the client wants.

    Raises:
        InvalidFields: as above.
    """
    return _values(query, {"fields": lambda text: _names(text, names)}).get("fields", tuple(names))


def _values(query: QueryDict, readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    refuse_card_data({name: query[name] for name in query if name == "transaction_id" or name not in readers}, {})
    values, errors = {}, []
    for name, texts in query.lists():
        shown = "" if holds_card_number(name) else name[:NAME_SHOWN]
        try:
            if name not in readers:
                raise Refused("unknown_parameter", f"there is no such parameter. Known: {', '.join(readers)}.")
            if len(texts) > 1:
                raise Refused("duplicate_parameter", "send it once.")
            values[name] = readers[name](texts[0])
        except Refused as refusal:
            code, remedy = refusal.args
            errors.append(FieldError("", code, f"{shown}: {remedy}", parameter=shown))
    if errors:
        raise InvalidFields("Some parameters cannot be used. Correct those named in `errors`.", errors=errors)
    return values


def _limit(text: str) -> int:
    # Few digits, all of ASCII: int() also takes others, signs, spaces and underscores.
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= settings.LISTING_LIMIT):
        raise Refused("invalid_limit", f"send a whole number from 1 to {settings.LISTING_LIMIT:,}.")
    return int(text)


def _names(text: str, known: Sequence[str]) -> tuple[str, ...]:
    wanted = text.split(",")
    if not set(wanted) <= set(known):
        raise Refused("unknown_field", f"send names, with commas between them, of {', '.join(known)}.")
    return tuple(name for name in known if name in wanted)


def _order(text: str) -> str:
    if text not in (NEWEST, OLDEST):
        raise Refused("unknown_value", f"send {NEWEST} or {OLDEST}, which come first.")
    return text


def _time(text: str) -> datetime:
    try:
        return rfc3339(text)
    except (ValueError, OverflowError):
        plus = " In a query, + is written %2B." if " " in text else ""
        wanted = f"send an RFC 3339 time with its offset, like 2026-01-31T12:00:00Z.{plus}"
        raise Refused("invalid_time", wanted) from None


def _own_id(text: str) -> str:
    if not is_transaction_id(text):
        raise Refused("invalid_id", USABLE_ID[0].lower() + USABLE_ID[1:])
    return text


def _our_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Refused("invalid_id", "send the id that our answer had, a UUID.") from None
