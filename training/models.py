from pathlib import Path

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone


class Stage(models.TextChoices):
    CANDIDATE = "candidate", "Candidate"
    SHADOW = "shadow", "Shadow"
    CHAMPION = "champion", "Champion"
    RETIRED = "retired", "Retired"


class ModelVersion(models.Model):
    """A registered bundle. Its directory is `BUNDLES_DIR/<version>`; the row says what part it plays.

    The thresholds are the row's own, copied from the bundle at registration, because policy may change later without
    training anew. `block_threshold` is never below `review_threshold`; without one, nothing is blocked.
    """

    version = models.CharField(max_length=64, primary_key=True)
    schema = models.CharField(max_length=32)
    stage = models.CharField(max_length=16, choices=Stage.choices, default=Stage.CANDIDATE)
    protocol = models.CharField(max_length=32)
    review_threshold = models.FloatField(help_text="A score at or above it is an alert.")
    block_threshold = models.FloatField(null=True, blank=True, help_text="A score at or above it is blocked.")
    metrics = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    promoted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["schema"], condition=models.Q(stage=Stage.CHAMPION), name="one_champion_per_schema"
            ),
            models.CheckConstraint(
                condition=models.Q(block_threshold__isnull=True)
                | models.Q(block_threshold__gte=models.F("review_threshold")),
                name="block_not_below_review",
            ),
        ]

    def __str__(self) -> str:
        return self.version

    @property
    def bundle_dir(self) -> Path:
        return settings.BUNDLES_DIR / self.version

    def clean(self) -> None:
        faults = {}
        for name in ("review_threshold", "block_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                faults[name] = "A threshold lies between 0 and 1, like a score."
        review, block = self.review_threshold, self.block_threshold
        if not faults and review is not None and block is not None and block < review:
            faults["block_threshold"] = "What is blocked is an alert too: not below the review threshold."
        if faults:
            raise ValidationError(faults)

    @transaction.atomic
    def promote(self) -> "ModelVersion | None":
        """Make this version the champion of its schema. Returns the version that retires for it, if there was one."""
        versions = ModelVersion.objects.filter(schema=self.schema)
        # Promotions wait for each other here; the next query sees what the one before has done.
        list(versions.select_for_update().order_by("pk").values_list("pk"))
        before = versions.filter(stage=Stage.CHAMPION).exclude(pk=self.pk).first()
        if before:
            before.stage = Stage.RETIRED
            before.save(update_fields=["stage"])
        self.stage, self.promoted_at = Stage.CHAMPION, timezone.now()
        self.save(update_fields=["stage", "promoted_at"])
        return before
