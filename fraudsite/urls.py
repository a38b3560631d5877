from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from fraudsite.health import healthz, readyz
from fraudsite.sign_on.views import begin_page, callback_page
from fraudsite.two_factor import two_factor_page
from scoring.urls import handler400, handler403, handler404, handler500  # noqa: F401  # Django looks for them here

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("", include("scoring.urls")),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("", include("monitoring.urls")),
    path("admin/two-factor/", admin.site.admin_view(two_factor_page), name="two_factor"),
    path("admin/sign-on/", begin_page, name="sign_on"),
    path("admin/sign-on/callback/", callback_page, name="sign_on_callback"),
    path("admin/", admin.site.urls),
]
