from datetime import timedelta
from typing import Self

from django.db import models


class Span(models.IntegerChoices):
    """What a roll-up adds up, by its minutes. Hours and days are those of UTC. Each is a step in which pages show a
    window, so that a window of any length is read in about as many rows."""

    MINUTE = 1, "Minute"
    QUARTER = 15, "Quarter of an hour"
    HOUR = 60, "Hour"
    THIRD = 480, "Third of a day"
    DAY = 1440, "Day"

    @property
    def length(self) -> timedelta:
        return timedelta(minutes=self)

    @classmethod
    def longer(cls) -> list[tuple[Self, Self]]:
        """All but minutes, the shortest first, and the span that each is added up from."""
        return [(span, cls.HOUR if span > cls.HOUR else cls.MINUTE) for span in cls if span != cls.MINUTE]


class TrafficRollup(models.Model):
    """What was answered in a span of time that begins at `start`, in one way.

    `client` is the client's key, and 0 has all clients together: so pages that tell of all read as few rows as those of
    one. `version` is the model version, empty without a score, and `policy` the number of the policy, 0 if the model's
    thresholds alone decided. `answer` is "scored", or why there was no score: see `scoring.models.Fallback.Reason`.
    A transaction that was answered without a score is counted as scored, too, once it has its score.

    `amount` is the sum of the transactions' amounts, in the schema's currency. `histograms` are counts by bins of the
    score and of each stage's latency: see `monitoring.rollups.histograms`.
    """

    span = models.PositiveSmallIntegerField(choices=Span.choices)
    start = models.DateTimeField()
    client = models.PositiveBigIntegerField()
    schema = models.CharField(max_length=32)
    version = models.CharField(max_length=64, blank=True)
    policy = models.PositiveIntegerField(default=0)
    decision = models.CharField(max_length=12)
    answer = models.CharField(max_length=9)
    transactions = models.PositiveBigIntegerField()
    amount = models.FloatField()
    histograms = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["span", "start", "client", "schema", "version", "policy", "decision", "answer"],
                name="one_traffic_rollup_of_each_kind",
            )
        ]
        indexes = [models.Index(fields=["span", "client", "start"], name="traffic_rollup_read")]

    def __str__(self) -> str:
        return f"{self.schema}, {self.start:%Y-%m-%d %H:%M}, {self.decision}: {self.transactions}"


class RefusalRollup(models.Model):
    """Refused calls of a span, by status and kind; those of a minute are in `scoring.models.RefusalCount` and
    `RefusalOfClientCount`. `client` is the client's key, and 0 has all calls, those without a known key among them."""

    span = models.PositiveSmallIntegerField(choices=Span.choices)
    start = models.DateTimeField()
    client = models.PositiveBigIntegerField(default=0, db_default=0)
    status = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=64)
    count = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["span", "client", "start", "status", "kind"], name="one_refusal_rollup_by_client"
            )
        ]
        indexes = [models.Index(fields=["span", "start"], name="refusal_rollup_replaced")]

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M}: {self.count} {self.status} {self.kind}"


class RuleRollup(models.Model):
    """What became of a rule in a span. Minutes are in `scoring.policies.models`, in `RuleCount` and, by
    client, in `RuleOfClientCount`, which says what an empty `rule` means. `client` is the client's key, 0 for all."""

    span = models.PositiveSmallIntegerField(choices=Span.choices)
    start = models.DateTimeField()
    client = models.PositiveBigIntegerField(default=0, db_default=0)
    schema = models.CharField(max_length=32)
    policy = models.PositiveIntegerField(help_text="The number of the policy.")
    rule = models.CharField(max_length=64, blank=True)
    decided = models.PositiveBigIntegerField()
    matched = models.PositiveBigIntegerField()
    absent = models.PositiveBigIntegerField()
    failed = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["span", "client", "schema", "start", "policy", "rule"], name="one_rule_rollup_by_client"
            )
        ]
        indexes = [models.Index(fields=["span", "start"], name="rule_rollup_replaced")]

    def __str__(self) -> str:
        return f"{self.rule}, {self.start:%Y-%m-%d %H:%M}: {self.matched} of {self.decided}"


class ReviewRollup(models.Model):
    """Decided reviews of a span by the moment of the decision; those of a minute are in
    `scoring.reviews.models.Review`. `client` is the client's key, 0 for all together, and `analyst` the key of the
    account, 0 if nobody decided. Who takes a decision back later than two days after it changes nothing here."""

    span = models.PositiveSmallIntegerField(choices=Span.choices)
    start = models.DateTimeField()
    client = models.PositiveBigIntegerField()
    schema = models.CharField(max_length=32)
    analyst = models.PositiveBigIntegerField()
    state = models.CharField(max_length=12)
    is_sample = models.BooleanField()
    by_default = models.BooleanField()
    decided = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["span", "client", "schema", "start", "analyst", "state", "is_sample", "by_default"],
                name="one_review_rollup_of_each_kind",
            )
        ]
        indexes = [models.Index(fields=["span", "start"], name="review_rollup_replaced")]

    def __str__(self) -> str:
        return f"{self.schema}, {self.start:%Y-%m-%d %H:%M}, {self.state}: {self.decided}"


class RollupProgress(models.Model):
    """One row: what is counted. All rows from `counted_from` to `counted_until` are, apart from those that are
    committed later; all before, too, if it is `whole`. Quarters of an hour and thirds of a day, which earlier versions
    did not have, are there from `merged_from` on; all of them, if it is null. Whoever writes roll-ups raises `turn`,
    and writes only if nobody else has raised it since it began to count."""

    turn = models.PositiveBigIntegerField(default=0)
    counted_from = models.DateTimeField(null=True)
    counted_until = models.DateTimeField(null=True)
    whole = models.BooleanField(default=False)
    merged_from = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"until {self.counted_until:%Y-%m-%d %H:%M:%S}" if self.counted_until else "nothing yet"
