from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest


class ReadOnlyAdmin(admin.ModelAdmin):
    """The admin of rows that are a record and cannot be edited."""

    list_per_page = 50
    # Counting all rows beside the filtered ones would scan the whole table for each page.
    show_full_result_count = False

    class Media:
        css = {"all": ["scoring/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
