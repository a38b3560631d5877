import logging
import threading
import time
from typing import Any

from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from scoring.exceptions import DatabaseUnavailable
from scoring.models import ApiKey, Client

logger = logging.getLogger(__name__)

SCHEME = "Bearer"


class KeyRing:
    """An in-memory cache of all valid keys, by digest. Keys are few, and every request needs one.

    After half of `API_KEY_CACHE_S` a thread reads them again while requests go on with the cached keys. A request
    waits for the database only if its key is not cached or the cache has expired.
    """

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._read_at = -float("inf")
        self._reading = threading.Lock()
        self._is_refreshing = False

    def recall(self, digest: str) -> ApiKey | None:
        """Look a valid key up without waiting. None if it is not cached or the cache has expired: ask `find` then."""
        age_s = time.monotonic() - self._read_at
        if age_s > settings.API_KEY_CACHE_S:
            return None
        if age_s > settings.API_KEY_CACHE_S / 2 and not self._is_refreshing:
            self._is_refreshing = True
            threading.Thread(target=self._refresh, name="read-keys", daemon=True).start()
        return self._keys.get(digest)

    def find(self, digest: str) -> ApiKey | None:
        """Look a valid key up, in the database if the cache cannot answer.

        Raises:
            DatabaseUnavailable: the database failed, or the thread that reads it had no answer in time.
        """
        asked_at = time.monotonic()
        if key := self.recall(digest):
            return key
        # One thread reads for all of them: a database that hangs must not block every thread.
        if not self._reading.acquire(timeout=settings.PREDICT_DEADLINE_MS / 1000):
            raise DatabaseUnavailable
        try:
            if self._read_at < asked_at:
                self._read()
        except Error as error:
            raise DatabaseUnavailable from error
        finally:
            self._reading.release()
        return self._keys.get(digest)

    def _refresh(self) -> None:
        try:
            with self._reading:
                self._read()
        except Error as error:
            logger.warning("The keys could not be read: %s", error)
        finally:
            connection.close()
            self._is_refreshing = False

    def _read(self) -> None:
        began = time.monotonic()
        valid = ApiKey.objects.select_related("client").filter(revoked_at=None, client__is_active=True)
        self._keys = {key.digest: key for key in valid}
        self._read_at = began


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
