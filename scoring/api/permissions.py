"""Whether a key may be used for a call: from this address, for this endpoint, for this schema."""

from typing import Any, cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from scoring.clients.addresses import client_address
from scoring.exceptions import AddressOutside, SchemaNotAllowed, ScopeMissing, TestKeyRefused
from scoring.models import ApiKey


def key_of(request: Request) -> ApiKey:
    """The key of an authenticated call."""
    return cast(ApiKey, request.auth)


class KeyAllows(BasePermission):
    """Lets a call in whose key has the `scope` that the view declares, and comes from one of the key's networks.
    Only views that say `takes_test_keys` let keys for tests in."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.auth is None:  # answered with 401
            return False
        key = key_of(request)
        address = client_address(request)
        if not key.allows_address(address):
            raise AddressOutside(address)
        if view.scope not in key.scopes:
            raise ScopeMissing(view.scope)
        if key.is_test and not getattr(view, "takes_test_keys", False):
            raise TestKeyRefused
        return True


def refuse_other_schemas(key: ApiKey, schema: str) -> None:
    """
    Raises:
        SchemaNotAllowed: the key may not be used for this schema.
    """
    if key.schemas and schema not in key.schemas:
        raise SchemaNotAllowed(schema)
