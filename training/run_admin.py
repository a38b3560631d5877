"""Training runs in the admin: a form to start one, a page to watch it."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from training import run_queue
from training.core import configuration, families
from training.core.configuration import reference
from training.core.configuration.sections import SETTINGS, Setting
from training.core.exceptions import ConfigurationError, TrainingRefused
from training.models import TrainingRun


def form_field(setting: Setting) -> forms.Field:
    """A field for a setting: what it may be, and its meaning. Left empty, the setting is as configured."""
    if setting.choices:
        choices = [("", "as configured"), *[(name, name) for name in setting.choices]]
        return forms.ChoiceField(choices=choices, required=False, help_text=setting.meaning)
    low, high = (None if bound is None else setting.type(bound) for bound in (setting.low, setting.high))
    kind = {int: forms.IntegerField, float: forms.FloatField}[setting.type]
    return kind(required=False, min_value=low, max_value=high, help_text=f"{setting.meaning} As configured, if empty.")


class TrainingForm(forms.Form):
    """Takes what `manage.py train` takes, and refuses invalid configurations before a run is queued.

    A valid form has the attribute `configuration`.
    """

    schema = forms.ChoiceField(
        choices=[(name, name) for name in settings.SCHEMAS],
        initial=settings.DEFAULT_SCHEMA,
        help_text="Trained with the configuration that is shipped for it.",
    )
    protocol = form_field(SETTINGS["split.protocol"])
    seed = form_field(SETTINGS["model.seed"])
    changes = forms.CharField(
        required=False,
        label="Configuration",
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "placeholder": "[model]\ndropout = 0.3"}),
        help_text="What differs from the shipped configuration, as TOML. What manage.py tune wrote fits here.",
    )
    promote = forms.ChoiceField(
        choices=TrainingRun.Promote.choices, initial=TrainingRun.Promote.FIRST, label="Make it the champion"
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if self.errors:
            return given
        try:
            overrides = configuration.parse(given["changes"])
            if given["protocol"]:
                overrides["split.protocol"] = given["protocol"]
            if given["seed"] is not None:
                overrides["model.seed"] = given["seed"]
            self.configuration = configuration.chosen(given["schema"], None, overrides)
            families.check(self.configuration.model.architecture)
        except ConfigurationError as error:
            raise ValidationError({"changes": str(error)}) from error
        return given


@admin.register(TrainingRun)
class TrainingRunAdmin(admin.ModelAdmin):
    """Starts, shows and cancels training runs. Only workers change their rows otherwise."""

    list_display = ["id", "schema", "state_badge", "created_at", "by", "version"]
    list_filter = ["state", "schema"]

    class Media:
        css = {"all": ["training/admin.css"]}

    def has_change_permission(self, request: HttpRequest, obj: TrainingRun | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: TrainingRun | None = None) -> bool:
        return False

    @admin.display(description="State", ordering="state")
    def state_badge(self, run: TrainingRun) -> SafeString:
        return format_html('<span class="stage {}">{}</span>', run.state, run.get_state_display())

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrainingRun]:
        run_queue.give_up_the_lost()
        return super().get_queryset(request)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = TrainingForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                with transaction.atomic():
                    promote = form.cleaned_data["promote"]
                    run = run_queue.start(form.configuration, promote=promote, by=request.user.get_username())
                    self.log_addition(request, run, "Started.")
                return HttpResponseRedirect(self._page_of(run))
            except TrainingRefused as refusal:
                form.add_error(None, str(refusal))
        context = {
            "title": "Train a model",
            "form": form,
            # Meanings are Markdown, for the page of the docs.
            "settings": [
                (setting, reference.values(setting), setting.meaning.replace("`", "")) for setting in SETTINGS.values()
            ],
            "opts": self.opts,
            "media": self.media,
        }
        return self._render(request, "start", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = self.get_object(request, object_id)
        if run is None:
            return super().change_view(request, object_id, form_url, extra_context)
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        may_cancel = self.has_add_permission(request)
        if request.method == "POST":
            if not may_cancel:
                raise PermissionDenied
            if run_queue.cancel(run):
                self.log_change(request, run, "Cancelled.")
                messages.success(request, "The run is cancelled: its worker stops at the end of the epoch.")
            return HttpResponseRedirect(self._page_of(run))
        context = {
            "title": str(run),
            "run": run,
            "progress": progress(run),
            "may_cancel": may_cancel and run.is_active,
            "differences": _differences(run),
            "opts": self.opts,
            "media": self.media,
        }
        return self._render(request, "run", context)

    def _render(self, request: HttpRequest, page: str, context: dict[str, Any]) -> HttpResponse:
        context = self.admin_site.each_context(request) | context
        return TemplateResponse(request, f"admin/training/trainingrun/{page}.html", context)

    def _page_of(self, run: TrainingRun) -> str:
        return reverse("admin:training_trainingrun_change", args=[run.pk])

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.progress_view)
        return [path("<int:run>/progress.json", view, name="training_trainingrun_progress"), *super().get_urls()]

    def progress_view(self, request: HttpRequest, run: int) -> HttpResponse:
        """The progress of a run, which its page polls."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, str(run))
        if row is None:
            return JsonResponse({}, status=404)
        return JsonResponse(progress(row), headers={"Cache-Control": "no-store"})


def progress(run: TrainingRun) -> dict[str, Any]:
    """The parts of a run's page that change while it is under way."""
    end = run.finished_at or timezone.now()
    return {
        "state": run.state,
        "state_title": run.get_state_display(),
        "active": run.is_active,
        "worker": run.worker,
        "epochs": run.epochs,
        "seconds": round((end - run.started_at).total_seconds()) if run.started_at else None,
        "history": run.history,
        "failure": run.failure,
        "version": run.version_id,
        "version_url": reverse("admin:training_modelversion_change", args=[run.version_id]) if run.version_id else "",
    }


def _differences(run: TrainingRun) -> list[tuple[str, Any]]:
    """The keys in which the configuration of a run differs from the one shipped for its schema."""
    path = configuration.path_of(run.schema, run.configuration["split"]["protocol"])
    shipped = configuration.as_json(configuration.read(path))
    return [
        (f"{section}.{key}", value)
        for section, keys in run.configuration.items()
        for key, value in keys.items()
        if shipped.get(section, {}).get(key) != value
    ]
