import redis
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from monitoring import shadow_comparison
from monitoring.access import is_staff
from monitoring.metrics import exposition
from scoring.pages.display import amount_of, fraud_badge
from scoring.reviews import second_opinions
from scoring.telemetry import port
from scoring.worker import workers
from training import registry
from training.core.figures import score, threshold
from training.models import ModelVersion


@admin.site.admin_view
@require_safe
def at_work(request: HttpRequest, version: str) -> HttpResponse:
    """A model version at work: the processes that have it loaded, and for a shadow its comparison."""
    if not request.user.has_perm("training.view_modelversion"):
        raise PermissionDenied
    row = get_object_or_404(ModelVersion, pk=version)
    processes, redis_is_away = [], False
    try:
        for status in workers.known():
            loaded, refused = status.versions.get(row.schema), status.refused.get(row.schema)
            if loaded or refused:
                processes.append((status.worker, loaded, refused))
    except redis.RedisError:
        redis_is_away = True
    comparison = shadow_comparison.compare(row)
    context = admin.site.each_context(request) | {
        "title": f"{version} at work",
        "version": row,
        "champion": registry.champion_or_none(row.schema),
        "processes": processes,
        "review_threshold": threshold(row.review_threshold),
        "redis_is_away": redis_is_away,
        "comparison": comparison,
        "share": f"{settings.SHADOW_SHARE:.0%}",
    }
    if comparison:
        hidden = second_opinions.hidden_among(request.user, [each.transaction for each in comparison.apart])  # type: ignore[arg-type]
        rates = ("agreement", "decided_rate", "shadow_rate")
        context["apart"] = [
            (
                each.transaction,
                amount_of(row.schema, each.amount),
                score(each.decided),
                score(each.shadow),
                fraud_badge(None if each.transaction in hidden else each.is_fraud),
            )
            for each in comparison.apart
        ]
        context |= {name: f"{getattr(comparison, name):.2%}" for name in rates}
    return TemplateResponse(request, "admin/monitoring/at_work.html", context)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """The metrics in Prometheus's text format, for requests with `METRICS_TOKEN` and for staff."""
    if not (port.shows_token(request.headers.get("Authorization", "")) or is_staff(request)):
        refusal = "Show METRICS_TOKEN as a bearer token, or log in as staff.\n"
        return HttpResponse(
            refusal, status=401, content_type="text/plain; charset=utf-8", headers={"WWW-Authenticate": "Bearer"}
        )
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)
