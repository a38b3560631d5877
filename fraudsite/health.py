"""Liveness checks nothing but this process; readiness checks the database, the broker and a worker. Neither answers 200
for a process that is about to end: see `fraudsite.draining`."""

from collections.abc import Callable
from typing import Any

import redis
from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from fraudsite import draining
from scoring import gateway
from scoring.exceptions import RequestRefused
from scoring.messages import connections


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    if draining.begun:
        return JsonResponse({"status": "ending"}, status=503)
    return JsonResponse({"status": "alive"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if all checks pass, else 503. The body has "ok" or the error for each check."""
    if draining.begun:
        return JsonResponse({"status": "ending"}, status=503)
    results = {name: check() for name, check in CHECKS.items()}
    ready = all(result == "ok" for result in results.values())
    return JsonResponse({"status": "ready" if ready else "not ready", "checks": results}, status=200 if ready else 503)


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return "The database does not answer."
    return "ok"


def _broker() -> str:
    timeout_s = settings.READY_TIMEOUT_MS / 1000
    timeouts: dict[str, Any] = {"socket_connect_timeout": timeout_s, "socket_timeout": timeout_s}
    try:
        with connections.connect(retry=None, **timeouts) as client:
            client.ping()
    except redis.RedisError:
        return "Redis does not answer."
    return "ok"


def _worker() -> str:
    try:
        gateway.realtime().ping(timeout_ms=settings.READY_TIMEOUT_MS)
    except RequestRefused as refusal:
        return str(refusal)
    return "ok"


CHECKS: dict[str, Callable[[], str]] = {"database": _database, "broker": _broker, "worker": _worker}
