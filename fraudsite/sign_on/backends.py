"""Who may sign in, and how: links of the chain that django-axes heads, so that its locks hold for both ways."""

from typing import Any

from django.conf import settings
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest


def may_use_password(username: str) -> bool:
    return settings.PASSWORD_SIGN_IN == "all" or username in settings.EMERGENCY_ACCOUNTS  # noqa: S105  # a choice


class PasswordGate:
    """Before the passwords are checked: where only emergency accounts have one, others are not asked for it."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_: Any
    ) -> None:
        if password is not None and not may_use_password(username or ""):
            raise PermissionDenied  # it counts as a wrong password, so that nobody can try passwords here


class SignOnBackend(BaseBackend):
    """Takes the account for which the provider's claims were checked: see accounts.py."""

    def authenticate(self, request: HttpRequest | None, account: User | None = None, **_: Any) -> User | None:
        return account

    def get_user(self, user_id: Any) -> Any:
        """Sessions end when single sign-on is switched off."""
        return ModelBackend().get_user(user_id) if settings.SSO_ISSUER else None
