"""Clients and their API keys in the admin."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from scoring.clients import keys
from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey, Client
from scoring.pages.read_only import ReadOnlyAdmin


@admin.register(Client)
class ClientAdmin(admin.ModelAdmin):
    list_display = ["name", "is_active", "created_at"]
    actions = ["create_key"]

    def has_delete_permission(self, request: HttpRequest, obj: Client | None = None) -> bool:
        return False

    def has_key_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.add_apikey")

    @admin.action(description="Create an API key", permissions=["key"])
    def create_key(self, request: HttpRequest, queryset: QuerySet[Client]) -> HttpResponse | None:
        if len(queryset) != 1:
            messages.error(request, "Choose one client.")
            return None
        try:
            row, key = keys.create(client=queryset[0])
        except TooManyKeys as refusal:
            messages.error(request, str(refusal))
            return None
        self.log_change(request, queryset[0], f"Created API key {row}.")
        context = self.admin_site.each_context(request) | {"title": "A new API key", "client": queryset[0], "key": key}
        return TemplateResponse(
            request, "admin/scoring/client/key.html", context, headers={"Cache-Control": "no-store"}
        )


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ["prefix", "client", "created_at", "revoked_at"]
    list_filter = ["client"]
    list_select_related = ["client"]
    actions = ["revoke"]

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.change_apikey")

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            if keys.revoke(key=key):
                self.log_change(request, key, "Revoked.")
        messages.success(request, "Revoked. The keys stop working within a second.")
