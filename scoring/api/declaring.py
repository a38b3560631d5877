"""Declares in the OpenAPI document which problems an operation may answer with."""

from collections import defaultdict

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from scoring.api import catalogue
from scoring.api.catalogue import Kind
from scoring.api.serializers import ProblemSerializer

MEDIA = "application/problem+json"
NOT_CHANGED = {304: OpenApiResponse(description="The answer that you have still holds: see `If-None-Match`.")}
# Whatever the call.
ALWAYS = (
    *("bad-request", "unknown-host", "unauthorized", "scope-missing", "address-outside-the-networks-of-the-key"),
    *("key-for-tests", "sandbox-unavailable"),
    *("rate-limit-exceeded", "daily-quota-exhausted", "not-acceptable", "database-unavailable"),
)
OF_BODIES = ("malformed-body", "invalid-fields", "body-too-large", "unsupported-media-type", "unacceptable-values")
OF_FILES = (
    *OF_BODIES,
    *("file-refused", "schema-not-allowed", "idempotency-key-already-used", "too-many-requests-in-flight"),
)


def problems(*names: str) -> dict[tuple[int, str], OpenApiResponse]:
    """Responses with these kinds of problems, by status and media type, besides those that every call may have."""
    by_status: dict[int, list[Kind]] = defaultdict(list)
    for kind in catalogue.KINDS:
        if kind.name in (*ALWAYS, *names):
            by_status[kind.status].append(kind)
    unknown = {*names} - catalogue.BY_NAME.keys()
    if unknown:
        raise LookupError(f"no such kinds of problems: {', '.join(sorted(unknown))}")
    return {(status, MEDIA): _response(status, kinds) for status, kinds in by_status.items()}


def _response(status: int, kinds: list[Kind]) -> OpenApiResponse:
    examples = [
        OpenApiExample(kind.title, kind.example, response_only=True, media_type=MEDIA, status_codes=[str(status)])
        for kind in kinds
    ]
    told = "\n\n".join(f"`{kind.address}`: {kind.meaning} {kind.remedy}" for kind in kinds)
    return OpenApiResponse(ProblemSerializer, told, examples)
