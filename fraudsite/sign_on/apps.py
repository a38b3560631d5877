from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from fraudsite.sign_on.configuration import SUPERUSER
from training.core.exceptions import did_you_mean


@checks.register
def doubtful_settings(**_: Any) -> list[checks.CheckMessage]:
    """Warns about roles that the product does not have, and of nobody to let in when the provider is down."""
    from fraudsite.roles import ROLES

    known = {*ROLES, SUPERUSER}
    named = {role for roles in settings.SSO_ROLES.values() for role in roles}
    found = [
        f"SSO_ROLES names {role!r}, which is none of docs/roles.md: a group of that name has to exist."
        f"{did_you_mean(role, known)}"
        for role in sorted(named - known)
    ]
    if settings.PASSWORD_SIGN_IN == "emergency" and not settings.EMERGENCY_ACCOUNTS:  # noqa: S105  # a choice
        found.append("There are no EMERGENCY_ACCOUNTS: nobody can sign in while the provider is down.")
    return [checks.Warning(message, id="fraudsite.W002") for message in found]


class SignOnConfig(AppConfig):
    name = "fraudsite.sign_on"
    verbose_name = "Single sign-on"
