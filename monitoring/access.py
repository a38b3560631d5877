"""Who may see the dashboard, and under which content security policy."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

# SHA-256 of the one line of script that Dash writes into its page: `var renderer = new DashRenderer();`
DASH_RENDERER = "'sha256-jZlsGVOhUAIcH+4PVs7QuGZkthRMgvT2n0ilH6/zTM0='"


def is_staff(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_staff


def staff_only(view: Callable[..., HttpResponseBase], **_: Any) -> Callable[..., HttpResponseBase]:
    """Wraps every view of django-plotly-dash: staff alone get in, and Dash gets what its page cannot do without."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not is_staff(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return csp_update({"script-src": [SELF, DASH_RENDERER], "style-src": [SELF, UNSAFE_INLINE]})(guarded)
