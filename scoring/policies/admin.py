"""Policies in the admin: the live one, drafts and their form, and backtests."""

from datetime import timedelta
from typing import Any

import msgspec
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scoring.models import Backtest, PolicyVersion
from scoring.pages.display import amount_of
from scoring.pages.personal import may_see_personal
from scoring.pages.read_only import ReadOnlyAdmin
from scoring.policies import backtests, checking, rule_pages, version_pages, versions, what_if_pages
from scoring.policies.backtest_admin import BACKTEST_DAYS, page_of
from scoring.policies.differences import differences
from scoring.policies.expressions import Expression
from scoring.policies.forms import PolicyForms
from scoring.policies.matches import latest_matches
from scoring.policies.names import HAS, names_of
from scoring.policies.version_pages import content_of
from training import registry
from training.core import figures
from training.core.exceptions import FraudsiteError
from training.core.schema import Schema, schema_names

State = PolicyVersion.State
MATCHES_SHOWN = 100


@admin.register(PolicyVersion)
class PolicyVersionAdmin(ReadOnlyAdmin):
    """The policies. A draft is edited on its page; the others are shown."""

    list_display = ["__str__", "state_badge", "rules", "live", "by", "why"]
    list_filter = ["schema", "state"]
    change_list_template = "admin/scoring/policyversion/change_list.html"

    class Media:
        css = {"all": ["scoring/admin.css", "scoring/policy.css"]}
        js = ["scoring/policy.js", "scoring/what_if.js"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("changes")

    @admin.display(description="State", ordering="state")
    def state_badge(self, version: PolicyVersion) -> SafeString:
        return format_html('<span class="policy-state {}">{}</span>', version.state, version.get_state_display())

    @admin.display(description="Active rules")
    def rules(self, version: PolicyVersion) -> str:
        return str(sum(rule.get("state") == "active" for rule in version.document.get("rules", [])))

    @admin.display(description="Live since", ordering="live_at")
    def live(self, version: PolicyVersion) -> str:
        return figures.at(version.live_at) if version.live_at else "-"

    @admin.display(description="Last change by")
    def by(self, version: PolicyVersion) -> str:
        return next((change.by for change in version.changes.all()), "-")

    @admin.display(description="Reason")
    def why(self, version: PolicyVersion) -> str:
        return next((change.reason for change in version.changes.all() if change.reason), "-")

    def may_edit(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.add_policyversion")

    def may_activate(self, request: HttpRequest) -> bool:
        return request.user.has_perm("scoring.activate_policyversion")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        live = {version.schema: version for version in PolicyVersion.objects.filter(state=State.LIVE)}
        context = {
            "title": "Policies",
            "may_edit": self.may_edit(request),
            "live_policies": [(name, live.get(name)) for name in schema_names()],
        }
        return super().changelist_view(request, context | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        admin_view = self.admin_site.admin_view
        return [
            path("draft/<slug:schema>/", admin_view(self.draft_view), name="scoring_policyversion_draft"),
            path("what-if/<slug:schema>/", admin_view(self.what_if_view), name="scoring_policyversion_what_if"),
            path("<int:pk>/check.json", admin_view(self.check_view), name="scoring_policyversion_check"),
            path("<int:pk>/matches/", admin_view(self.matches_view), name="scoring_policyversion_matches"),
            path("rule/<slug:schema>/<slug:name>/", admin_view(self.rule_view), name="scoring_policyversion_rule"),
            *super().get_urls(),
        ]

    def rule_view(self, request: HttpRequest, schema: str, name: str) -> HttpResponse:
        """One rule across the versions of a policy."""
        if not self.has_view_permission(request) or schema not in schema_names():
            raise PermissionDenied
        live = versions.live(schema)
        context = self.admin_site.each_context(request) | {
            "title": f"Rule {name} of {schema}",
            "name": name,
            "live": live,
            "rule": rule_pages.rule_in(content_of(live)[0], name),
            "changes": rule_pages.changes_of(schema, name),
            "days": rule_pages.days_of(schema, name),
            "kept_days": settings.COUNTS_RETENTION_DAYS,
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/scoring/policyversion/rule.html", context)

    def draft_view(self, request: HttpRequest, schema: str) -> HttpResponse:
        """Start a draft from the live policy."""
        if not self.may_edit(request) or request.method != "POST":
            raise PermissionDenied
        try:
            version = versions.draft(schema=schema, by=request.user.get_username())
        except FraudsiteError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:scoring_policyversion_changelist"))
        return HttpResponseRedirect(_page_of(version))

    def what_if_view(self, request: HttpRequest, schema: str) -> HttpResponse:
        """What other thresholds would do."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {"opts": self.opts, "media": self.media}
        return what_if_pages.respond(request, self.admin_site, schema, context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        version = self.get_object(request, object_id)
        if version is None:
            return super().change_view(request, object_id, form_url, extra_context)
        if not self.has_view_permission(request, version):
            raise PermissionDenied
        if request.method == "POST":
            return self._act(request, version)
        return self._page(request, version)

    def _page(
        self,
        request: HttpRequest,
        version: PolicyVersion,
        forms: PolicyForms | None = None,
        **context: Any,
    ) -> HttpResponse:
        shown = version_pages.shown(version)
        editable = version.state == State.DRAFT and self.may_edit(request) and not shown["broken"]
        rest: list[str] = []
        if editable and forms is None:
            forms = PolicyForms(shown["content"])
            rest = forms.show(versions.faults(version))
        context = shown | {
            "title": str(version),
            "forms": forms,
            "rest": rest,
            "may_edit": self.may_edit(request),
            "may_activate": self.may_activate(request),
            "approval": settings.POLICY_APPROVAL_REQUIRED,
            "days": BACKTEST_DAYS,
            "opts": self.opts,
            "media": self.media,
            **context,
        }
        context = self.admin_site.each_context(request) | context
        return TemplateResponse(request, "admin/scoring/policyversion/policy.html", context)

    def _act(self, request: HttpRequest, version: PolicyVersion) -> HttpResponse:
        action, by = request.POST.get("act", ""), request.user.get_username()
        reason = request.POST.get("reason", "").strip()[:1000]
        allowed = self.may_activate if action in ("activate", "rollback", "send_back") else self.may_edit
        if not allowed(request):
            raise PermissionDenied
        if action in ("save", "propose", "activate", "backtest") and "rules-TOTAL_FORMS" in request.POST:
            if refused := self._save(request, version, reason):
                return refused
            if action == "save":
                return HttpResponseRedirect(_page_of(version))
        try:
            match action:
                case "propose":
                    versions.propose(version, by=by, reason=reason)
                    messages.success(request, f"{version} waits for approval.")
                case "activate":
                    versions.activate(version, by=by, reason=reason)
                    messages.success(request, f"{version} decides from now on.")
                case "send_back":
                    versions.send_back(version, by=by, reason=reason)
                case "discard":
                    versions.discard(version, by=by, reason=reason)
                    messages.success(request, f"{version} is discarded.")
                case "rollback":
                    earlier = versions.roll_back(schema=version.schema, by=by, reason=reason)
                    messages.success(request, f"{earlier or 'The model alone'} decides again.")
                    return HttpResponseRedirect(_page_of(earlier or version))
                case "backtest":
                    return HttpResponseRedirect(page_of(_backtest(version, by)))
                case _:
                    messages.error(request, "The page did not say what to do. Load it again.")
        except versions.PolicyFaults as error:
            messages.error(request, f"It has {len(error.faults)} faults, which are shown at their places.")
        except FraudsiteError as error:
            messages.error(request, str(error))
        return HttpResponseRedirect(_page_of(version))

    def _save(self, request: HttpRequest, version: PolicyVersion, reason: str) -> HttpResponse | None:
        """Save the form. Returns the page with what was written if it cannot be saved."""
        content, _ = content_of(version)
        forms = PolicyForms(content, request.POST)
        if not forms.is_valid():
            messages.error(request, "Nothing was saved: correct the marked fields.")
            return self._page(request, version, forms, revision=request.POST.get("revision"))
        written = forms.document
        try:
            revision = int(request.POST.get("revision", "0"))
            if written != content:
                versions.edit(version, written, revision=revision, by=request.user.get_username(), reason=reason)
            return None
        except (versions.EditedMeanwhile, ValueError):
            version.refresh_from_db()
            saved, _ = content_of(version)
            messages.error(
                request,
                "Somebody else has saved this policy since you opened it, so yours was not saved. Below is what you"
                " wrote. Save again to replace theirs, or load the page again to drop yours.",
            )
            return self._page(request, version, forms, conflict=differences(saved, written))
        except FraudsiteError as error:
            messages.error(request, str(error))
            return self._page(request, version, forms)

    def check_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The faults of an expression that is being written."""
        _, names = self._asked(request, pk)
        found = checking.expression_faults(request.POST.get("expression", ""), names)
        return JsonResponse({"faults": msgspec.to_builtins(found)}, headers={"Cache-Control": "no-store"})

    def matches_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The latest transactions that an expression matches, as a part of the page."""
        version, names = self._asked(request, pk)
        source = request.POST.get("expression", "")
        schema = registry.declaration_in_force(version.schema)
        context: dict[str, Any] = {"faults": checking.expression_faults(source, names)}
        if not context["faults"] and not may_see_personal(request) and _reads_personal(source, schema):
            context["faults"] = [checking.Fault("", "It reads personal values, which you may not see.", 1, 1)]
        if not context["faults"]:
            found = latest_matches(
                schema,
                source,
                content_of(version)[0],
                tried=settings.POLICY_MATCHES_TRIED,
                shown=MATCHES_SHOWN,
            )
            context |= {
                "found": found,
                "rows": [
                    (row, amount_of(version.schema, row.amount), figures.score(row.score)) for row in found.latest
                ],
            }
        return TemplateResponse(request, "admin/scoring/policyversion/matches.html", context)

    def _asked(self, request: HttpRequest, pk: int) -> tuple[PolicyVersion, Any]:
        version = self.get_object(request, str(pk))
        if version is None or request.method != "POST" or not self.has_view_permission(request, version):
            raise PermissionDenied
        return version, names_of(
            registry.declaration_in_force(version.schema),
            content_of(version)[0],
            versions.list_names(version.schema),
        )


def _reads_personal(source: str, schema: Schema) -> bool:
    return any(name.removeprefix(HAS) in schema.personal_names for name in Expression(source).names)


def _page_of(version: PolicyVersion) -> str:
    return reverse("admin:scoring_policyversion_change", args=[version.pk])


def _backtest(version: PolicyVersion, by: str) -> Backtest:
    until = timezone.now()
    since = until - timedelta(days=BACKTEST_DAYS)
    return backtests.start(
        schema=version.schema, content=versions.content(version), since=since, until=until, by=by, version=version
    )
