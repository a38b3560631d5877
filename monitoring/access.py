"""Access to the dashboard, and its content security policy."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from scoring.tenancy import restriction

# SHA-256 of the one line of script that Dash writes into its page: `var renderer = new DashRenderer();`
DASH_RENDERER = "'sha256-jZlsGVOhUAIcH+4PVs7QuGZkthRMgvT2n0ilH6/zTM0='"
# The session's key for the state of django-plotly-dash's callbacks.
DASH_STATE = "django_plotly_dash"
# The permission of each dashboard by its name, empty for all staff; a dashboard that is made enters its own.
PERMISSIONS: dict[str, str] = {}


def is_staff(request: HttpRequest) -> bool:
    """Whether somebody is staff who works for all clients: numbers are not counted by client."""
    return request.user.is_active and request.user.is_staff and not restriction.is_restricted(request.user)


def may_see(request: HttpRequest, page: str) -> bool:
    """Whether somebody may see a dashboard, which is also that it exists."""
    permission = PERMISSIONS.get(page)
    return permission is not None and is_staff(request) and (not permission or request.user.has_perm(permission))


def staff_only(view: Callable[..., HttpResponseBase], **_: Any) -> Callable[..., HttpResponseBase]:
    """Wraps every view of django-plotly-dash: only those who may see the dashboard get in, and the page may run what
    Dash needs, and make a picture of a plot."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not (may_see(request, kwargs["ident"]) if "ident" in kwargs else is_staff(request)):
            raise PermissionDenied
        before, modified = request.session.get(DASH_STATE, {}), request.session.modified
        response = view(request, *args, **kwargs)
        # Dash marks the session as modified even if its state is the same: every refresh would write to the database.
        if request.session.get(DASH_STATE, {}) == before:
            request.session.modified = modified
        return response

    return csp_update(
        {"script-src": [SELF, DASH_RENDERER], "style-src": [SELF, UNSAFE_INLINE], "img-src": [SELF, "data:", "blob:"]}
    )(guarded)
