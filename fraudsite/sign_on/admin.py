"""Which person at the provider an account belongs to, for administrators: to link an account by hand, or to another."""

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest

from fraudsite.sign_on.models import Identity
from training.core.figures import at


@admin.register(Identity)
class IdentityAdmin(admin.ModelAdmin):
    list_display = ["user", "subject", "issuer", "linked", "last_sign_in"]
    list_select_related = ["user"]
    list_per_page = 50
    ordering = ["user__username"]
    search_fields = ["user__username", "subject"]
    search_help_text = "A part of the account's name or of the subject."
    fields = ["user", "issuer", "subject", "linked", "last_sign_in"]
    readonly_fields = ["linked", "last_sign_in"]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, str | list[str]]:
        return {"issuer": settings.SSO_ISSUER.rstrip("/")}

    @admin.display(description="Linked", ordering="created_at")
    def linked(self, identity: Identity) -> str:
        return at(identity.created_at) if identity.created_at else "-"

    @admin.display(description="Last sign-in", ordering="signed_in_at")
    def last_sign_in(self, identity: Identity) -> str:
        return at(identity.signed_in_at) if identity.signed_in_at else "-"
