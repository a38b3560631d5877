from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from training.core.description import Metrics
from training.core.exceptions import StageRefused
from training.core.exchange.rates import AHEAD, checked
from training.core.figures import at
from training.core.schema.kinds import codes


class Stage(models.TextChoices):
    CANDIDATE = "candidate", "Candidate"
    SHADOW = "shadow", "Shadow"
    CHAMPION = "champion", "Champion"
    RETIRED = "retired", "Retired"


class SchemaVersion(models.Model):
    """A declaration of a schema, as a process first saw it: `text` is that of its file. Models that were trained under
    it, and transactions that were checked against it, need it after the file has changed."""

    schema = models.CharField(max_length=32)
    hash = models.CharField(max_length=64)
    text = models.TextField()
    first_seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["schema", "-first_seen_at", "-pk"]
        verbose_name = "schema"
        constraints = [models.UniqueConstraint(fields=["schema", "hash"], name="one_row_per_declaration")]

    def __str__(self) -> str:
        return f"{self.schema} {self.hash[:12]}"


class ModelVersion(models.Model):
    """A registered bundle and its stage. `training.bundles` tells where it is; `bundle_dir` is this machine's copy.

    `schema_hash` is that of the declaration that it was trained under; empty if an earlier release registered it.

    The thresholds are copied from the bundle at registration, as they may change later without training.
    `block_threshold` is never below `review_threshold`; without one, nothing is blocked.

    `verdict` is the result of the comparison with the champion `compared_with`, as text, and `verdict_allows` whether
    it allows to promote this version. Both are valid for that champion only. `proposed_at` is when a retraining found
    it better than the champion.
    """

    version = models.CharField(max_length=64, primary_key=True)
    schema = models.CharField(max_length=32)
    schema_hash = models.CharField(max_length=64, blank=True, db_default="", editable=False)
    stage = models.CharField(max_length=16, choices=Stage.choices, default=Stage.CANDIDATE)
    protocol = models.CharField(max_length=32)
    review_threshold = models.FloatField(help_text="A score at or above it is an alert.")
    block_threshold = models.FloatField(null=True, blank=True, help_text="A score at or above it is blocked.")
    metrics = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    proposed_at = models.DateTimeField(null=True, blank=True, editable=False)
    promoted_at = models.DateTimeField(null=True, blank=True)
    compared_with = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+", editable=False)
    verdict_allows = models.BooleanField(default=False, db_default=False, editable=False)
    verdict = models.TextField(blank=True, db_default="", editable=False)

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

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the row, and record its thresholds if they may have changed: decisions are computed again with those
        that held at their time."""
        super().save(*args, **kwargs)
        fields = kwargs.get("update_fields")
        if fields is None or {"review_threshold", "block_threshold"} & set(fields):
            self.thresholds.create(review_threshold=self.review_threshold, block_threshold=self.block_threshold)

    @property
    def bundle_dir(self) -> Path:
        return settings.BUNDLES_DIR / self.version

    def metrics_of(self, part: str) -> Metrics | None:
        """The metrics of the "validation" or the "test" rows; None if the version has none."""
        return msgspec.convert(self.metrics[part], Metrics) if part in self.metrics else None

    def clean(self) -> None:
        faults = {}
        for name in ("review_threshold", "block_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                faults[name] = "A threshold lies between 0 and 1, like a score."
        review, block = self.review_threshold, self.block_threshold
        if not faults and review is not None and block is not None and block < review:
            faults["block_threshold"] = "A blocked transaction is an alert too: not below the review threshold."
        if faults:
            raise ValidationError(faults)

    @transaction.atomic
    def promote(
        self, *, by: str, reason: str = "", evidence: str = "", rolls_back: bool = False
    ) -> list["StageChange"]:
        """Make this version the champion of its schema; the champion before it, if any, retires.

        This only switches: `registry.promote` checks the bundle and compares it with the champion first.
        """
        self._wait_for_my_turn()
        now = timezone.now()
        action = StageChange.Action.ROLL_BACK if rolls_back else StageChange.Action.PROMOTE
        before = ModelVersion.objects.filter(schema=self.schema, stage=Stage.CHAMPION).exclude(pk=self.pk)
        changes = [
            version._move(Stage.RETIRED, StageChange.Action.RETIRE, at=now, by=by, reason=f"{self} is the champion.")
            for version in before
        ]
        return [*changes, self._move(Stage.CHAMPION, action, at=now, by=by, reason=reason, evidence=evidence)]

    @property
    def is_proposed(self) -> bool:
        """Whether it waits for somebody who promotes it."""
        return self.proposed_at is not None and self.stage in (Stage.CANDIDATE, Stage.SHADOW)

    @transaction.atomic
    def propose(self, *, by: str, evidence: str) -> None:
        """Propose this version as the champion. It stays what it is until a person promotes it."""
        self.proposed_at = timezone.now()
        self.save(update_fields=["proposed_at"])
        self.changes.create(
            before=self.stage, after=self.stage, action=StageChange.Action.PROPOSE, by=by, evidence=evidence
        )

    @transaction.atomic
    def shadow(self, *, by: str, reason: str = "") -> list["StageChange"]:
        """Have this version score live transactions without deciding.

        Raises:
            StageRefused: it is the champion, or a shadow already.
        """
        self._wait_for_my_turn()
        if self.stage in (Stage.CHAMPION, Stage.SHADOW):
            raise StageRefused(f"{self} is the {self.stage} already.".replace("the shadow", "a shadow"))
        return [self._move(Stage.SHADOW, StageChange.Action.SHADOW, at=timezone.now(), by=by, reason=reason)]

    @transaction.atomic
    def retire(self, *, by: str, reason: str = "") -> list["StageChange"]:
        """Retire this version. It can become a shadow or the champion again.

        Raises:
            StageRefused: it is retired already, or is the champion, without which nothing would be scored.
        """
        self._wait_for_my_turn()
        if self.stage == Stage.RETIRED:
            raise StageRefused(f"{self} is retired already.")
        if self.stage == Stage.CHAMPION:
            raise StageRefused(f"{self} is the champion: promote another version, or roll back.")
        return [self._move(Stage.RETIRED, StageChange.Action.RETIRE, at=timezone.now(), by=by, reason=reason)]

    def _wait_for_my_turn(self) -> None:
        """Lock the schema's versions, so that changes of stages wait for each other, and read the stage again."""
        list(ModelVersion.objects.filter(schema=self.schema).select_for_update().order_by("pk").values_list("pk"))
        self.refresh_from_db(fields=["stage"])

    def _move(self, after: Stage, action: str, *, at: datetime, **audit: str) -> "StageChange":
        change = self.changes.create(before=self.stage, after=after, action=action, at=at, **audit)
        self.stage = after
        if after == Stage.CHAMPION:
            self.promoted_at = at
        self.save(update_fields=["stage", "promoted_at"])
        return change


class StageChange(models.Model):
    """Who changed the stage of a version, when, and why. Rows are added and never changed.

    A promotion adds two rows with the same time: one for the version that retires, one for the new champion. `by` is
    the name of a user, or of the account that ran a command. `evidence` is the result of the comparison with the
    champion, as text.
    """

    class Action(models.TextChoices):
        REGISTER = "register", "Registered"
        PROMOTE = "promote", "Promoted"
        ROLL_BACK = "roll_back", "Rolled back"
        SHADOW = "shadow", "Made shadow"
        PROPOSE = "propose", "Proposed"
        RETIRE = "retire", "Retired"

    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="changes")
    action = models.CharField(max_length=16, choices=Action.choices)
    before = models.CharField(max_length=16, choices=Stage.choices, blank=True)
    after = models.CharField(max_length=16, choices=Stage.choices)
    by = models.CharField(max_length=150)
    reason = models.TextField(blank=True)
    evidence = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return f"{self.get_action_display()}. {self.reason}".strip()

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("A stage change is never changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("A stage change is never deleted.")


class ThresholdRecord(models.Model):
    """The thresholds of a version from a time on. Rows are added and never changed."""

    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="thresholds")
    review_threshold = models.FloatField()
    block_threshold = models.FloatField(null=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return f"{self.version_id} from {self.at:%Y-%m-%d %H:%M:%S}"


class TrainingRun(models.Model):
    """A training that a worker does, and its progress, which only the worker writes.

    `history` has a number per epoch, as in the bundle. `heard_at` is the time of the worker's latest heartbeat.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Waits for a worker"
        RUNNING = "running", "Under way"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    class Promote(models.TextChoices):
        FIRST = "first", "if there is no champion yet"
        NEVER = "never", "no"
        ALWAYS = "always", "yes, whatever the champion is like"
        BETTER = "better", "if it is better than the champion"
        PROPOSE = "propose", "no, but propose it if it is better than the champion"

    ACTIVE = (State.QUEUED, State.RUNNING)

    schema = models.CharField(max_length=32)
    configuration = models.JSONField()
    promote = models.CharField(max_length=8, choices=Promote.choices, default=Promote.FIRST)
    state = models.CharField(max_length=16, choices=State.choices, default=State.QUEUED)
    by = models.CharField(max_length=150)
    worker = models.CharField(max_length=200, blank=True)
    epochs = models.PositiveIntegerField(help_text="At most so many; training may stop before.")
    history = models.JSONField(default=dict)
    failure = models.TextField(blank=True)
    version = models.ForeignKey(ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="runs")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    heard_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["schema"], condition=models.Q(state__in=["queued", "running"]), name="one_training_per_schema"
            )
        ]

    def __str__(self) -> str:
        return f"Training run {self.pk} of {self.schema}"

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE


class ExchangeRate(models.Model):
    """A rate of exchange: from `valid_from` on, one unit of `base` buys `rate` units of `currency`.

    Never changed: a correction is a new row with the same base, currency and beginning, and the latest row counts.
    """

    base = models.CharField(max_length=3, default="EUR", help_text="The currency in which it is quoted.")
    currency = models.CharField(max_length=3, help_text="A code of ISO 4217, such as USD.")
    # SQLite keeps 15 digits; `training.core.exchange.rates.checked` allows no more.
    rate = models.DecimalField(
        max_digits=30, decimal_places=18, help_text="How many units of the currency one unit of the base buys."
    )
    valid_from = models.DateTimeField(help_text="In UTC. It holds until the next one begins.")
    source = models.CharField(max_length=100, editable=False)
    by = models.CharField(max_length=150, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes = [models.Index(fields=["base", "currency", "valid_from"], name="rate_by_currency_and_time")]

    def __str__(self) -> str:
        return f"1 {self.base} = {self.rate.normalize():f} {self.currency} from {at(self.valid_from)}"

    def clean(self) -> None:
        faults = {}
        for name in ("base", "currency"):
            code = getattr(self, name).strip().upper()
            setattr(self, name, code)
            if code not in codes.currencies():
                faults[name] = "Give a code of ISO 4217, such as USD."
        if not faults and self.base == self.currency:
            faults["currency"] = "A rate of a currency to itself is 1, and is not given."
        if self.rate is not None:
            try:
                self.rate = checked(self.rate)
            except ValueError as error:
                faults["rate"] = f"Not so: {error}."
        if self.valid_from and self.valid_from > timezone.now() + AHEAD:
            faults["valid_from"] = "Give a time that is at most a day ahead."
        if faults:
            raise ValidationError(faults)
