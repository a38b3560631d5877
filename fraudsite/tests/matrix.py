"""Who may open which page and take which action, found out by trying: docs/roles.md shows it."""

from collections.abc import Iterator
from uuid import UUID

from django.contrib import admin
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import RequestFactory
from django.urls import URLPattern, URLResolver, converters, get_resolver
from django_otp.middleware import OTPMiddleware

# Values for the parts of addresses. No row has such a key: pages check the permission before they look for it.
STAND_INS = {"int": "999", "uuid": str(UUID(int=0)), "any_uuid": str(UUID(int=0)), "slug": "ulb", "str": "none"}
FRAME = "the_django_plotly_dash"  # the parts of the dashboard's page


def addresses(resolver: URLResolver | None = None, before: str = "/") -> Iterator[tuple[str, str]]:
    """Name and address of every page and endpoint. Pages of an object's history are as its own page."""
    known = {converter: kind for kind, converter in converters.get_converters().items()}
    for pattern in (resolver or get_resolver()).url_patterns:
        part = str(pattern.pattern)
        for name, converter in pattern.pattern.converters.items():
            kind = known[converter]
            for written in (f"<{kind}:{name}>", f"<{name}>"):
                part = part.replace(written, STAND_INS.get(kind, "999"))
        if isinstance(pattern, URLResolver) and pattern.namespace != FRAME:
            yield from addresses(pattern, before + part)
        elif isinstance(pattern, URLPattern) and _is_page(pattern.name, part):
            yield str(pattern.name), before + part


def _is_page(name: str | None, part: str) -> bool:
    return bool(name) and "(?P" not in part and not str(name).endswith("_history")


def may_open(address: str, user: User | AnonymousUser) -> bool:
    """Whether a page lets somebody in, to read or to send its form."""
    return any(_answers(RequestFactory().generic(method, address), user) for method in ("GET", "POST"))


def _answers(request, user):
    request.user, request.session, request._dont_enforce_csrf_checks = user, SessionStore(), True
    request._messages = CookieStorage(request)
    OTPMiddleware(lambda _: None)(request)
    match = get_resolver().resolve(request.path)
    try:
        response = match.func(request, *match.args, **match.kwargs)
    except PermissionDenied:
        return False
    except Http404:
        return True
    return response.status_code not in (401, 403, 405) and "login" not in response.headers.get("Location", "")


def actions() -> Iterator[tuple[str, admin.ModelAdmin, str]]:
    for model, page in admin.site._registry.items():
        for _, name, _ in page._get_base_actions():  # type: ignore[attr-defined]  # of Django itself
            yield f"{model._meta.label_lower}: {name}", page, name


def may_act(page: admin.ModelAdmin, name: str, user: User) -> bool:
    request = RequestFactory().get("/")
    request.user = user
    return page.has_view_or_change_permission(request) and name in page.get_actions(request)


def rows(people: list[User], without_role: User) -> Iterator[str]:
    """A line of the table for each page and action that somebody may see or take, with a mark for each who may.

    Pages that look for the row first are the same for everybody here, so that they are left out.
    """
    for name, address in addresses():
        if address.startswith("/admin/") and (address.count("/") < 4 or not may_open(address, without_role)):
            yield from _row(name, [may_open(address, person) for person in people])
    for name, page, action in actions():
        yield from _row(name, [may_act(page, action, person) for person in people])


def _row(name: str, allowed: list[bool]) -> Iterator[str]:
    if any(allowed):
        yield " | ".join([f"| `{name}`", *("●" if each else "-" for each in allowed)]) + " |"
