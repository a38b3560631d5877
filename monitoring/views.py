import secrets

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from monitoring.access import is_staff
from monitoring.dashboard import NAME
from monitoring.metrics import exposition


@admin.site.admin_view
def dashboard(request: HttpRequest) -> HttpResponse:
    context = admin.site.each_context(request) | {"title": "Dashboard", "dash_app": NAME}
    return TemplateResponse(request, "admin/monitoring/dashboard.html", context)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus's text, for who shows `METRICS_TOKEN`, and for staff."""
    if not (_shows_token(request) or is_staff(request)):
        refusal = "Show METRICS_TOKEN as a bearer token, or log in as staff.\n"
        return HttpResponse(
            refusal, status=401, content_type="text/plain; charset=utf-8", headers={"WWW-Authenticate": "Bearer"}
        )
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


def _shows_token(request: HttpRequest) -> bool:
    expected = f"Bearer {settings.METRICS_TOKEN}".encode()
    shown = request.META.get("HTTP_AUTHORIZATION", "").encode(errors="replace")
    return bool(settings.METRICS_TOKEN) and secrets.compare_digest(shown, expected)
