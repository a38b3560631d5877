from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from monitoring.dashboard import NAME


@admin.site.admin_view
def dashboard(request: HttpRequest) -> HttpResponse:
    context = admin.site.each_context(request) | {"title": "Dashboard", "dash_app": NAME}
    return TemplateResponse(request, "admin/monitoring/dashboard.html", context)
