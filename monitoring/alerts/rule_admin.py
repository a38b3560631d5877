"""Rules of alerts in the admin, with a preview: how often a rule would have fired in the last fortnight."""

from math import isfinite
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from monitoring.alerts import clock, plots, runbooks
from monitoring.alerts.alert_admin import severity_badge
from monitoring.alerts.conditions import Direction
from monitoring.alerts.measures import all_of_them
from monitoring.alerts.measures.base import Measure
from monitoring.alerts.models import AlertRule
from monitoring.alerts.preview import DAYS, preview
from scoring.models import Client
from training.core.schema import schema_names

SHOWN = 6
LONGEST_MIN = 7 * 24 * 60


class RuleForm(forms.ModelForm):
    measure = forms.ChoiceField(help_text="What is watched.")
    schema = forms.ChoiceField(required=False, help_text="Of measures by schema. All: each by itself.")

    class Meta:
        model = AlertRule
        fields = (
            *("name", "measure", "severity", "is_on", "schema", "client", "fires_at", "clears_at", "lasts_min"),
            *("calm_min", "min_samples", "least_ratio", "no_data"),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields: Any = self.fields
        kept = {self.instance.schema} - {""}
        # People who may only look get a form without fields that they could change.
        if "measure" in fields:
            fields["measure"].choices = [(name, measure.title) for name, measure in all_of_them().items()]
        if "schema" in fields:
            fields["schema"].choices = [("", "all"), *((name, name) for name in sorted({*schema_names(), *kept}))]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        measure = all_of_them().get(cleaned.get("measure", ""))
        if measure is None:
            return cleaned
        for field in ("fires_at", "clears_at", "least_ratio"):
            if field in cleaned and not isfinite(cleaned[field]):
                self.add_error(field, "Enter a number.")
        if "fires_at" in cleaned and "clears_at" in cleaned:
            above = measure.direction is Direction.ABOVE
            fires, clears = cleaned["fires_at"], cleaned["clears_at"]
            if (clears > fires) if above else (clears < fires):
                word = "above" if above else "below"
                self.add_error("clears_at", f"It must not be {word} the level at which the alert fires.")
        for field in ("lasts_min", "calm_min"):
            if (cleaned.get(field) or 0) > LONGEST_MIN:
                self.add_error(field, "At most a week.")
        if cleaned.get("least_ratio", 1.0) < 1.0:
            self.add_error("least_ratio", "At least 1.")
        if cleaned.get("schema") and not measure.is_by_schema:
            self.add_error("schema", "This measure is of all schemas together.")
        if cleaned.get("client") and not measure.is_by_client:
            self.add_error("client", "This measure is of all clients together.")
        return cleaned


@admin.register(AlertRule)
class RuleAdmin(admin.ModelAdmin):
    form = RuleForm
    list_display = ["name", "severity_badge", "what", "level", "scope", "lasts", "is_on"]
    list_filter = ["severity", "is_on"]
    list_select_related = ["client"]
    list_per_page = 100
    ordering = ["measure", "name"]
    change_form_template = "admin/monitoring/alertrule_form.html"

    class Media:
        css = {"all": ["scoring/admin.css", "monitoring/alerts.css"]}

    def has_delete_permission(self, request: HttpRequest, obj: AlertRule | None = None) -> bool:
        """Rules that every installation has come back with the next `migrate`, so they are turned off instead."""
        return not (obj and obj.key) and super().has_delete_permission(request, obj)

    @admin.display(description="Severity", ordering="severity")
    def severity_badge(self, rule: AlertRule) -> SafeString:
        return severity_badge(rule.severity, rule.get_severity_display())

    @admin.display(description="Watches", ordering="measure")
    def what(self, rule: AlertRule) -> str:
        measure = all_of_them().get(rule.measure)
        return measure.title if measure else rule.measure

    @admin.display(description="Fires at")
    def level(self, rule: AlertRule) -> str:
        measure = all_of_them().get(rule.measure)
        return measure.level(rule.fires_at) if measure else f"{rule.fires_at:g}"

    @admin.display(description="Of")
    def scope(self, rule: AlertRule) -> str:
        return ", ".join(str(each) for each in (rule.schema, rule.client) if each) or "all"

    @admin.display(description="For", ordering="lasts_min")
    def lasts(self, rule: AlertRule) -> str:
        return f"{rule.lasts_min} min" if rule.lasts_min else "at once"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.preview_view)
        return [path("preview/", view, name="monitoring_alertrule_preview"), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        rule: AlertRule | None = kwargs.get("obj")
        context["measures"] = all_of_them().values()
        if rule and rule.measure in all_of_them():
            context |= previewed(rule)
        return super().render_change_form(request, context, *args, **kwargs)

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """The preview of a rule as its form has it now, which is not saved."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseRedirect(reverse("admin:monitoring_alertrule_changelist"))
        key = request.POST.get("rule", "")
        rule = AlertRule.objects.filter(pk=int(key)).first() if key.isascii() and key.isdecimal() and key else None
        form = RuleForm(request.POST, instance=rule)
        back = reverse("admin:monitoring_alertrule_change", args=[rule.pk]) if rule else ""
        if not form.is_valid():
            told = "; ".join(f"{field}: {' '.join(map(str, faults))}" for field, faults in form.errors.items())
            messages.error(request, f"There is no preview of this: {told}")
            return HttpResponseRedirect(back or reverse("admin:monitoring_alertrule_add"))
        changed = form.save(commit=False)
        context = self.admin_site.each_context(request) | previewed(changed)
        context |= {
            "title": f"Preview of {changed.name}",
            "opts": self.opts,
            "media": self.media,
            "form": form,
            "rule": rule,
            "action": back or reverse("admin:monitoring_alertrule_add"),
        }
        return TemplateResponse(request, "admin/monitoring/alertrule_preview.html", context)


def previewed(rule: AlertRule) -> dict[str, Any]:
    """What a page shows of a rule's preview."""
    seen = preview(rule, now=clock.now())
    measure: Measure = seen.measure
    drawn = [plots.plot_of(seen, past, _titled(past.subject, measure)) for past in seen.pasts[:SHOWN]]
    return {
        "measure": measure,
        "level": measure.level(rule.fires_at),
        "fired": plots.would_have_fired(seen.fired),
        "begins": min((past.begins for past in seen.pasts if past.begins), default=None),
        "days": DAYS,
        "subjects": len(seen.pasts),
        "plots": drawn,
        "more": max(0, len(seen.pasts) - SHOWN),
        "runbook": runbooks.section(rule.measure),
    }


def _titled(subject: Any, measure: Measure) -> str:
    client = Client.objects.filter(pk=subject.client).values_list("name", flat=True).first() if subject.client else ""
    return ", ".join(part for part in (subject.schema, client or "", subject.part) if part) or measure.title
