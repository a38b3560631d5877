"""What the OpenAPI document says of keys: the scope of each call, its refusals, and the limits that answers tell."""

from typing import Any

from scoring.api.documents import Document
from scoring.clients.models import Scope

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
MEASURED = {
    "RateLimit-Policy": {
        "description": "The limits of the key for this call (IETF draft-ietf-httpapi-ratelimit-headers-10): `q` units "
        "in `w` seconds. Left out if there are none.",
        "schema": {"type": "string"},
        "example": '"predict";q=20000;w=2, "day";q=1000000;w=86400',
    },
    "RateLimit": {
        "description": "What is left of each limit: `r` units, and `t` seconds until it is whole again or, in a 429, "
        "until the call may be sent again.",
        "schema": {"type": "string"},
        "example": '"predict";r=19999;t=1, "day";r=999999;t=3600',
    },
}
RETRY_AFTER = {"description": "Seconds until the call may be sent again.", "schema": {"type": "integer", "minimum": 1}}
FORBIDDEN = (
    "The key lacks the scope `{scope}` (`/problems/scope-missing`), may not be used for this schema "
    "(`/problems/schema-not-allowed`), or not from this address (`/problems/address-outside-the-networks-of-the-key`)."
)
LIMITED = (
    "Nothing was stored; send it again after `Retry-After` seconds. The key was used more often than it may be "
    "(`/problems/rate-limit-exceeded`), its transactions of the day are used up "
    "(`/problems/daily-quota-exhausted`), or too many requests wait (`/problems/too-many-requests-in-flight`)."
)


def keys(result: Document, generator: Any, **_: Any) -> Document:
    """Add to every operation that needs a key what is the same for all of them."""
    for path, _, method, callback in generator.endpoints:
        scope = getattr(callback.cls, "scope", None)
        if method == "GET":
            scope = getattr(callback.cls, "reading_scope", scope)
        if scope:
            _add(result["paths"][path][method.lower()], scope)
    return result


def _add(operation: Document, scope: Scope) -> None:
    needed = f"Needs a key with the scope `{scope}`."
    operation["description"] = f"{operation.get('description', '')} {needed}".strip()
    responses = operation["responses"]
    told = {"401": "There is no valid key.", "403": FORBIDDEN.format(scope=scope), "429": LIMITED}
    for status, words in told.items():  # a view that declares its problems says more of them
        responses.setdefault(status, {"description": words, "content": PROBLEM})
    for status, response in responses.items():
        if status not in ("401", "403"):
            response["headers"] = response.get("headers", {}) | MEASURED
    responses["429"]["headers"]["Retry-After"] = RETRY_AFTER
