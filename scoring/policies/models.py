from django.db import models
from django.utils import timezone

from training.models import ModelVersion


class PolicyVersion(models.Model):
    """A version of a schema's policy: a draft that is edited, the live one, or one that was live.

    `document` is its content, see `scoring.policies.document`. Only a draft is changed; each change raises its
    `revision`, so that two people who edit at once notice. `based_on` is the version that it was copied from. Each
    prediction names the version that decided.
    """

    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        PROPOSED = "proposed", "Waits for approval"
        LIVE = "live", "Live"
        RETIRED = "retired", "Was live"
        DISCARDED = "discarded", "Discarded"

    schema = models.CharField(max_length=32)
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=12, choices=State.choices, default=State.DRAFT)
    document = models.JSONField()
    revision = models.PositiveIntegerField(default=1)
    based_on = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    live_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        verbose_name = "policy"
        permissions = [("activate_policyversion", "Can make a policy live and roll it back")]
        verbose_name_plural = "policies"
        constraints = [
            models.UniqueConstraint(fields=["schema", "number"], name="one_policy_of_each_number"),
            models.UniqueConstraint(
                fields=["schema"], condition=models.Q(state="live"), name="one_live_policy_per_schema"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.schema} policy {self.number}"


class PolicyChange(models.Model):
    """Who did what with a policy version, when, and why. Rows are added and never changed.

    `document` is the version's content after the change. `by` is the name of a user, or of the account that ran a
    command.
    """

    class Action(models.TextChoices):
        DRAFT = "draft", "Drafted"
        EDIT = "edit", "Edited"
        PROPOSE = "propose", "Proposed"
        APPROVE = "approve", "Approved"
        RETURN = "return", "Returned to its author"
        ACTIVATE = "activate", "Made live"
        ROLL_BACK = "roll_back", "Rolled back to it"
        RETIRE = "retire", "Replaced"
        DISCARD = "discard", "Discarded"

    version = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="changes")
    action = models.CharField(max_length=12, choices=Action.choices)
    document = models.JSONField()
    by = models.CharField(max_length=150)
    reason = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return f"{self.get_action_display()}. {self.reason}".strip()


class RuleCount(models.Model):
    """What became of a rule in one minute: of `decided` transactions it `matched` some, lacked a value for some, and
    could not be calculated for some."""

    minute = models.DateTimeField()
    # As of predictions: counts of a version may be written a moment after it has left.
    policy = models.ForeignKey(
        PolicyVersion, on_delete=models.CASCADE, related_name="rule_counts", db_constraint=False, db_index=False
    )
    rule = models.CharField(max_length=64)
    decided = models.PositiveIntegerField()
    matched = models.PositiveIntegerField()
    absent = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["minute", "policy", "rule"], name="one_rule_count_per_minute_and_rule")
        ]

    def __str__(self) -> str:
        return f"{self.rule}, {self.minute:%Y-%m-%d %H:%M}: {self.matched} of {self.decided}"


class RuleOfClientCount(models.Model):
    """What became of a rule in one minute in transactions of one client; a row with an empty `rule` says of how many
    transactions the policy `decided`. Only rows with numbers are written: most rules match few clients' transactions.

    A table of its own, as workers of before an upgrade add to `RuleCount` by its unique columns.
    """

    minute = models.DateTimeField()
    client = models.PositiveBigIntegerField()
    policy = models.ForeignKey(
        PolicyVersion, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False
    )
    rule = models.CharField(max_length=64, blank=True)
    decided = models.PositiveIntegerField()
    matched = models.PositiveIntegerField()
    absent = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["minute", "client", "policy", "rule"], name="one_rule_count_per_minute_and_client"
            )
        ]

    def __str__(self) -> str:
        return f"{self.client}, {self.rule}, {self.minute:%Y-%m-%d %H:%M}: {self.matched}"


class ScoreCount(models.Model):
    """How many predictions of an hour have a score in each bin, of those that one model version scored, one policy
    decided about and one segment had.

    `number` is that of the policy, 0 if the model's thresholds alone decided, and `segment` is empty without one.
    `decided` is empty if the score decided, else what lists or rules decided. `counts` are numbers of predictions by
    bin, see `scoring.policies.bins`.
    """

    hour = models.DateTimeField()
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False
    )
    number = models.PositiveIntegerField()
    segment = models.CharField(max_length=64)
    decided = models.CharField(max_length=12)
    counts = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model_version", "hour", "number", "segment", "decided"], name="one_score_count_per_hour"
            )
        ]
        indexes = [models.Index(fields=["-hour"], name="score_count_hour")]

    def __str__(self) -> str:
        return f"{self.model_version_id}, {self.hour:%Y-%m-%d %H}:00: {sum(self.counts.values())}"


class Backtest(models.Model):
    """A policy tried on stored transactions, by a bulk worker. `result` is of `scoring.policies.backtesting.Result`.

    `document` is the policy that is tried, and `version` the version that it was copied from, if any. Lists count as
    they were at each decision, or as they are now, and with them the entries of the chosen `draft_lists`, which are
    numbers of `PolicyList`. Results are also told by the value of `by_expression`, if there is one. `done` of
    about `total` transactions are decided.
    """

    class Lists(models.TextChoices):
        THEN = "then", "As they were at each decision"
        NOW = "now", "As they are now"

    class State(models.TextChoices):
        QUEUED = "queued", "Waits for a worker"
        RUNNING = "running", "Under way"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    ACTIVE = (State.QUEUED, State.RUNNING)

    schema = models.CharField(max_length=32)
    version = models.ForeignKey(PolicyVersion, null=True, on_delete=models.PROTECT, related_name="backtests")
    document = models.JSONField()
    since = models.DateTimeField()
    until = models.DateTimeField()
    lists = models.CharField(max_length=4, choices=Lists.choices, default=Lists.THEN, db_default=Lists.THEN.value)
    draft_lists = models.JSONField(default=list, db_default=models.Value([], models.JSONField()))
    by_expression = models.TextField(default="", db_default="", blank=True)
    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    done = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(default=0)
    result = models.JSONField(null=True)
    failure = models.TextField(blank=True)
    by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    heard_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"Backtest {self.pk} of {self.schema}"

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE
