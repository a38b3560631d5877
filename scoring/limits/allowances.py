"""The limits of a key for a kind of call, from the key itself and from the settings."""

from dataclasses import dataclass, field
from math import ceil

from django.conf import settings

from scoring.clients.models import Scope
from scoring.models import ApiKey

DAY_S = 86_400
OF_ROWS = (Scope.BATCH, Scope.LABELS)
OF_TRANSACTIONS = (Scope.PREDICT, Scope.BATCH)


@dataclass(frozen=True, slots=True)
class Allowance:
    """A token bucket, or a quota from one midnight (UTC) to the next if `per_s` is 0.

    `most` is the size of the bucket or the quota, `per_s` what flows into the bucket in a second. `bucket` names it in
    Redis, `name` in headers. `unit` is what is counted, in words. `policy` is its item of the RateLimit-Policy header.
    `item` and `policy_line` are what ASGI sends of name and policy.
    """

    bucket: str
    name: str
    unit: str
    most: float
    per_s: float = 0.0
    policy: str = ""
    item: bytes = field(init=False)
    policy_line: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "item", f'"{self.name}"'.encode())
        object.__setattr__(self, "policy_line", self.policy.encode())


def allowances_of(key: ApiKey, scope: str) -> tuple[Allowance, ...]:
    """What limits calls of this scope with this key, if anything does. Worked out once for each key in memory."""
    known: dict[str, tuple[Allowance, ...]] = key.__dict__.setdefault("_allowances", {})
    if scope not in known:
        known[scope] = (*_rate(key, scope), *_quota(key, scope))
    return known[scope]


def rates_of(key: ApiKey, scope: str) -> tuple[Allowance, ...]:
    """Of these, what flows by the second."""
    return tuple(allowance for allowance in allowances_of(key, scope) if allowance.per_s)


def quota_of(key: ApiKey) -> Allowance | None:
    """How many transactions the key may have scored in a day, if that is limited."""
    return next((allowance for allowance in allowances_of(key, Scope.BATCH) if not allowance.per_s), None)


def _rate(key: ApiKey, scope: str) -> tuple[Allowance, ...]:
    if scope in OF_ROWS:
        per_s, burst, unit = _chosen(key.rows_per_s, settings.KEY_ROWS_PER_S), key.rows_burst, "rows"
    else:
        per_s, burst, unit = _chosen(key.calls_per_s, settings.KEY_CALLS_PER_S), key.calls_burst, "calls"
    if not per_s:
        return ()
    most = float(burst or max(1, ceil(per_s * settings.KEY_BURST_S)))
    policy = f'"{scope}";q={most:.0f};w={max(1, ceil(most / per_s))}'
    return (Allowance(f"{key.digest[:16]}:{scope}", scope, unit, most, per_s, policy),)


def _quota(key: ApiKey, scope: str) -> tuple[Allowance, ...]:
    quota = _chosen(key.transactions_per_day, settings.KEY_TRANSACTIONS_PER_DAY)
    if not quota or scope not in OF_TRANSACTIONS:
        return ()
    return (Allowance(f"{key.digest[:16]}:day", "day", "transactions", quota, policy=f'"day";q={quota:.0f};w={DAY_S}'),)


def _chosen(of_key: int | None, of_settings: float) -> float:
    return float(of_settings if of_key is None else of_key)
