"""Deprecated addresses, which say so in every answer: `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and links.

A view that is deprecated inherits `Deprecated` first and says what with `deprecation`. docs/api.md has the policy.
"""

from datetime import UTC, date, datetime
from typing import Any, ClassVar, NamedTuple

from django.utils.http import http_date
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class Deprecation(NamedTuple):
    """Since when an address is deprecated, and which takes its place. It works at least until `sunset`, or on and on
    while that is None. `told` is where people read about it."""

    since: date
    successor: str
    told: str
    sunset: date | None = None

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Deprecation": f"@{_seconds(self.since)}"}
        return headers | {"Sunset": http_date(_seconds(self.sunset))} if self.sunset else headers

    @property
    def links(self) -> str:
        told = f'<{self.told}>; rel="deprecation"; type="text/html"'
        return f'<{self.successor}>; rel="successor-version", {told}'


class Deprecated(APIView):
    deprecation: ClassVar[Deprecation]

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        done = super().finalize_response(request, response, *args, **kwargs)
        for name, value in self.deprecation.headers.items():
            done[name] = value
        done["Link"] = ", ".join(filter(None, [done.get("Link"), self.deprecation.links]))
        return done


def described(**operations: str) -> Any:
    """A class decorator for a deprecated view: the id of the operation of each method."""
    return extend_schema_view(
        **{method: extend_schema(operation_id=operation, deprecated=True) for method, operation in operations.items()}
    )


def _seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
