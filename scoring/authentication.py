from django.conf import settings
from django.core.cache import cache
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from scoring.models import ApiKey, Client

SCHEME = "Bearer"


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>` (RFC 6750). A revoked key stops working within `API_KEY_CACHE_S` seconds."""

    def authenticate(self, request: Request) -> tuple[Client, ApiKey] | None:
        words = get_authorization_header(request).split()
        if not words:
            return None
        if len(words) != 2 or words[0].lower() != SCHEME.lower().encode():
            raise AuthenticationFailed("Send the key as `Authorization: Bearer <key>`.")
        digest = ApiKey.digest_of(words[1].decode("latin-1"))
        key = cache.get(digest)
        if key is None:
            key = (
                ApiKey.objects.select_related("client")
                .filter(digest=digest, revoked_at=None, client__is_active=True)
                .first()
            )
            if key is None:
                raise AuthenticationFailed("This key is not known, or it was revoked.")
            cache.set(digest, key, timeout=settings.API_KEY_CACHE_S)
        return key.client, key

    def authenticate_header(self, request: Request) -> str:
        return SCHEME
