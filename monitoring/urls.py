from django.urls import include, path

from monitoring.views import dashboard, metrics

urlpatterns = [
    path("metrics", metrics, name="metrics"),
    path("admin/dashboard/", dashboard, name="dashboard"),
    path("admin/dashboard/dash/", include("django_plotly_dash.urls")),
]
