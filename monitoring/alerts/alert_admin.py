"""Alerts in the admin: those that fire, and the page of one with its plot, its runbook and what can be done."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from monitoring.alerts import acting, clock, plots, runbooks, telling
from monitoring.alerts.measures import all_of_them
from monitoring.alerts.measures.base import Subject
from monitoring.alerts.models import NOTE_LENGTH, Alert, AlertSilence
from monitoring.alerts.preview import preview
from scoring.pages.read_only import ReadOnlyAdmin
from training.core.figures import at

State = Alert.State
# What the plot shows around the moment when an alert fired.
BEFORE, AFTER = timedelta(days=2), timedelta(hours=6)
BEFORE_BY_DAY = timedelta(days=60)
HOURS = (1, 4, 24, 72, 168)


class StateFilter(admin.SimpleListFilter):
    """Without a choice, those that are open."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [*((str(value), str(label)) for value, label in State.choices), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        first, *others = super().choices(changelist)
        yield {**first, "display": "Open"}
        yield from others

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        if self.value() == "all":
            return queryset
        return queryset.filter(state=self.value()) if self.value() else queryset.filter(resolved_at=None)


class ActForm(forms.Form):
    note = forms.CharField(
        max_length=NOTE_LENGTH,
        widget=forms.TextInput(attrs={"size": 60, "placeholder": "For colleagues: what you know, what you do"}),
        error_messages={"required": "Write a note for colleagues."},
    )
    hours = forms.ChoiceField(
        required=False,
        choices=[(hours, f"{hours} h" if hours < 48 else f"{hours // 24} days") for hours in HOURS],
        initial=HOURS[1],
    )


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    list_display = ["severity_badge", "what", "about", "latest", "since", "state_badge", "told"]
    list_display_links = ["what"]
    list_filter = [StateFilter, "severity", "schema", "rule"]
    list_select_related = ["rule", "client"]
    search_fields = ["rule__name", "part", "detail"]

    class Media:
        css = {"all": ["scoring/admin.css", "monitoring/alerts.css"]}

    @admin.display(description="Severity", ordering="severity")
    def severity_badge(self, alert: Alert) -> SafeString:
        return severity_badge(alert.severity, alert.get_severity_display())

    @admin.display(description="Alert", ordering="rule__name")
    def what(self, alert: Alert) -> str:
        return alert.rule.name

    @admin.display(description="Of")
    def about(self, alert: Alert) -> str:
        return alert.of or "everything"

    @admin.display(description="Now")
    def latest(self, alert: Alert) -> str:
        return alert.shown

    @admin.display(description="Fired", ordering="fired_at")
    def since(self, alert: Alert) -> str:
        return at(alert.fired_at)

    @admin.display(description="State", ordering="state")
    def state_badge(self, alert: Alert) -> SafeString:
        return state_badge(alert)

    @admin.display(description="Acknowledged by", ordering="acknowledged_by")
    def told(self, alert: Alert) -> str:
        return alert.acknowledged_by or "–"

    def get_urls(self) -> list[URLPattern]:
        acts = {"acknowledge": self.acknowledge_view, "silence": self.silence_view, "resolve": self.resolve_view}
        own = [
            path(f"<int:key>/{name}/", self.admin_site.admin_view(view), name=f"monitoring_alert_{name}")
            for name, view in acts.items()
        ]
        return [*own, *super().get_urls()]

    def may_act(self, request: HttpRequest) -> bool:
        """Alerts cannot be edited, so the permission to change them is that to act on them."""
        return request.user.has_perm("monitoring.change_alert")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        alert = self.get_object(request, object_id)
        if alert is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined]
        return self._page(request, alert, ActForm())

    def _page(self, request: HttpRequest, alert: Alert, form: ActForm) -> HttpResponse:
        measure = all_of_them().get(alert.rule.measure)
        context = self.admin_site.each_context(request) | {
            "title": str(alert),
            "opts": self.opts,
            "media": self.media,
            "alert": alert,
            "severity": severity_badge(alert.severity, alert.get_severity_display()),
            "state": state_badge(alert),
            "measure": measure,
            "level": measure.level(alert.rule.fires_at) if measure else "",
            "page": measure.page(Subject.of(alert.subject)) if measure else "",
            "plot": _plot(alert),
            "events": list(alert.events.all()),
            "notices": list(alert.events.filter(notices__isnull=False).values_list(*_NOTICE).order_by("notices__pk")),
            "silences": _silences(alert),
            "runbook": runbooks.section(alert.rule.measure),
            "form": form,
            "may_act": alert.is_open and self.may_act(request),
        }
        return TemplateResponse(request, "admin/monitoring/alert.html", context)

    def acknowledge_view(self, request: HttpRequest, key: int) -> HttpResponse:
        return self._act(request, key, acting.acknowledge, "Acknowledged. It is not told again.")

    def resolve_view(self, request: HttpRequest, key: int) -> HttpResponse:
        return self._act(request, key, acting.resolve, "Resolved. If its rule still finds it, it fires anew.")

    def silence_view(self, request: HttpRequest, key: int) -> HttpResponse:
        return self._act(request, key, acting.silence, "Silenced.", with_hours=True)

    def _act(self, request: HttpRequest, key: int, act: Any, done: str, *, with_hours: bool = False) -> HttpResponse:
        if not self.may_act(request):
            raise PermissionDenied
        alert = self.get_queryset(request).select_related("rule", "client").filter(pk=key).first()
        if alert is None:
            raise Http404
        page = reverse("admin:monitoring_alert_change", args=[key])
        if request.method != "POST":
            return HttpResponseRedirect(page)
        form = ActForm(request.POST)
        if not form.is_valid():
            return self._page(request, alert, form)
        options = {"hours": int(form.cleaned_data["hours"] or HOURS[1])} if with_hours else {}
        try:
            note = form.cleaned_data["note"]
            act(alert, by=request.user.get_username(), note=note, now=clock.now(), **options)
        except acting.AlertRefused as refusal:
            messages.error(request, str(refusal))
        else:
            self.log_change(request, alert, f"{done} {note}")
            messages.success(request, done)
        return HttpResponseRedirect(page)


_NOTICE = ("kind", "notices__route__name", "notices__message__state", "notices__message__fault")


def severity_badge(severity: str, label: str) -> SafeString:
    return format_html('<span class="severity {}">{}</span>', severity, label)


def state_badge(alert: Alert) -> SafeString:
    return format_html('<span class="alert-state {}">{}</span>', alert.state, alert.get_state_display())


def _plot(alert: Alert) -> plots.Plot | None:
    """The series around the moment it fired; None if its measure is gone."""
    measure = all_of_them().get(alert.rule.measure)
    if measure is None:
        return None
    end = min(clock.now(), (alert.resolved_at or clock.now()) + AFTER)
    begin = alert.fired_at - (BEFORE_BY_DAY if measure.step >= timedelta(days=1) else BEFORE)
    subject = Subject.of(alert.subject)
    seen = preview(alert.rule, now=end, days=(end - begin) / timedelta(days=1), only=subject)
    return plots.plot_of(seen, seen.pasts[0], measure.title, fired_at=alert.fired_at) if seen.pasts else None


def _silences(alert: Alert) -> list[AlertSilence]:
    now = clock.now()
    return [each for each in AlertSilence.objects.filter(ends_at__gt=now) if telling.is_silenced(alert, [each], now)]
