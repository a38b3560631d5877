from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from fraudsite.sign_on.backends import may_use_password
from fraudsite.two_factor import BY_PROVIDER


class PasswordSessionsMiddleware:
    """Where passwords are for emergency accounts alone, ends the sessions that others began with one before."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if settings.PASSWORD_SIGN_IN == "emergency":  # noqa: S105  # a choice
            _end_others(request)
        return self._get_response(request)


def _end_others(request: HttpRequest) -> None:
    user: Any = request.user
    if user.is_authenticated and BY_PROVIDER not in request.session and not may_use_password(user.get_username()):
        logout(request)
