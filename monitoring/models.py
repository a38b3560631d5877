from django.db import models

from training.models import ModelVersion

SCORE_BINS = 20
# Upper edges in ms, exclusive; one more bin holds the latencies above the last edge.
LATENCY_EDGES_MS = (0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000, 5000)


class TrafficRollup(models.Model):
    """Counts and histograms of one minute of a schema's traffic. The dashboard adds them up instead of predictions."""

    schema = models.CharField(max_length=32)
    minute = models.DateTimeField()
    transactions = models.PositiveIntegerField()
    challenged = models.PositiveIntegerField(default=0, db_default=0, help_text="Decisions to challenge.")
    reviewed = models.PositiveIntegerField(help_text="Decisions to review.")
    blocked = models.PositiveIntegerField(help_text="Decisions to block.")
    latency_sum_ms = models.FloatField()
    latency_histogram = models.JSONField(help_text="Counts per bin of LATENCY_EDGES_MS.")
    score_histogram = models.JSONField(help_text="Counts per bin of 20 equal bins of [0, 1].")

    class Meta:
        ordering = ["-minute"]
        constraints = [models.UniqueConstraint(fields=["minute", "schema"], name="one_rollup_per_minute_and_schema")]

    def __str__(self) -> str:
        return f"{self.schema}, {self.minute:%Y-%m-%d %H:%M}: {self.transactions}"


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

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["model_version", "-created_at"], name="drift_latest")]

    def __str__(self) -> str:
        return f"{self.get_status_display()}, {self.samples} transactions"
