from django.urls import include, path
from django.views.generic import RedirectView

from monitoring.alerts.pages import runbook
from monitoring.dashboards import pages
from monitoring.views import at_work, metrics

urlpatterns = [
    path("metrics", metrics, name="metrics"),
    path("admin/training/modelversion/<str:version>/at-work/", at_work, name="at_work"),
    path("admin/runbooks/", runbook, name="runbooks"),
    # Where pages were that are dashboards now.
    path("admin/outcomes/", pages.old_outcomes),
    path("admin/drift/", RedirectView.as_view(pattern_name="dashboard_drift", query_string=True)),
    path("admin/dashboard/dash/", include("django_plotly_dash.urls")),
    *pages.urls(),
]
