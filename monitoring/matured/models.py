from django.db import models

from training.models import ModelVersion


class OutcomeDay(models.Model):
    """A day of decisions, UTC. Whatever may have changed its outcomes raises `marked`; a count of them that began
    afterwards sets `counted` to that. It is stale while they differ."""

    day = models.DateField(primary_key=True)
    marked = models.PositiveBigIntegerField(default=1)
    counted = models.PositiveBigIntegerField(default=0)
    counted_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.day}"


class OutcomeProgress(models.Model):
    """One row: the labels up to this key have marked their days."""

    labels_until = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"label {self.labels_until}"


class OutcomeCount(models.Model):
    """What became of the decisions of a day that a model version and a policy made in one way. `client` is the client's
    key, and 0 has all clients together, here and below.

    `by` is empty for all decisions. For those of a rule that matched, or of a review queue, it is "rule" or "queue",
    and `name` its name; they are alerts only, and an alert with two rules is in both. `policy` is the number of the
    policy, 0 if the model's thresholds alone decided. `decision` is what would have been decided without the control
    group, `propensity` the chance of being let through, 0 if the control group could not have it.

    Of `rows` decisions, `labelled` have a label that holds, `undecided` only labels of which none holds, and `frauds`
    are labelled as fraud; `fraud_amount` and `fraud_square` are these frauds' amounts, summed and squared. The others
    are of what was no alert. `reported` frauds are known whether or not the random sample drew them. `drawn` are the
    sample's and `judged` those that an analyst decided, which stand for `drawn_weight` and `judged_weight`, sums of
    1 / probability. Of the judged, `unreported` is the sum of the difference between the judgement and what others
    report, each over its probability; `unreported_square` has the squares.
    """

    day = models.DateField()
    schema = models.CharField(max_length=32)
    client = models.PositiveBigIntegerField(default=0, db_default=0)
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+", db_index=False)
    policy = models.PositiveIntegerField(default=0)
    by = models.CharField(max_length=8, blank=True)
    name = models.CharField(max_length=64, blank=True)
    decision = models.CharField(max_length=12)
    propensity = models.FloatField(default=0.0)
    let_through = models.BooleanField(default=False)
    rows = models.PositiveIntegerField(default=0)
    labelled = models.PositiveIntegerField(default=0)
    undecided = models.PositiveIntegerField(default=0)
    frauds = models.PositiveIntegerField(default=0)
    fraud_amount = models.FloatField(default=0.0)
    fraud_square = models.FloatField(default=0.0)
    reported = models.PositiveIntegerField(default=0)
    drawn = models.PositiveIntegerField(default=0)
    judged = models.PositiveIntegerField(default=0)
    drawn_weight = models.FloatField(default=0.0)
    judged_weight = models.FloatField(default=0.0)
    unreported = models.FloatField(default=0.0)
    unreported_square = models.FloatField(default=0.0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=[
                    *("schema", "by", "day", "model_version", "policy"),
                    *("name", "decision", "propensity", "let_through", "client"),
                ],
                name="one_outcome_count_by_client",
            )
        ]
        indexes = [models.Index(fields=["day"], name="outcome_count_day")]

    def __str__(self) -> str:
        return f"{self.day}, {self.model_version_id}, {self.by} {self.name}: {self.frauds} of {self.rows}"


class ScoreOutcome(models.Model):
    """What became of the decisions of a day that a model version made in one way, by bands of their score: those of
    `OutcomeCount` without `by`, of all policies together.

    `sums` has numbers by band of `monitoring.matured.bands`, for each of `BANDED`; `score` is the sum of the scores.
    Bands in which a sum is 0 are left out.
    """

    BANDED = (
        *("rows", "score", "labelled", "undecided", "frauds"),
        *("reported", "unreported", "unreported_square"),
    )

    day = models.DateField()
    schema = models.CharField(max_length=32)
    client = models.PositiveBigIntegerField(default=0, db_default=0)
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+", db_index=False)
    decision = models.CharField(max_length=12)
    propensity = models.FloatField(default=0.0)
    let_through = models.BooleanField(default=False)
    sums = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["schema", "day", "model_version", "decision", "propensity", "let_through", "client"],
                name="one_score_outcome_by_client",
            )
        ]
        indexes = [models.Index(fields=["day"], name="score_outcome_day")]

    def __str__(self) -> str:
        return f"{self.day}, {self.model_version_id}, {self.decision}: {sum(self.sums.get('rows', {}).values())}"


class LabelDelay(models.Model):
    """How long after decisions of a day a source said something of them for the first time: numbers of transactions by
    bin of `monitoring.matured.delays`."""

    day = models.DateField()
    schema = models.CharField(max_length=32)
    client = models.PositiveBigIntegerField(default=0, db_default=0)
    source = models.CharField(max_length=12)
    counts = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["schema", "day", "source", "client"], name="one_label_delay_by_client")
        ]

    def __str__(self) -> str:
        return f"{self.day}, {self.source}: {sum(self.counts.values())}"
