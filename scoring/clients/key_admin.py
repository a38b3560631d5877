"""API keys in the admin."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, Model, QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scoring.clients import keys
from scoring.clients.forms import RIGHTS, ApiKeyForm
from scoring.clients.models import LIMITS, all_scopes
from scoring.exceptions import TooManyKeys
from scoring.models import ApiKey
from scoring.pages.display import span
from scoring.tenancy import restriction
from training.core.figures import at

KNOWN = ("prefix", "created_at", "last_used_at", "revoked_at")


class StateFilter(admin.SimpleListFilter):
    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("active", "Active"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        match self.value():
            case "active":
                return queryset.filter(ApiKey.live(timezone.now()))
            case "expired":
                return queryset.filter(revoked_at=None, expires_at__lte=timezone.now())
            case "revoked":
                return queryset.exclude(revoked_at=None)
        return queryset


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    """Keys are revoked, not deleted. A new one is shown on the page that answers the form, and never again."""

    form = ApiKeyForm
    list_display = ["key", "client", "name", "may", "state", "expires", "last_use", "replace"]
    list_filter = [StateFilter, "client"]
    list_select_related = ["client"]
    list_per_page = 50
    search_fields = ["prefix", "name", "client__name"]
    ordering = [F("revoked_at").desc(nulls_first=True), "-created_at"]
    actions = ["revoke"]
    change_form_template = "admin/scoring/apikey/change_form.html"

    class Media:
        css = {"all": ["scoring/admin.css"]}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        known = [(None, {"fields": [*KNOWN]})] if obj else []
        return [
            *known,
            (None, {"fields": ["client", "name", "is_test"]}),
            ("Rights", {"fields": [*RIGHTS]}),
            ("Limits", {"fields": [*LIMITS]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*KNOWN, "client", "is_test") if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A revoked key stays as it was."""
        return super().has_change_permission(request, obj) and not (obj and obj.revoked_at)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.change_apikey")

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        # What follows the form is the page with the key.
        others = {"show_save_and_add_another": False} | ({"show_save_and_continue": False} if kwargs["add"] else {})
        return super().render_change_form(request, context | others, *args, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"scopes": all_scopes()} | super().get_changeform_initial_data(request)

    def get_urls(self) -> list[URLPattern]:
        rotate = path("<int:pk>/rotate/", self.admin_site.admin_view(self.rotate_view), name="scoring_apikey_rotate")
        return [rotate, *super().get_urls()]

    def add_view(self, request: HttpRequest, *args: Any, **options: Any) -> HttpResponse:
        try:
            return super().add_view(request, *args, **options)
        except TooManyKeys as refusal:  # somebody made one since the form was checked
            messages.error(request, str(refusal))
            return HttpResponseRedirect(reverse("admin:scoring_apikey_changelist"))

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ModelForm, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
        else:
            request.new_key = keys.issue(obj)  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        return self._shown_once(request, obj, request.new_key)  # type: ignore[attr-defined]

    def rotate_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        key = (
            restriction.visible(ApiKey.objects.select_related("client"), request.user)
            .filter(revoked_at=None, pk=pk)
            .first()
        )
        if key is None:
            raise Http404
        successor = key.successor()
        if request.method == "POST":
            try:
                row, new = keys.rotate(key=key)
            except TooManyKeys as refusal:
                messages.error(request, str(refusal))
                return HttpResponseRedirect(reverse("admin:scoring_apikey_changelist", query={"client": key.client_id}))
            self.log_addition(request, row, f"Made to replace {key}.")
            return self._shown_once(request, row, new, replaced=key)
        context = self.admin_site.each_context(request) | {
            "title": f"Rotate {key}",
            "key": key,
            "successor": successor,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/scoring/apikey/rotate.html", context)

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        revoked = [key for key in queryset if keys.revoke(key=key)]
        for key in revoked:
            self.log_change(request, key, "Revoked.")
        if revoked:
            messages.success(request, "Revoked. The keys stop working within a second.")
        else:
            messages.warning(request, "They were revoked before.")

    @admin.display(description="Key", ordering="prefix")
    def key(self, key: ApiKey) -> SafeString:
        return format_html("<code>{}…</code>", key.prefix)

    @admin.display(description="May")
    def may(self, key: ApiKey) -> SafeString:
        """Scopes and, under them, what else bounds the key."""
        if key.is_test:
            return format_html('<span class="bounds">only rehearse outcomes</span>')
        scopes = "everything" if set(key.scopes) == set(all_scopes()) else ", ".join(key.scopes)
        bounds = [*key.schemas, *key.networks[:3], *(["…"] if len(key.networks) > 3 else [])]
        return format_html('{} <span class="bounds">{}</span>', scopes, ", ".join(bounds))

    @admin.display(description="State")
    def state(self, key: ApiKey) -> SafeString:
        word = "revoked" if key.revoked_at else "expired" if key.expired() else "active"
        kind = "approve" if word == "active" else "ended"
        return format_html('<span class="badge {}">{}</span>', kind, word)

    @admin.display(description="Expires", ordering="expires_at")
    def expires(self, key: ApiKey) -> SafeString | str:
        if key.expires_at is None:
            return "never"
        if key.expired() or key.revoked_at:
            return format_html('<span title="{}">{}</span>', at(key.expires_at), f"{key.expires_at:%Y-%m-%d}")
        left = f"in {span(key.expires_at - timezone.now())}"
        late = "late" if key.expires_soon() else ""
        return format_html('<span class="due {}" title="{}">{}</span>', late, at(key.expires_at), left)

    @admin.display(description="Last use", ordering="last_used_at")
    def last_use(self, key: ApiKey) -> SafeString | str:
        if key.last_used_at is None:
            return "never"
        ago = f"{span(timezone.now() - key.last_used_at)} ago"
        return format_html('<span title="{}">{}</span>', at(key.last_used_at), ago)

    @admin.display(description="")
    def replace(self, key: ApiKey) -> SafeString | str:
        if key.revoked_at:
            return ""
        return format_html('<a href="{}">Rotate</a>', reverse("admin:scoring_apikey_rotate", args=[key.pk]))

    def _shown_once(self, request: HttpRequest, row: ApiKey, key: str, replaced: ApiKey | None = None) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": "A new API key",
            "row": row,
            "key": key,
            "replaced": replaced,
            "media": self.media,
        }
        headers = {"Cache-Control": "no-store"}
        return TemplateResponse(request, "admin/scoring/apikey/key.html", context, headers=headers)
