from django.db import models

from monitoring.alerts.models import (
    Alert,
    AlertEvent,
    AlertMessage,
    AlertNotice,
    AlertRoute,
    AlertRule,
    AlertSample,
    AlertSilence,
)
from monitoring.label_free.models import LabelFreeEstimate
from monitoring.matured.models import LabelDelay, OutcomeCount, OutcomeDay, OutcomeProgress, ScoreOutcome
from monitoring.rollups.models import RefusalRollup, ReviewRollup, RollupProgress, RuleRollup, TrafficRollup
from training.models import ModelVersion

# Django finds an app's models here.
__all__ = [
    "Alert",
    "AlertEvent",
    "AlertMessage",
    "AlertNotice",
    "AlertRoute",
    "AlertRule",
    "AlertSample",
    "AlertSilence",
    "DriftDetail",
    "DriftReport",
    "LabelDelay",
    "LabelFreeEstimate",
    "OutcomeCount",
    "OutcomeDay",
    "OutcomeProgress",
    "RefusalRollup",
    "ReviewRollup",
    "RollupProgress",
    "RuleRollup",
    "ScoreOutcome",
    "TrafficRollup",
]


class DriftDetail(models.Model):
    """The latest drift of a model version in detail: distributions, missing values, categories, and what moved the
    score. One row per version, replaced by each measurement, as reports are many.

    `inputs` are `monitoring.drift.shares.Moved`, `score` is one of them, and `shift` is
    `monitoring.drift.attribution.Shift`, null until there is earlier traffic to compare with.
    """

    model_version = models.OneToOneField(ModelVersion, on_delete=models.CASCADE, primary_key=True, related_name="+")
    report = models.ForeignKey("DriftReport", on_delete=models.CASCADE, related_name="+")
    inputs = models.JSONField()
    score = models.JSONField()
    shift = models.JSONField(null=True)

    def __str__(self) -> str:
        return f"{self.model_version_id}: {self.report}"


class DriftReport(models.Model):
    """How far recent traffic was from the training reference, as the population stability index."""

    class Status(models.TextChoices):
        STABLE = "stable", "Stable"
        MODERATE = "moderate", "Moderate drift"
        STRONG = "strong", "Strong drift"

    created_at = models.DateTimeField()
    model_version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="+")
    window_start = models.DateTimeField()
    window_end = models.DateTimeField()
    samples = models.PositiveIntegerField()
    features = models.JSONField(help_text="PSI by feature.")
    score = models.FloatField(help_text="PSI of the score.")
    status = models.CharField(max_length=8, choices=Status.choices)
    unusual = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        help_text="Shares of unseen and of missing values by input, as monitoring.drift.shares has them.",
    )

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["model_version", "-created_at"], name="drift_latest")]

    def __str__(self) -> str:
        return f"{self.get_status_display()}, {self.samples} transactions"
