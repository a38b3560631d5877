"""Filters that several lists of the admin share."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from training.core.schema import schema_names


class SchemaFilter(admin.SimpleListFilter):
    """Offers the declared schemas. Django's own filter would read the whole table to find those of the rows."""

    title = parameter_name = "schema"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [(name, name) for name in schema_names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(schema=self.value()) if self.value() else queryset
