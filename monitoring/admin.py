from django.contrib import admin

from monitoring.alerts import alert_admin, route_admin, rule_admin  # noqa: F401  # registered by their import
from monitoring.models import DriftReport
from monitoring.schemas import admin as schemas_admin  # noqa: F401  # registered by its import
from scoring.pages.read_only import ReadOnlyAdmin
from training.core.figures import psi


@admin.register(DriftReport)
class DriftReportAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "model_version", "status", "samples", "psi_of_score"]
    list_filter = ["status", "model_version"]
    date_hierarchy = "created_at"
    fields = [
        "model_version",
        "status",
        "window_start",
        "window_end",
        "samples",
        "psi_of_score",
        "psi_by_feature",
        "created_at",
    ]

    @admin.display(description="PSI of the score", ordering="score")
    def psi_of_score(self, report: DriftReport) -> str:
        return psi(report.score)

    @admin.display(description="PSI by feature")
    def psi_by_feature(self, report: DriftReport) -> str:
        ranked = sorted(report.features.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {psi(value)}" for name, value in ranked)
