"""Rates of exchange in the admin. Rows are never changed: a correction is a new one."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import DecimalField, Exists, OuterRef, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from training.core.figures import at
from training.models import ExchangeRate


class RateField(forms.DecimalField):
    """Shows a rate without the zeros after its last digit."""

    def prepare_value(self, value: Any) -> Any:
        return f"{value.normalize():f}" if isinstance(value, Decimal) else value


@admin.register(ExchangeRate)
class ExchangeRateAdmin(admin.ModelAdmin):
    list_display = ["currency", "quoted", "begins", "counts", "origin", "added"]
    list_filter = ["base", "currency", "valid_from"]
    ordering = ["-valid_from", "currency", "-pk"]
    date_hierarchy = "valid_from"
    list_per_page = 50
    formfield_overrides = {DecimalField: {"form_class": RateField}}
    fields = ["base", "currency", "rate", "valid_from"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ExchangeRate]:
        same = ("base", "currency", "valid_from")
        later = ExchangeRate.objects.filter(**{name: OuterRef(name) for name in same}, pk__gt=OuterRef("pk"))
        return super().get_queryset(request).annotate(is_replaced=Exists(later))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not getattr(obj, "is_replaced", False)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["base", "currency", "valid_from"] if obj else []

    def save_model(self, request: HttpRequest, obj: ExchangeRate, form: ModelForm, change: bool) -> None:
        if change and not form.has_changed():
            return
        obj.pk = None  # a correction is another row
        obj._state.adding = True
        obj.source, obj.by = "admin", request.user.get_username()
        super().save_model(request, obj, form, change=False)

    @admin.display(description="Rate", ordering="rate")
    def quoted(self, rate: ExchangeRate) -> str:
        return f"1 {rate.base} = {rate.rate.normalize():f} {rate.currency}"

    @admin.display(description="Valid from", ordering="valid_from")
    def begins(self, rate: ExchangeRate) -> str:
        return at(rate.valid_from)

    @admin.display(description="Counts", boolean=True)
    def counts(self, rate: ExchangeRate) -> bool:
        return not rate.is_replaced  # type: ignore[attr-defined]  # annotated above

    @admin.display(description="From")
    def origin(self, rate: ExchangeRate) -> str:
        return f"{rate.source}, by {rate.by}"

    @admin.display(description="Added", ordering="created_at")
    def added(self, rate: ExchangeRate) -> str:
        return at(rate.created_at)
