"""Liveness checks nothing but this process; readiness checks the database, the broker and a worker."""

from collections.abc import Callable

import redis
from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from scoring import gateway
from scoring.exceptions import RequestRefused


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "alive"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if all checks pass, else 503. The body has "ok" or the error for each check."""
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
    timeouts = {"socket_connect_timeout": timeout_s, "socket_timeout": timeout_s}
    try:
        with redis.Redis.from_url(settings.REDIS_URL, retry=None, **timeouts) as client:
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
