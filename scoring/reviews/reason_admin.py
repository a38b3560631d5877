"""The list of reasons in the admin."""

from django.contrib import admin
from django.http import HttpRequest

from scoring.reviews.reasons import ReviewReason


@admin.register(ReviewReason)
class ReviewReasonAdmin(admin.ModelAdmin):
    list_display = ["meaning", "code", "is_fraud", "needs_note", "is_active", "position"]
    list_filter = ["is_fraud", "is_active"]

    def get_readonly_fields(self, request: HttpRequest, obj: ReviewReason | None = None) -> list[str]:
        return ["code"] if obj else []  # labels keep it
