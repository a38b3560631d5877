"""Creates, replaces and revokes API keys."""

from typing import Any

from django.db import transaction
from django.utils import timezone

from scoring.exceptions import KeyRevoked, TooManyKeys
from scoring.models import ApiKey, Client

ACTIVE_KEYS_LIMIT = 2


def create(*, client: Client, **wanted: Any) -> tuple[ApiKey, str]:
    """Make a key with these values of its fields. Returns the row and the key, which can be shown only now.

    Raises:
        TooManyKeys: see `issue`.
    """
    row = ApiKey(client=client, **wanted)
    return row, issue(row)


@transaction.atomic
def issue(row: ApiKey) -> str:
    """Store a key that is not stored yet. Returns the key itself, which is stored nowhere and can be shown only now.

    Raises:
        TooManyKeys: the client has two active keys of this name already.
    """
    Client.objects.select_for_update().get(pk=row.client_id)
    refuse_a_third(row)
    key = row.draw()
    row.save(force_insert=True)
    return key


def refuse_a_third(row: ApiKey) -> None:
    """
    Raises:
        TooManyKeys: the client has two active keys of this name already.
    """
    active = ApiKey.objects.filter(ApiKey.live(timezone.now()), client=row.client_id, name=row.name)
    if active.exclude(pk=row.pk).count() >= ACTIVE_KEYS_LIMIT:
        raise TooManyKeys


def rotate(*, key: ApiKey) -> tuple[ApiKey, str]:
    """Make a key that replaces this one: with its name, rights and limits. This one stays valid until it is revoked.

    Raises:
        KeyRevoked: it is revoked, and so are its rights.
        TooManyKeys: see `issue`.
    """
    if key.revoked_at:
        raise KeyRevoked
    row = key.successor()
    return row, issue(row)


def revoke(*, key: ApiKey) -> bool:
    """Revoke a key; it stops working within `API_KEY_CACHE_S` seconds. Returns False when it was revoked before."""
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()))
