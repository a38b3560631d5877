"""Every error of the API is `application/problem+json` (RFC 9457)."""

import logging
from http import HTTPStatus
from typing import Any, TypedDict

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import (
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.db import Error, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.defaults import bad_request, page_not_found, permission_denied, server_error
from rest_framework.exceptions import APIException, NotAcceptable, NotAuthenticated

from scoring.api import catalogue, refusals
from scoring.exceptions import DatabaseUnavailable, RequestRefused, StorageUnavailable
from training.core.card_numbers import holds_card_number
from training.core.exceptions import StoreUnavailable

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
API_PATHS = ("/api/", "/predict")
# REST framework says what is wrong, and not what to do.
REMEDIES: dict[type[APIException], str] = {
    NotAuthenticated: "There is no API key. Send it as `Authorization: Bearer <key>`.",
    NotAcceptable: "There is no such answer. Send `Accept: application/json`, or leave it out.",
}


class Problem(TypedDict):
    """One problem document. `type` is the address of the page of its kind, of `scoring.api.catalogue`, made from its
    title; `instance` is the path of the request, empty if that holds a card number."""

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
        type=catalogue.PAGES + catalogue.name_of(title),
        title=title,
        status=status,
        detail=detail,
        instance="" if holds_card_number(request.path) else request.path,
        request_id=request.request_id,  # type: ignore[attr-defined]
        errors=errors or [],
    )


def document_of(request: HttpRequest, refusal: RequestRefused) -> Problem:
    instance = "" if holds_card_number(request.path) else request.path
    return told(refusal, instance=instance, request_id=request.request_id)  # type: ignore[attr-defined]


def told(refusal: RequestRefused, *, instance: str, request_id: str) -> Problem:
    """The document of a refusal of what did not come by HTTP, or of a part of a call. `instance` says which."""
    return Problem(
        type=catalogue.PAGES + catalogue.name_of(refusal.title),
        title=refusal.title,
        status=refusal.status,
        detail=str(refusal),
        instance=instance,
        request_id=request_id,
        errors=[error.told() for error in refusal.errors],
    )


def problem(request: HttpRequest, *, status: int, title: str, detail: str) -> JsonResponse:
    refusals.count(status, title, client=_client_of(request))
    body = document(request, status=status, title=title, detail=detail)
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE)


def problem_response(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """DRF's exception handler. Returns None for unexpected exceptions, which become a logged 500."""
    request = context["request"]._request
    if isinstance(exc, InterfaceError | OperationalError):
        logger.error("The database failed.", exc_info=exc)
        exc = DatabaseUnavailable()
    if isinstance(exc, StoreUnavailable):
        logger.error("The store failed.", exc_info=exc)
        exc = StorageUnavailable()
    if isinstance(exc, RequestRefused):
        refusals.count(exc.status, exc.title, client=_client_of(request))
        response = JsonResponse(document_of(request, exc), status=exc.status, content_type=CONTENT_TYPE)
        if exc.retry_after:
            response["Retry-After"] = str(exc.retry_after_s or settings.RETRY_AFTER_S)
        return response
    if isinstance(exc, Http404):
        return not_found(request)
    if isinstance(exc, PermissionDenied):
        return problem(request, status=403, title="Forbidden", detail="This key may not do that.")
    if isinstance(exc, APIException):
        title = HTTPStatus(exc.status_code).phrase.capitalize()
        detail = REMEDIES.get(type(exc), str(exc.detail))
        response = problem(request, status=exc.status_code, title=title, detail=detail)
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
        too_much = isinstance(exception, TooManyFieldsSent | TooManyFilesSent | RequestDataTooBig)
        detail = (
            "The request has more parameters or parts than any call takes."
            if too_much
            else "The request makes no sense."
        )
        return problem(request, status=400, title="Bad request", detail=detail)
    return bad_request(request, exception or ValueError())


def failed(request: HttpRequest) -> HttpResponse:
    if request.path.startswith(API_PATHS):
        return problem(request, status=500, title="Server error", detail="The server failed; the failure is logged.")
    return server_error(request)


def _client_of(request: HttpRequest) -> int | None:
    """The key of the client whose key the call came with, as REST framework notes it at the request."""
    return getattr(getattr(request, "auth", None), "client_id", None)


def _page(request: HttpRequest, status: int) -> HttpResponse | None:
    """The error page with the user's navigation; None if the user is not known."""
    if not hasattr(request, "user"):
        return None
    try:
        return render(request, f"{status}.html", admin.site.each_context(request), status=status)
    except Error:
        return None
