import threading
import time
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from scoring.exceptions import DatabaseUnavailable
from scoring.models import ApiKey, Client

SCHEME = "Bearer"


class KeyRing:
    """All keys that are valid now, in memory, by digest: they are few, and every request asks.

    One thread at a time reads them anew, when half of `API_KEY_CACHE_S` has passed, or at once for a key that is not
    among them. While it does, the others go on with what is there, for the other half; after that they refuse, so that
    a database which hangs holds one thread and not all.
    """

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._read_at = -float("inf")
        self._reading = threading.Lock()

    def find(self, digest: str) -> ApiKey | None:
        """Find a valid key.

        Raises:
            DatabaseUnavailable: the database does not answer, and what is known here is too old to go by.
        """
        asked_at = time.monotonic()
        age_s = asked_at - self._read_at
        key = self._keys.get(digest)
        if key and age_s < settings.API_KEY_CACHE_S / 2:
            return key
        may_wait = not key or age_s > settings.API_KEY_CACHE_S
        if not self._reading.acquire(timeout=settings.PREDICT_DEADLINE_MS / 1000 if may_wait else 0.0):
            if may_wait:
                raise DatabaseUnavailable
            return key
        try:
            if self._read_at < asked_at:
                self._read()
        except DatabaseError as error:
            raise DatabaseUnavailable from error
        finally:
            self._reading.release()
        return self._keys.get(digest)

    def _read(self) -> None:
        began = time.monotonic()
        valid = ApiKey.objects.select_related("client").filter(revoked_at=None, client__is_active=True)
        self._keys = {key.digest: key for key in valid}
        self._read_at = began


ring = KeyRing()


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>` (RFC 6750). A revoked key stops working within `API_KEY_CACHE_S` seconds."""

    def authenticate(self, request: Request) -> tuple[Client, ApiKey] | None:
        words = request.META.get("HTTP_AUTHORIZATION", "").split()
        if not words:
            return None
        if len(words) != 2 or words[0].lower() != SCHEME.lower():
            raise AuthenticationFailed("Send the key as `Authorization: Bearer <key>`.")
        key = ring.find(ApiKey.digest_of(words[1]))
        if key is None:
            raise AuthenticationFailed("This key is not known, or it was revoked.")
        return key.client, key

    def authenticate_header(self, request: Request) -> str:
        return SCHEME


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """Says in the OpenAPI document how to send the key."""

    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
