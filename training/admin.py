from typing import Any

import msgspec
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import FloatField, QuerySet
from django.forms import Form, ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from msgspec.structs import asdict

from training import rate_admin, registry, run_admin  # noqa: F401  # the admins are registered by their import
from training.core import figures
from training.core.bundle import Bundle
from training.core.description import Measured, Metrics
from training.core.evaluation import CARD_METRIC_NAMES, COST_METRIC_NAMES, LOWER_IS_BETTER, METRIC_NAMES
from training.core.evaluation.operating_points import OperatingPoints, operating_points
from training.core.exceptions import BundleRefused, FraudsiteError, NoChampion
from training.core.model_card import lineage, model_card
from training.models import ModelVersion, Stage

PARTS = ("validation", "test")
# The messages about a version's new stage.
OUTCOMES = {
    Stage.CHAMPION: "{} is the champion. Workers take it over by themselves.",
    Stage.SHADOW: "{} scores live transactions too, and decides nothing.",
    Stage.RETIRED: "{} is retired.",
}
PLOT_TITLES = {
    "precision_recall": "Precision and recall",
    "reliability": "Reliability",
    "roc": "ROC",
    "scores": "Scores of the test rows",
    "training": "Training",
}


def cell(name: str, found: Measured | None) -> dict[str, str] | None:
    """A metric as the page shows it: formatted figures, and positions on a scale of 0 to 100 for the drawing."""
    if found is None:
        return None
    known = {part: number for part, number in asdict(found).items() if number is not None}
    # Costs are not drawn, as they do not lie between 0 and 1.
    drawn = {} if name in COST_METRIC_NAMES else known
    written = {part: figures.figure(name, number) for part, number in known.items()}
    return written | {f"{part}_at": f"{100 * number:.2f}" for part, number in drawn.items()}


class ThresholdField(forms.FloatField):
    """Shows six digits of a threshold. If they are sent back unchanged, the threshold does not change."""

    def prepare_value(self, value: Any) -> Any:
        return float(f"{value:.6g}") if isinstance(value, float) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(initial, data) and super().has_changed(self.prepare_value(initial), data)


@admin.register(ModelVersion)
class ModelVersionAdmin(admin.ModelAdmin):
    """The register of models: compares, promotes, and moves thresholds. Only training adds versions."""

    list_display = [
        "version",
        "stage_badge",
        "protocol",
        "auprc",
        "precision",
        "recall",
        "thresholds",
        "created",
    ]
    list_filter = ["stage", ("proposed_at", admin.EmptyFieldListFilter), "protocol", "schema"]
    search_fields = ["version"]
    ordering = ["-created_at"]
    actions = ["promote", "shadow", "retire"]
    formfield_overrides = {FloatField: {"form_class": ThresholdField}}
    fields = [
        "stage_badge",
        ("schema", "protocol"),
        ("review_threshold", "block_threshold"),
        ("created_at", "promoted_at"),
    ]
    readonly_fields = ["stage_badge", "schema", "protocol", "created_at", "promoted_at"]
    save_on_top = True  # the page is long, and the thresholds are at its top
    change_form_template = "admin/training/modelversion/change_form.html"

    class Media:
        css = {"all": ["training/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ModelVersion | None = None) -> bool:
        return False

    @admin.display(description="Stage", ordering="stage")
    def stage_badge(self, version: ModelVersion) -> SafeString:
        proposed = ", proposed" if version.is_proposed else ""
        return format_html('<span class="stage {}">{}{}</span>', version.stage, version.get_stage_display(), proposed)

    @admin.display(description="AUPRC", ordering="metrics__test__auprc__value")
    def auprc(self, version: ModelVersion) -> SafeString | None:
        return self._listed(version, "auprc")

    @admin.display(description="Precision", ordering="metrics__test__precision__value")
    def precision(self, version: ModelVersion) -> SafeString | None:
        return self._listed(version, "precision")

    @admin.display(description="Recall", ordering="metrics__test__recall__value")
    def recall(self, version: ModelVersion) -> SafeString | None:
        return self._listed(version, "recall")

    @admin.display(description="Thresholds", ordering="review_threshold")
    def thresholds(self, version: ModelVersion) -> SafeString:
        block = figures.threshold(version.block_threshold)
        return format_html("review {}<br>block {}", figures.threshold(version.review_threshold), block)

    @admin.display(description="Created", ordering="created_at")
    def created(self, version: ModelVersion) -> str:
        return figures.at(version.created_at)

    def _listed(self, version: ModelVersion, name: str) -> SafeString | None:
        test = version.metrics_of("test")
        found = test.measured(name) if test else None
        if found is None:
            return None
        interval = "{:.3f}–{:.3f}".format(*found.interval) if found.interval else ""
        return format_html('{}<br><span class="interval">{}</span>', f"{found.value:.4f}", interval)

    @admin.action(description="Promote to champion", permissions=["change"])
    def promote(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        self._change_one(request, queryset, "promote")

    @admin.action(description="Make shadow", permissions=["change"])
    def shadow(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        self._change_one(request, queryset, "shadow")

    @admin.action(description="Retire", permissions=["change"])
    def retire(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        self._change_one(request, queryset, "retire")

    def _change_one(self, request: HttpRequest, queryset: QuerySet[ModelVersion], action: str) -> None:
        if len(queryset) != 1:
            messages.error(request, "Choose one version.")
            return
        self._change_stage(request, queryset[0], action)

    def _change_stage(
        self, request: HttpRequest, version: ModelVersion, action: str, reason: str = "", *, force: bool = False
    ) -> None:
        """Change the stage in the register, log it in the admin's history, and show a message."""
        audit = {"by": request.user.get_username(), "reason": reason}
        do = {
            "promote": lambda: registry.promote(version, force=force, kept_verdict=True, **audit),
            "roll_back": lambda: registry.roll_back(version.schema, **audit),
            "shadow": lambda: registry.shadow(version, **audit),
            "retire": lambda: version.retire(**audit),
        }
        try:
            # Not in a transaction: bundles are checked before the switch, and on SQLite an open transaction would keep
            # all workers from storing their answers. The switch itself is a transaction of milliseconds.
            changes = do[action]()
        except FraudsiteError as refusal:
            messages.error(request, str(refusal))
            return
        for change in changes:
            self.log_change(request, change.version, str(change))
        messages.success(request, OUTCOMES[Stage(changes[-1].after)].format(changes[-1].version))
        if stale := registry.stale_histories(changes):
            messages.warning(request, stale)

    def save_model(self, request: HttpRequest, obj: ModelVersion, form: ModelForm, change: bool) -> None:
        # Save only the edited fields: a promotion may have happened since the row was read.
        obj.save(update_fields=form.changed_data)

    def construct_change_message(
        self, request: HttpRequest, form: Form, formsets: Any, add: bool = False
    ) -> list[dict[str, dict[str, list[str]]]]:
        """Log the old and the new value of a threshold in the history."""
        changes = [
            f"{form.fields[name].label} from {form.initial[name]} to {form.cleaned_data[name]}"
            for name in form.changed_data
        ]
        return [{"changed": {"fields": changes}}] if changes else []

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        titles = {"title": "Model versions", "subtitle": "Metrics of the test rows, with 95 % intervals"}
        return super().changelist_view(request, titles | (extra_context or {}))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        version = self.get_object(request, object_id)
        if version is None or not self.has_view_permission(request, version):
            return super().change_view(request, object_id, form_url, extra_context)
        may_change = self.has_change_permission(request, version)
        actions = _stage_actions(version) if may_change else []
        wanted = request.POST.get("stage_action")
        if wanted in [name for name, _, _ in actions]:
            reason, force = request.POST.get("reason", "").strip(), "force" in request.POST
            self._change_stage(request, version, wanted, reason, force=force)
            return HttpResponseRedirect(request.path)
        context = report(version) | {"stage_actions": actions, "verdict": registry.verdict_on(version)}
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        plot = path(
            "<str:version>/plots/<slug:name>.png",
            self.admin_site.admin_view(self.plot_view),
            name="training_modelversion_plot",
        )
        card = path(
            "<str:version>/model-card.md",
            self.admin_site.admin_view(self.card_view),
            name="training_modelversion_card",
        )
        return [plot, card, *super().get_urls()]

    def plot_view(self, request: HttpRequest, version: str, name: str) -> HttpResponse:
        """A plot of a bundle, after its hashes and signature were checked; 404 for anything else."""
        try:
            image = self._visible_bundle(request, version)[1].plots[name]
        except KeyError as error:
            raise Http404(str(error)) from error
        return HttpResponse(image, content_type="image/png")

    def card_view(self, request: HttpRequest, version: str) -> HttpResponse:
        """The model card, as a download."""
        row, bundle = self._visible_bundle(request, version)
        card = model_card(
            bundle,
            stage=row.stage,
            review_threshold=row.review_threshold,
            block_threshold=row.block_threshold,
        )
        response = HttpResponse(card, content_type="text/markdown; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="model-card-{row}.md"'
        return response

    def _visible_bundle(self, request: HttpRequest, version: str) -> tuple[ModelVersion, Bundle]:
        row = self.get_object(request, version)
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            raise Http404
        try:
            return row, registry.load(row)
        except BundleRefused as error:
            raise Http404(str(error)) from error


def _stage_actions(version: ModelVersion) -> list[tuple[str, str, str]]:
    """The possible changes of a version's stage: the action, the title of its button, and its meaning."""
    if version.stage == Stage.CHAMPION:
        earlier = registry.previous_champion(version)
        meaning = "The champion before this one decides again; this one retires."
        return [("roll_back", f"Roll back to {earlier}", meaning)] if earlier else []
    actions = [
        (
            "promote",
            "Promote to champion",
            "It decides about live transactions at once; the champion before it retires.",
        )
    ]
    if version.stage != Stage.SHADOW:
        actions.append(("shadow", "Make shadow", "It scores live transactions too, and decides nothing."))
    if version.stage != Stage.RETIRED:
        actions.append(("retire", "Retire", "It scores nothing any more, and can be promoted again."))
    return actions


def report(version: ModelVersion) -> dict[str, Any]:
    """What the page of a version shows in addition to its fields."""
    bundle, refusal = _bundle_or_refusal(version)
    champion = _champion_on_the_same_rows(version, bundle)
    measured = {part: metrics for part in PARTS if (metrics := version.metrics_of(part))}
    columns = [(part, measured.get(part)) for part in PARTS]
    columns += [(f"champion {champion}, test", champion.metrics_of("test"))] if champion else []
    tested_at = measured["test"].threshold if "test" in measured else None
    return {
        "metric_columns": [title for title, _ in columns],
        "metric_rows": [
            (
                title,
                name in LOWER_IS_BETTER,
                [cell(name, metrics.measured(name) if metrics else None) for _, metrics in columns],
            )
            for name, title in (METRIC_NAMES | COST_METRIC_NAMES | CARD_METRIC_NAMES).items()
            if "test" in measured and measured["test"].measured(name)
        ],
        "confusions": [_confusion(part, metrics) for part, metrics in measured.items()],
        "tested_at": None if tested_at is None else figures.threshold(tested_at),
        "threshold_was_moved": tested_at is not None and tested_at != version.review_threshold,
        "refusal": refusal,
        "plots": [(name, PLOT_TITLES.get(name, name)) for name in sorted(bundle.plots)] if bundle else [],
        "operating_points": msgspec.to_builtins(_slider(version, bundle)) if bundle and bundle.scored else None,
        "importance": _importance(bundle) if bundle else None,
        "lineage": lineage(bundle) if bundle else [],
        "parent": bundle.description.parent if bundle else None,
        "changes": version.changes.all(),
    }


def _confusion(part: str, metrics: Metrics) -> tuple[str, list[list[str]]]:
    """A title, and the formatted counts: rows by label, columns by alert."""
    return f"{part}, {metrics.rows:,} rows", [[f"{count:,}" for count in row] for row in metrics.confusion]


def _bundle_or_refusal(version: ModelVersion) -> tuple[Bundle | None, str]:
    try:
        return registry.load(version), ""
    except BundleRefused as refusal:
        return None, str(refusal)


def _champion_on_the_same_rows(version: ModelVersion, bundle: Bundle | None) -> ModelVersion | None:
    """The champion, if it is another version and was tested on the same rows; otherwise figures cannot be compared."""
    try:
        champion = registry.champion(version.schema)
    except NoChampion:
        return None
    other, _ = _bundle_or_refusal(champion)
    if champion == version or bundle is None or other is None or not bundle.has_test_rows_of(other):
        return None
    return champion


class Slider(OperatingPoints, frozen=True, kw_only=True):
    """The data of the page's slider: the results of each threshold, the version's own thresholds by what they are, and
    what the results are multiplied with."""

    chosen: dict[str, float]
    block: float | None
    unit: str
    days: dict[str, float | None]
    review_cost: float


def _slider(version: ModelVersion, bundle: Bundle) -> Slider:
    chosen = {"in use": version.review_threshold, "chosen in training": bundle.review_threshold}
    points = operating_points(bundle.scored, marked=list(chosen.values()))
    return Slider(
        thresholds=points.thresholds,
        parts=points.parts,
        chosen=chosen,
        block=version.block_threshold,
        unit=bundle.declared.currency,
        days=bundle.description.days,
        review_cost=bundle.description.policy.review_cost,
    )


def _importance(bundle: Bundle) -> dict[str, Any] | None:
    """The features by falling importance, with positions on a scale from 0 to 100; None if it was not measured."""
    measured = bundle.description.importance
    if measured is None:
        return None
    ranked = sorted(measured.features.items(), key=lambda item: -item[1].value)
    # The loss of a feature that is only noise may be negative, so the scale begins at the lowest value.
    least = min(0.0, *(lost.low for _, lost in ranked))
    width = max(max(lost.high for _, lost in ranked) - least, 1e-9)

    def at(loss: float) -> str:
        return f"{100 * (loss - least) / width:.2f}"

    bars = [
        {
            "name": name,
            "value": f"{round(lost.value, 4) + 0.0:+.4f}",  # never minus nothing
            "from": at(min(0.0, lost.value)),
            "width": f"{100 * abs(lost.value) / width:.2f}",
            "low": at(lost.low),
            "high": at(lost.high),
        }
        for name, lost in ranked
    ]
    half = (len(bars) + 1) // 2
    return {"rows": measured.rows, "repeats": measured.repeats, "columns": [bars[:half], bars[half:]]}
