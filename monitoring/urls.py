from django.urls import include, path

from monitoring.views import at_work, dashboard, metrics

urlpatterns = [
    path("metrics", metrics, name="metrics"),
    path("admin/training/modelversion/<str:version>/at-work/", at_work, name="at_work"),
    path("admin/dashboard/", dashboard, name="dashboard"),
    path("admin/dashboard/dash/", include("django_plotly_dash.urls")),
]
