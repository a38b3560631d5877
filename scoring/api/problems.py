"""Every error of the API is `application/problem+json` (RFC 9457)."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Any, TypedDict

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import DisallowedHost, PermissionDenied
from django.db import Error
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.defaults import bad_request, page_not_found, permission_denied, server_error
from rest_framework.exceptions import APIException

from scoring.api import refusals
from scoring.card_numbers import holds_card_number
from scoring.exceptions import RequestRefused

CONTENT_TYPE = "application/problem+json"
API_PATHS = ("/api/", "/predict")


class Problem(TypedDict):
    """One problem document. `type` is a stable name of the kind of problem, made from its title; `instance` is the path
    of the request, empty if that holds a card number."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[dict[str, str]]


def document(
    request: HttpRequest, *, status: int, title: str, detail: str, errors: list[dict[str, str]] | None = None
) -> Problem:
    return Problem(
        type="urn:fraudsite:problem:" + title.lower().replace(" ", "-"),
        title=title,
        status=status,
        detail=detail,
        instance="" if holds_card_number(request.path) else request.path,
        request_id=request.request_id,  # type: ignore[attr-defined]
        errors=errors or [],
    )


def document_of(request: HttpRequest, refusal: RequestRefused) -> Problem:
    errors = [asdict(error) for error in refusal.errors]
    return document(request, status=refusal.status, title=refusal.title, detail=str(refusal), errors=errors)


def problem(request: HttpRequest, *, status: int, title: str, detail: str) -> JsonResponse:
    refusals.count(status, title)
    body = document(request, status=status, title=title, detail=detail)
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE)


def problem_response(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """DRF's exception handler. Returns None for unexpected exceptions, which become a logged 500."""
    request = context["request"]._request
    if isinstance(exc, RequestRefused):
        refusals.count(exc.status, exc.title)
        response = JsonResponse(document_of(request, exc), status=exc.status, content_type=CONTENT_TYPE)
        if exc.retry_after:
            response["Retry-After"] = str(settings.RETRY_AFTER_S)
        return response
    if isinstance(exc, Http404):
        return not_found(request)
    if isinstance(exc, PermissionDenied):
        return problem(request, status=403, title="Forbidden", detail="This key may not do that.")
    if isinstance(exc, APIException):
        title = HTTPStatus(exc.status_code).phrase.capitalize()
        response = problem(request, status=exc.status_code, title=title, detail=str(exc.detail))
        if challenge := getattr(exc, "auth_header", None):
            response["WWW-Authenticate"] = challenge
        return response
    return None


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 404: with a problem document to API clients, with a page to people."""
    if request.path.startswith(API_PATHS):
        return problem(request, status=404, title="Not found", detail="There is nothing at this address.")
    return _page(request, 404) or page_not_found(request, exception or Http404())


def not_allowed(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _page(request, 403) or permission_denied(request, exception or PermissionDenied())


def not_understood(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if request.path.startswith(API_PATHS):
        if isinstance(exception, DisallowedHost):
            unknown = "The Host header has no name of this site. The operator sets its names with ALLOWED_HOSTS."
            return problem(request, status=400, title="Unknown host", detail=unknown)
        return problem(request, status=400, title="Bad request", detail="The request makes no sense.")
    return bad_request(request, exception or ValueError())


def failed(request: HttpRequest) -> HttpResponse:
    if request.path.startswith(API_PATHS):
        return problem(request, status=500, title="Server error", detail="The server failed; the failure is logged.")
    return server_error(request)


def _page(request: HttpRequest, status: int) -> HttpResponse | None:
    """The error page with the user's navigation; None if the user is not known."""
    if not hasattr(request, "user"):
        return None
    try:
        return render(request, f"{status}.html", admin.site.each_context(request), status=status)
    except Error:
        return None
