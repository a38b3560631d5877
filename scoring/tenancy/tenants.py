"""Which tokens a client's entities have: its own, unless the schema declares the entity shared.

A client that was there before tokens were told apart keeps the shared ones, so that its histories and list entries go
on: `Client.own_histories`. Web processes ask this for each transaction, on the event loop, so it is held in memory.
Whoever reads clients for another reason tells them here (`learn`), as the keys' reader does every second.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from django.conf import settings

from scoring.models import Client
from scoring.tenancy import restriction
from training.core.schema.tokens import own_maker

# So long a client is taken to have shared tokens. The other way round it holds for ever.
ASK_AGAIN_S = 5.0


class Known(NamedTuple):
    """What makes a client's own tokens, None if it has shared ones; and until when that holds, on the monotonic
    clock."""

    own: Callable[[str], str] | None
    until: float


_known: dict[int, Known] = {}


def own_of(client_id: int) -> Callable[[str], str] | None:
    """What makes a client's own token of a shared one; None if all tokens of the client are shared ones.

    Asks the database only about clients that nobody told of, and in processes without keys from time to time again.
    """
    known = _known.get(client_id)
    if known is None or (known.own is None and time.monotonic() > known.until):
        _known.pop(client_id, None)
        learn(Client.objects.filter(pk=client_id))
        known = _known.setdefault(client_id, _of(client_id, has_own=True))
    return known.own


def learn(clients: Iterable[Client]) -> None:
    """Remember of clients that were just read which tokens they have."""
    for client in clients:
        known = _known.get(client.pk)
        if known is None or known.own is None or not client.own_histories:
            _known[client.pk] = _of(client.pk, has_own=client.own_histories)


def by_name(user: Any = None) -> dict[str, int]:
    """All clients, or those whose rows a user sees, also those that are not active: they have transactions."""
    clients = Client.objects.order_by("name")
    return dict((restriction.visible(clients, user) if user else clients).values_list("name", "pk"))


def token_at(client_id: int, token: str, *, shared: bool) -> str:
    """The token that an entity has at a client, of its shared one."""
    own = None if shared else own_of(client_id)
    return own(token) if own else token


def _of(client_id: int, *, has_own: bool) -> Known:
    if not has_own:
        return Known(None, time.monotonic() + ASK_AGAIN_S)
    return Known(own_maker(settings.ENTITY_HASH_KEY, str(client_id)), 0.0)
