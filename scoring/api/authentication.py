import time
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from scoring.api.remembered import Remembered
from scoring.clients import uses
from scoring.models import ApiKey, Client
from scoring.tenancy import tenants

SCHEME = "Bearer"


class KeyRing(Remembered[dict[str, ApiKey]]):
    """All keys that are not revoked, by digest. Keys are few, and every request needs one.

    Some may have expired: that is told by the clock, at each call.
    """

    @property
    def keep_s(self) -> float:
        return settings.API_KEY_CACHE_S

    def read(self) -> dict[str, ApiKey]:
        valid = ApiKey.objects.select_related("client").filter(revoked_at=None, client__is_active=True)
        found = {key.digest: key for key in valid}
        tenants.learn(key.client for key in found.values())
        return found

    def recall(self, digest: str) -> ApiKey | None:
        """Look a valid key up without waiting. None if it is not kept or the keys have expired: ask `find` then."""
        return (self.kept() or {}).get(digest)

    def find(self, digest: str) -> ApiKey | None:
        """Look a valid key up, in the database if memory cannot answer.

        Raises:
            DatabaseUnavailable: see `read_since`.
        """
        asked_at = time.monotonic()
        return self.recall(digest) or self.read_since(asked_at).get(digest)

    def now(self) -> dict[str, ApiKey]:
        """All of them, as they were less than `API_KEY_CACHE_S` seconds ago.

        Raises:
            DatabaseUnavailable: see `read_since`.
        """
        asked_at = time.monotonic()
        return self.kept() or self.read_since(asked_at)


ring = KeyRing()


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>` (RFC 6750). A revoked key stops working within `API_KEY_CACHE_S` seconds."""

    def authenticate(self, request: Request) -> tuple[Client, ApiKey] | None:
        token = _token(request.META.get("HTTP_AUTHORIZATION", ""))
        if token is None:
            return None
        key = getattr(request, "recalled_key", None) or ring.find(ApiKey.digest_of(token))
        if key is None:
            raise AuthenticationFailed("This key is not known, or it was revoked.")
        if key.expired():
            raise AuthenticationFailed(
                f"This key expired on {key.expires_at:%Y-%m-%d at %H:%M} UTC. Ask an administrator for another."
            )
        uses.note(key)
        return key.client, key

    def authenticate_header(self, request: Request) -> str:
        return SCHEME


def needs_database(request: HttpRequest) -> bool:
    """Whether authentication would have to ask the database, and so must not run on the event loop.

    The cached key is kept on the request for `authenticate`, as the cache may expire in between.
    """
    try:
        token = _token(request.META.get("HTTP_AUTHORIZATION", ""))
    except AuthenticationFailed:
        return False
    if token is None:
        return False
    request.recalled_key = ring.recall(ApiKey.digest_of(token))  # type: ignore[attr-defined]
    return request.recalled_key is None  # type: ignore[attr-defined]


def _token(header: str) -> str | None:
    words = header.split()
    if not words:
        return None
    if len(words) != 2 or words[0].lower() != SCHEME.lower():
        raise AuthenticationFailed("Send the key as `Authorization: Bearer <key>`.")
    return words[1]


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """Documents in the OpenAPI document how to send the key."""

    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
