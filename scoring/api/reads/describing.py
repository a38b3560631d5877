"""What the OpenAPI document says of the reads."""

from typing import Any, Protocol
from uuid import UUID

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework.serializers import Serializer

from scoring.api.declaring import NOT_CHANGED, problems
from scoring.api.documents import Document
from scoring.api.reads.listing import Listing
from scoring.api.reads.parameters import NEWEST, OLDEST, USUAL_LIMIT

LINK = OpenApiParameter(
    "Link", str, OpenApiParameter.HEADER, response=[200], description='The next page, as `<address>; rel="next"`.'
)
ETAG = OpenApiParameter(
    "ETag",
    str,
    OpenApiParameter.HEADER,
    response=[200],
    description="Send it as `If-None-Match`.",
)


class Reads(Protocol):
    listing: Listing


def described_listing(operation: str, page: type[Serializer], summary: str, text: str) -> Any:
    """A class decorator for views of listings."""

    def described(view: type[Reads]) -> Any:
        usual = min(USUAL_LIMIT, settings.LISTING_LIMIT)
        limit = {"type": "integer", "minimum": 1, "maximum": settings.LISTING_LIMIT, "default": usual}
        parameters = [
            *(_parameter(one.name, one.document, one.description) for one in view.listing.filters),
            _fields(view.listing),
            _parameter("order", {"type": "string", "enum": [NEWEST, OLDEST], "default": NEWEST}, "Which come first."),
            _parameter("limit", limit, "How many rows a page has at most."),
            _parameter(
                "cursor", {"type": "string", "minLength": 1}, "Where the page begins: `next` of the page before has it."
            ),
            LINK,
        ]
        more = "A page may have fewer rows than `limit`, even none, though it has a `next`: go on until there is none."
        operations = extend_schema(
            operation_id=operation,
            summary=summary,
            description=f"{text} {more}",
            parameters=parameters,
            responses={200: page} | problems("invalid-fields", "unacceptable-values"),
        )
        return extend_schema_view(get=operations)(view)

    return described


def described_row(operation: str, row: type[Serializer], summary: str, text: str) -> Any:
    """A class decorator for views of single rows."""

    def described(view: type[Reads]) -> Any:
        operations = extend_schema(
            operation_id=operation,
            summary=summary,
            description=text,
            parameters=[OpenApiParameter("key", UUID, OpenApiParameter.PATH), _fields(view.listing), ETAG],
            responses={200: row}
            | NOT_CHANGED
            | problems("invalid-fields", "unacceptable-values", "not-found", "schema-not-allowed"),
        )
        return extend_schema_view(get=operations)(view)

    return described


def _fields(listing: Listing) -> OpenApiParameter:
    document: Document = {"type": "string", "enum": list(listing.names)}
    wanted = "The fields that a row should have, with commas between them; all if left out."
    return _parameter("fields", {"type": "array", "minItems": 1, "items": document}, wanted)


def _parameter(name: str, document: Document, description: str) -> OpenApiParameter:
    # A list in a query is written with commas: the style `form`, not exploded.
    explode = False if document["type"] == "array" else None
    return OpenApiParameter(name, document, description=description, explode=explode)
