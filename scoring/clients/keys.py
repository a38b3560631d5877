"""Creates and revokes API keys."""

from django.db import transaction
from django.utils import timezone

from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey, Client

ACTIVE_KEYS_LIMIT = 2


@transaction.atomic
def create(*, client: Client) -> tuple[ApiKey, str]:
    """Make a key. Returns the row and the key, which is stored nowhere and can be shown only now.

    Raises:
        TooManyKeys: the client has two active keys already.
    """
    Client.objects.select_for_update().get(pk=client.pk)
    if client.keys.filter(revoked_at=None).count() >= ACTIVE_KEYS_LIMIT:
        raise TooManyKeys
    row, key = ApiKey.draw(client)
    row.save()
    return row, key


def revoke(*, key: ApiKey) -> bool:
    """Revoke a key; it stops working within `API_KEY_CACHE_S` seconds. Returns False when it was revoked before."""
    return bool(ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()))
