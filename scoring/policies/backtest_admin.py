"""Backtests in the admin: the form that starts one, their progress, and their results."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

import msgspec
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from scoring.lists import changes
from scoring.lists.models import PolicyList
from scoring.models import Backtest, PolicyVersion
from scoring.pages.display import amount_of
from scoring.pages.read_only import ReadOnlyAdmin
from scoring.policies import backtests, versions
from scoring.policies.backtesting import Part, Result
from training.core import figures
from training.core.exceptions import FraudsiteError

BACKTEST_DAYS = 30


def page_of(backtest: Backtest) -> str:
    return reverse("admin:scoring_backtest_change", args=[backtest.pk])


class BacktestForm(forms.Form):
    """What a backtest of a policy version tries, and on which transactions."""

    since = forms.DateField(label="From", widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(
        label="To", widget=forms.DateInput(attrs={"type": "date"}), help_text="Both days in UTC; the last one counts."
    )
    lists = forms.ChoiceField(choices=Backtest.Lists.choices)
    drafts = forms.ModelMultipleChoiceField(
        label="Draft lists",
        required=False,
        queryset=PolicyList.objects.none(),
        widget=forms.CheckboxSelectMultiple,
        help_text="Their entries count for the whole period.",
    )
    by_expression = forms.CharField(
        label="Tell results by",
        required=False,
        max_length=1_000,
        help_text='A name or an expression, such as country or amount > 100.0 ? "large" : "small".',
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, version: PolicyVersion, data: Any = None) -> None:
        today = timezone.now().date()
        super().__init__(data, initial={"since": today - timedelta(days=BACKTEST_DAYS), "until": today})
        cast(Any, self.fields["drafts"]).queryset = changes.drafts(version.schema)

    @property
    def period(self) -> dict[str, datetime]:
        now = timezone.now()
        last = min(self.cleaned_data["until"], now.date())  # no day may follow the one that is given
        return {"since": _midnight(self.cleaned_data["since"]), "until": min(_midnight(last + timedelta(days=1)), now)}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


@admin.register(Backtest)
class BacktestAdmin(ReadOnlyAdmin):
    """Backtests: their progress, then their results."""

    list_display = ["__str__", "version", "state", "since", "until", "done", "by"]
    list_filter = ["schema", "state"]

    class Media:
        css = {"all": ["scoring/admin.css", "scoring/policy.css"]}
        js = ["scoring/backtest.js"]

    def get_queryset(self, request: HttpRequest) -> Any:
        backtests.give_up_the_lost()
        return super().get_queryset(request)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.progress_view)
        start = self.admin_site.admin_view(self.start_view)
        return [
            path("<int:pk>/progress.json", view, name="scoring_backtest_progress"),
            path("of/<int:pk>/", start, name="scoring_backtest_start"),
            *super().get_urls(),
        ]

    def start_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A page that starts a backtest of a policy version."""
        if not request.user.has_perm("scoring.add_policyversion"):
            raise PermissionDenied
        version = get_object_or_404(PolicyVersion, pk=pk)
        form = BacktestForm(version, request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                backtest = backtests.start(
                    schema=version.schema,
                    content=versions.content(version),
                    by=request.user.get_username(),
                    version=version,
                    lists=form.cleaned_data["lists"],
                    drafts=list(form.cleaned_data["drafts"]),
                    by_expression=form.cleaned_data["by_expression"],
                    **form.period,
                )
                return HttpResponseRedirect(page_of(backtest))
            except FraudsiteError as error:
                form.add_error("by_expression" if "expression for groups" in str(error) else None, str(error))
        context = self.admin_site.each_context(request) | {
            "title": f"Backtest of {version}",
            "version": version,
            "form": form,
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/scoring/backtest/start.html", context)

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The progress of a backtest, which its page polls."""
        backtest = self.get_object(request, str(pk))
        if backtest is None or not self.has_view_permission(request, backtest):
            raise PermissionDenied
        progress = {"active": backtest.is_active, "done": backtest.done, "total": backtest.total}
        return JsonResponse(progress, headers={"Cache-Control": "no-store"})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        backtest = self.get_object(request, object_id)
        if backtest is None:
            return super().change_view(request, object_id, form_url, extra_context)
        if not self.has_view_permission(request, backtest):
            raise PermissionDenied
        may_cancel = request.user.has_perm("scoring.add_policyversion")
        if request.method == "POST":
            if not may_cancel:
                raise PermissionDenied
            if backtests.cancel(backtest):
                messages.success(request, "The backtest is cancelled.")
            return HttpResponseRedirect(page_of(backtest))
        result = msgspec.convert(backtest.result, Result) if backtest.result else None
        context = self.admin_site.each_context(request) | {
            "title": str(backtest),
            "backtest": backtest,
            "lists": _lists_of(backtest),
            "period": f"{figures.at(backtest.since)} to {figures.at(backtest.until)}",
            "may_cancel": may_cancel and backtest.is_active,
            "result": result and _shown(backtest.schema, result),
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/scoring/backtest/backtest.html", context)


def _lists_of(backtest: Backtest) -> str:
    """Which lists counted, in words."""
    told = backtest.get_lists_display().lower()
    drafts = PolicyList.objects.filter(pk__in=backtest.draft_lists).order_by("name").values_list("name", flat=True)
    return f"lists {told}" + (f", with the drafts {', '.join(drafts)}" if drafts else "")


def _parts(schema: str, parts: list[Part], otherwise: str) -> list[tuple[str, Part, str]]:
    return [(part.name or otherwise, part, amount_of(schema, part.changed.amount)) for part in parts]


def _shown(schema: str, result: Result) -> dict[str, Any]:
    """A result in the words and bars of its page."""

    def money(amount: float) -> str:
        return amount_of(schema, amount)

    def share(of: Any) -> str:
        return "-" if of.value is None else f"{of.value:.1%} ({of.low:.1%} to {of.high:.1%})"

    sides = (result.before, result.after)
    rows = [
        (decision.capitalize(), *(f"{side.decisions[decision].count:,}" for side in sides))
        for decision in result.before.decisions
    ]
    for when, title in (("now", "as known now"), ("then", "as known at the end of the period")):
        for name, of in (
            ("Frauds caught", lambda quality: f"{quality.caught.count:,} ({money(quality.caught.amount)})"),
            ("Frauds missed", lambda quality: f"{quality.missed.count:,} ({money(quality.missed.amount)})"),
            ("Honest customers with an alert", lambda quality: f"{quality.honest:,}"),
            ("Precision", lambda quality: share(quality.precision)),
            ("Recall", lambda quality: share(quality.recall)),
        ):
            rows.append((f"{name}, {title}", *(of(getattr(side, when)) for side in sides)))
    segments = [segment for segment in result.segments if segment.name or len(result.segments) > 1]
    most = max([1, *(max(day.before, day.after) for day in result.days)])
    return {
        "transactions": f"{result.transactions:,}",
        "rows": rows,
        "changes": [(change, money(change.sum.amount)) for change in result.changes],
        "rules": [(rule, money(rule.matched.amount), share(rule.precision)) for rule in result.rules],
        "days": [
            (
                *shown,
                round(100 * shown[1].before / most, 2),
                round(100 * shown[1].after / most, 2),
            )
            for shown in _parts(schema, result.days, "")
        ],
        "parts": [
            ("Segments", _parts(schema, segments, "no segment")),
            ("Groups", _parts(schema, result.groups, "none")),
        ],
    }
