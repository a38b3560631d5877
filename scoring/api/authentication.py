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
    """All keys that are valid now, in memory, by digest: they are few, and every request asks.

    Once half of `API_KEY_CACHE_S` has passed a thread reads them anew, and the requests go on with what is there for
    the other half. Only a key that is not there, or what is too old, has a request wait for the database.
    """

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._read_at = -float("inf")
        self._reading = threading.Lock()
        self._is_refreshing = False

    def recall(self, digest: str) -> ApiKey | None:
        """Find a valid key without waiting. None: it is not known, or not well enough; `find` says which."""
        age_s = time.monotonic() - self._read_at
        if age_s > settings.API_KEY_CACHE_S:
            return None
        if age_s > settings.API_KEY_CACHE_S / 2 and not self._is_refreshing:
            self._is_refreshing = True
            threading.Thread(target=self._refresh, name="read-keys", daemon=True).start()
        return self._keys.get(digest)

    def find(self, digest: str) -> ApiKey | None:
        """Find a valid key, asking the database where memory does not do.

        Raises:
            DatabaseUnavailable: it does not answer, or the thread that asks it has no answer in time.
        """
        asked_at = time.monotonic()
        if key := self.recall(digest):
            return key
        # One asks for all: a database that hangs must not hold every thread.
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

    What memory knows is put by for `authenticate`: a moment later it may be too old to be recalled.
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
    """Says in the OpenAPI document how to send the key."""

    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}
