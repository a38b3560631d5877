from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from fraudsite.health import healthz, readyz

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("", include("scoring.urls")),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("", include("monitoring.urls")),
    path("admin/", admin.site.urls),
]

handler404 = "scoring.problems.not_found"
handler500 = "scoring.problems.failed"
