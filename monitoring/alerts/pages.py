"""The page of the runbook in the admin."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_safe

from monitoring.alerts import runbooks
from monitoring.alerts.measures import all_of_them


@admin.site.admin_view
@require_safe
def runbook(request: HttpRequest) -> HttpResponse:
    """What to do for each alert: docs/runbooks.md."""
    sections = [(name, measure.title, runbooks.section(name)) for name, measure in all_of_them().items()]
    context = admin.site.each_context(request) | {"title": "What to do when an alert fires", "sections": sections}
    return TemplateResponse(request, "admin/monitoring/runbooks.html", context)
