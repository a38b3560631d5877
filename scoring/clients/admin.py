"""Clients in the admin."""

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from scoring.clients import key_admin  # noqa: F401  # registered by its import
from scoring.models import Client
from scoring.retention import periods


class ClientForm(forms.ModelForm):
    def clean_keep_transactions_days(self) -> int | None:
        days: int | None = self.cleaned_data["keep_transactions_days"]
        periods.check(days)
        return days


@admin.register(Client)
class ClientAdmin(admin.ModelAdmin):
    form = ClientForm
    list_display = ["name", "is_active", "histories", "created_at"]
    actions = ["create_key"]

    @admin.display(description="Cards and other entities", ordering="own_histories")
    def histories(self, row: Client) -> str:
        together = Client.objects.filter(own_histories=False).exclude(pk=row.pk)
        if row.own_histories or not together.exists():
            return "its own"
        return f"shared with {', '.join(map(str, together))}: see Upgrades in the documentation for operators"

    def has_delete_permission(self, request: HttpRequest, obj: Client | None = None) -> bool:
        return False

    def has_key_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.add_apikey")

    @admin.action(description="Create an API key", permissions=["key"])
    def create_key(self, request: HttpRequest, queryset: QuerySet[Client]) -> HttpResponse | None:
        if len(queryset) != 1:
            messages.error(request, "Choose one client.")
            return None
        return HttpResponseRedirect(reverse("admin:scoring_apikey_add", query={"client": queryset[0].pk}))
