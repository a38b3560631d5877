"""The limits and schemas of a stream: those of the key that `STREAM_KEYS` names. Without one, nothing limits it.

What is more than the limit per second waits in the stream, as nobody waits at a connection. What is more than the day's
quota is refused. Consumers share both by Redis, with each other and with calls that use the key.
"""

import logging
import time
from datetime import UTC, datetime, timedelta

import redis
from django.conf import settings

from scoring.api.authentication import ring
from scoring.clients import uses
from scoring.clients.models import Scope
from scoring.exceptions import QuotaExhausted
from scoring.limits.allowances import Allowance, allowances_of
from scoring.limits.ledger import Ledger
from scoring.models import ApiKey, Client
from training.core.exceptions import FraudsiteError

logger = logging.getLogger(__name__)


class NoKey(FraudsiteError):
    """The stream has no valid key. Nothing is read until there is one."""


class Rights:
    """Those of one stream, as one consumer uses them."""

    def __init__(self, client: Client, stream: str) -> None:
        self._client, self._name = client, settings.STREAM_KEYS.get(stream)
        self._ledger = Ledger()
        # By bucket, what was left in it, and when.
        self._known: dict[str, tuple[float, float]] = {}

    def key(self) -> ApiKey | None:
        """The client's newest valid key of this name; None if the stream needs none.

        Raises:
            NoKey: there is none that may be used for predict calls, and is not for tests.
            DatabaseUnavailable: the keys cannot be read.
        """
        if self._name is None:
            return None
        found = [key for key in ring.now().values() if (key.client_id, key.name) == (self._client.pk, self._name)]
        usable = [key for key in found if Scope.PREDICT in key.scopes and not key.is_test and not key.expired()]
        if not usable:
            raise NoKey(
                f"{self._client} has no valid key {self._name!r} with the scope {Scope.PREDICT}, which STREAM_KEYS "
                "names. Nothing is read until there is one."
            )
        return max(usable, key=lambda key: key.created_at)

    def wait_s(self, key: ApiKey | None) -> float:
        """How long to wait until an entry may be read."""
        waits = [(1 - self._left(each)) / each.per_s for each in _allowances(key) if each.per_s]
        return max(0.0, *waits) if waits else 0.0

    def most(self, key: ApiKey | None) -> int:
        """How many entries may be read now, at least one."""
        lefts = [int(self._left(each)) for each in _allowances(key) if each.per_s]
        return max(1, min([settings.STREAM_BATCH, *lefts]))

    def spend(self, key: ApiKey | None, entries: int) -> int:
        """Count new entries against the limits of the key. Returns how many of them the day's quota has room for.

        As elsewhere, a Redis that does not answer limits nothing.
        """
        if key is None:
            return entries
        uses.note(key)
        try:
            self._settle(key, entries)
            over = max((min(entries, -int(self._known[each.bucket][0])) for each in _quotas(key)), default=0)
            if over > 0:
                self._settle(key, -over)
        except redis.RedisError as error:
            logger.warning("The limits of the key %s are not enforced: %s", key, error)
            self._known.clear()
            return entries
        return entries - max(0, over)

    def refusal(self, key: ApiKey) -> QuotaExhausted:
        """What is told of an entry that the day's quota has no room for."""
        [quota] = _quotas(key)
        now = datetime.now(UTC)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return QuotaExhausted(quota=quota.most, left=0, retry_after_s=int((midnight - now).total_seconds()) + 1)

    def _settle(self, key: ApiKey, entries: int) -> None:
        if allowances := _allowances(key):
            told = self._ledger.settle([(allowance, entries) for allowance in allowances])
            now = time.monotonic()
            self._known = {each.bucket: (left, now) for each, left in zip(allowances, told.left, strict=True)}

    def _left(self, allowance: Allowance) -> float:
        """What is left in a bucket, for all that this consumer knows."""
        left, at = self._known.get(allowance.bucket, (allowance.most, 0.0))
        return min(allowance.most, left + (time.monotonic() - at) * allowance.per_s)


def _allowances(key: ApiKey | None) -> tuple[Allowance, ...]:
    """An entry counts as a predict call."""
    return allowances_of(key, Scope.PREDICT) if key else ()


def _quotas(key: ApiKey) -> list[Allowance]:
    return [allowance for allowance in _allowances(key) if not allowance.per_s]
