from django.contrib import admin

from monitoring.models import DriftReport
from scoring.read_only import ReadOnlyAdmin


@admin.register(DriftReport)
class DriftReportAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "model_version", "status", "samples", "score"]
    list_filter = ["status", "model_version"]
    date_hierarchy = "created_at"
