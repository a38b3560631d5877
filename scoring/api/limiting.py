"""Counts calls against the limits of their keys, and tells clients what is left to them."""

from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from scoring.api.permissions import key_of
from scoring.exceptions import QuotaExhausted, RateLimited
from scoring.limits.allowances import allowances_of, rates_of
from scoring.limits.meter import Spent, meter
from scoring.models import ApiKey


class KeyLimits(BaseThrottle):
    """Counts each call once. A view that takes many rows counts the others with `count_rows`, as it learns of them; of
    one that `takes_files`, workers count the transactions."""

    def allow_request(self, request: Request, view: Any) -> bool:
        spent = getattr(request._request, "spent", None)
        if spent is None:
            key, takes_files = key_of(request), getattr(view, "takes_files", False)
            spent = meter().spend(rates_of(key, view.scope)) if takes_files else count(key, view.scope)
        _tell(view, spent)
        return True


def count(key: ApiKey, scope: str) -> Spent:
    """Count a call. It never waits."""
    return meter().spend(allowances_of(key, scope))


def count_rows(view: Any, request: Request, rows: int) -> None:
    """Count the rows of a call, the first of which was counted with the call.

    Raises:
        RateLimited, QuotaExhausted: there are too many.
    """
    allowances = allowances_of(key_of(request), view.scope)
    if rows > 1:
        _tell(view, meter().spend(allowances, rows - 1, before=1))


def lines_of(spent: Spent) -> list[tuple[bytes, bytes]]:
    """The header fields as ASGI sends them."""
    if not spent.left:
        return []
    policies = b", ".join([allowance.policy_line for allowance, _, _ in spent.left])
    items = b", ".join([b"%b;r=%d;t=%d" % (allowance.item, left, in_s) for allowance, left, in_s in spent.left])
    return [(b"ratelimit-policy", policies), (b"ratelimit", items)]


def _tell(view: Any, spent: Spent) -> None:
    view.headers |= spent.headers
    if not (refused := spent.refused):
        return
    if refused.per_s:
        raise RateLimited(
            per_s=refused.per_s,
            most=refused.most,
            unit=refused.unit,
            scope=refused.name,
            retry_after_s=spent.wait_s,
        )
    [left] = [left for allowance, left, _ in spent.left if allowance is refused]
    raise QuotaExhausted(quota=refused.most, left=left, retry_after_s=spent.wait_s)
