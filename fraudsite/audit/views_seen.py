"""Records which pages of the admin people saw, and what they exported: one entry a page, in one statement."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from fraudsite.audit import trail
from fraudsite.audit.models import Action

# Pages that tell nothing of a transaction, a person or a client.
UNRECORDED = {"admin:login", "admin:logout", "admin:jsi18n", "admin:password_change", "admin:password_change_done"}


class AuditMiddleware:
    """A page that cannot be recorded is not shown: the error is answered in its place."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with trail.answering(request):
            response = self._get_response(request)
            if response.status_code == 200 and request.method in ("GET", "POST"):
                _record(request, response)
        return response


def _record(request: HttpRequest, response: HttpResponseBase) -> None:
    match, user = request.resolver_match, getattr(request, "user", None)
    exported = response.headers.get("Content-Disposition", "").startswith("attachment")
    is_page = request.method == "GET" and response.headers.get("Content-Type", "").startswith("text/html")
    if not (match and user and user.is_authenticated and (exported or is_page)):
        return
    if match.view_name in UNRECORDED or "django_plotly_dash" in match.namespaces:
        return  # the frame of the dashboard, whose page is recorded
    kind, page = _target(match.url_name or "")
    detail: dict[str, Any] = {"page": page, "query": _query(request)}
    action = Action.EXPORTED if exported else Action.SEEN
    changelist = (getattr(response, "context_data", None) or {}).get("cl")
    if changelist is not None and not exported:
        action = Action.LISTED
        detail["rows"] = [str(row.pk) for row in changelist.result_list]
    row = unquote(str(next(iter(match.kwargs.values()), "")))
    said = {name: value for name, value in detail.items() if value}
    trail.record(action, kind=kind, object_id=row, detail=json.dumps(said, ensure_ascii=False) if said else "")


def _query(request: HttpRequest) -> str:
    """The filters of a list. Of its search the ids of rows alone: people type e-mail addresses and card holders' ids,
    which are stored nowhere."""
    query = request.GET.copy()
    for term in query.getlist("q"):
        try:
            UUID(term.strip())
        except ValueError:
            query["q"] = "(not kept)" if term else ""
    return query.urlencode(safe="()") if query else ""


def _target(url_name: str) -> tuple[str, str]:
    """Of the page "scoring_review_change" the model "scoring.review" and "change"; of others their name."""
    for model in admin.site._registry:
        prefix = f"{model._meta.app_label}_{model._meta.model_name}_"
        if url_name.startswith(prefix):
            return model._meta.label_lower, url_name.removeprefix(prefix)
    return url_name, ""
