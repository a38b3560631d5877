"""Reads what the provider says of a person: groups, second factor, end of the session. Pure functions of the claims."""

import math
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from fraudsite.sign_on.refusals import ClaimMissing, NotUnderstood, OutOfTime

Claims = Mapping[str, Any]


def find(claims: Claims, name: str) -> Any:
    """A claim by its name, or by a path such as "realm_access.roles". None if it is missing."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def groups(claims: Claims) -> list[str]:
    """What the claim `SSO_ROLES_CLAIM` says: a list of texts, or one text.

    Raises:
        ClaimMissing: there is no such claim, or it is an e-mail address that nobody has verified.
    """
    name = settings.SSO_ROLES_CLAIM
    found = find(claims, name)
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list):
        raise ClaimMissing(f'There is no claim "{name}".')
    if name == "email" and not email(claims):
        raise ClaimMissing("The e-mail address is not verified.")
    return [each for each in found if isinstance(each, str)]


def email(claims: Claims) -> str:
    """The e-mail address, if the provider has verified it; otherwise empty."""
    found = claims.get("email")
    is_fit = isinstance(found, str) and len(found) <= 254 and "\0" not in found
    return str(found) if is_fit and claims.get("email_verified") is True else ""


def has_second_factor(claims: Claims) -> bool:
    """Whether the sign-in at the provider counts as one with a second factor, by `SSO_SECOND_FACTOR`."""
    if settings.SSO_SECOND_FACTOR != "claim":
        return bool(settings.SSO_SECOND_FACTOR == "provider")
    methods = claims.get("amr")
    said = [*(methods if isinstance(methods, list) else []), claims.get("acr")]
    return any(value in said for value in settings.SSO_SECOND_FACTOR_VALUES)


def session_end(claims: Claims, now: float) -> float:
    """When a session that begins now ends, in seconds since 1970: after `SSO_SESSION_LIMIT_S`, or earlier if the
    provider says so by `session_expiry` or, by setting, by the end of the token.

    Raises:
        OutOfTime: that has passed.
    """
    ends = [now + settings.SSO_SESSION_LIMIT_S]
    for name in ("session_expiry", *(["exp"] if settings.SSO_SESSION_ENDS_WITH_TOKEN else [])):
        said = claims.get(name)
        if said is None:
            continue
        if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
            raise NotUnderstood(f'The claim "{name}" is no time.')
        ends.append(said)
    if min(ends) <= now:
        raise OutOfTime("The session at the provider has ended.")
    return min(ends)
