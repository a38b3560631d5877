"""The saved views above the list of reviews."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse

from scoring.reviews import saved_views
from scoring.reviews.saved_views import ViewRefused


class SavedViewsAdmin(admin.ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        view = path("views/", self.admin_site.admin_view(self.saved_view), name="scoring_review_views")
        return [view, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        user: Any = request.user
        context = {"views": saved_views.rows_for(user, request.GET.urlencode())}
        return super().changelist_view(request, context | (extra_context or {}))

    def saved_view(self, request: HttpRequest) -> HttpResponse:
        """Save the present view, or change or delete one; then back to the list."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        query, act = request.POST.get("query", ""), request.POST.get("act", "")
        try:
            query = self._perform(request, act) or query
        except ViewRefused as refusal:
            messages.error(request, str(refusal))
        address = reverse("admin:scoring_review_changelist")
        return HttpResponseRedirect(f"{address}?{query}" if query else address)

    def _perform(self, request: HttpRequest, act: str) -> str:
        """Returns the query of the view that was saved or changed; empty for another act."""
        user: Any = request.user
        given: dict[str, Any] = {"name": request.POST.get("name", ""), "is_shared": "is_shared" in request.POST}
        if act == "save":
            view = saved_views.save(owner=user, query=request.POST.get("query", ""), **given)
            messages.success(request, f"The view {view} is saved.")
            return view.query
        key = request.POST.get("view", "")
        number = int(key[:18]) if key.isascii() and key.isdecimal() else 0
        view = get_object_or_404(saved_views.changeable_by(user), pk=number)
        if act == "delete":
            view.delete()
            messages.success(request, f"The view {view} is deleted.")
            return ""
        if act == "change":
            return saved_views.change(view, **given).query
        return ""
