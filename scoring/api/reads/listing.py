"""Pages of a listing: by keyset, never by offset, and bounded by settings however many rows there are."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from django.conf import settings
from django.db.models import F, Model, Q, QuerySet
from django.db.models.fields.tuple_lookups import (
    TupleGreaterThan,
    TupleGreaterThanOrEqual,
    TupleLessThan,
    TupleLessThanOrEqual,
)

from scoring.api.reads.cursors import Position
from scoring.api.reads.parameters import NEWEST, Asked, Filter
from scoring.models import ApiKey


class Listing:
    """Rows of a client, by a time and, where times are equal, by their keys.

    An index on client, time and key has to be there. `names` are the fields that a row has in the answer, and `schema`
    is the column of its schema.
    """

    name: ClassVar[str]
    time: ClassVar[str]
    key: ClassVar[str]
    schema: ClassVar[str] = "schema"
    filters: ClassVar[Sequence[Filter]]
    names: ClassVar[Sequence[str]]

    def time_of(self, filters: Mapping[Filter, Q]) -> str:
        """The column of the time that a listing with these filters is ordered by."""
        return self.time

    def rows(self, client_id: int) -> QuerySet[Any]:
        """The rows of a client."""
        raise NotImplementedError

    def load(self, rows: QuerySet[Any], names: Sequence[str]) -> QuerySet[Any]:
        """The rows with what these fields are made of."""
        return rows

    def tell(self, row: Any, names: Sequence[str]) -> dict[str, Any]:
        """These fields of a row, as the answer has them."""
        raise NotImplementedError


class Page(NamedTuple):
    """Rows of a listing, and where the next page begins; None if this is the last one."""

    rows: list[dict[str, Any]]
    next: Position | None


def page(listing: Listing, asked: Asked, key: ApiKey, after: Position | None) -> Page:
    """Read the page after a position, or the first: rows of the key's client, and of the schemas that it may see.

    What the indexes do not answer is looked for in `LISTING_SCAN_LIMIT` rows at a time, so that a rare value costs no
    more than a frequent one. So a page may have fewer rows than asked for, even none, though it is not the last.
    """
    time = listing.time_of(asked.filters)
    indexed, others = Q((f"{time}__isnull", False)), Q()
    if key.schemas:
        others &= Q((f"{listing.schema}__in", key.schemas))
    for one, condition in asked.filters.items():
        if one.is_key or one.time == time:
            indexed &= condition & (Q((one.client, key.client_id)) if one.client else Q())
        else:
            others &= condition
    sign = "-" if asked.order == NEWEST else ""
    rows = listing.rows(key.client_id).filter(indexed).order_by(f"{sign}{time}", f"{sign}{listing.key}")
    place = (F(time), F(listing.key))
    if after:
        rows = rows.filter((TupleLessThan if sign else TupleGreaterThan)(place, tuple(after)))
    edge = None
    if others and not any(one.is_key for one in asked.filters):
        number = settings.LISTING_SCAN_LIMIT
        edge = rows.values_list(time, listing.key)[number - 1 : number].first()
        if edge:
            within = TupleGreaterThanOrEqual if sign else TupleLessThanOrEqual
            rows = rows.filter(within(place, tuple(edge)))
    found = list(listing.load(rows.filter(others), asked.names)[: asked.limit + 1])
    told = [listing.tell(row, asked.names) for row in found[: asked.limit]]
    if len(found) > asked.limit:
        return Page(told, _position(found[asked.limit - 1], time))
    return Page(told, Position(*edge) if edge else None)


def _position(row: Model, time: str) -> Position:
    return Position(getattr(row, time), row.pk)
