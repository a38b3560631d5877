import uuid

from django.db import models
from django.utils import timezone

from scoring.clients.models import ApiKey, Client
from scoring.decisions import ALERTS, Decision
from scoring.files.models import BatchFile, FileChunk, FileHistory
from scoring.learning.models import ArchivedDecisions
from scoring.lists.models import ListChange, ListEntry, PolicyList
from scoring.policies.models import Backtest, PolicyChange, PolicyVersion, RuleCount, RuleOfClientCount, ScoreCount
from scoring.privacy.models import Erasure
from scoring.retention.models import Forgotten
from scoring.reviews.attachments import Attachment
from scoring.reviews.models import (
    CardSnooze,
    Label,
    Review,
    ReviewEvent,
    ReviewLink,
    ReviewQueue,
    SampledPeriod,
    WaitingLabel,
)
from scoring.reviews.reasons import ReviewReason
from scoring.reviews.saved_views import SavedView
from scoring.reviews.second_opinions import SecondOpinion
from scoring.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookSecret
from training.core.figures import score
from training.models import ModelVersion

# Django finds an app's models here.
__all__ = [
    "ApiKey",
    "ArchivedDecisions",
    "Attachment",
    "Backtest",
    "BatchFile",
    "CardSnooze",
    "Client",
    "Erasure",
    "FileChunk",
    "FileHistory",
    "Forgotten",
    "Label",
    "ListChange",
    "ListEntry",
    "PolicyChange",
    "PolicyList",
    "PolicyVersion",
    "Review",
    "ReviewEvent",
    "ReviewLink",
    "ReviewQueue",
    "ReviewReason",
    "RuleCount",
    "RuleOfClientCount",
    "SampledPeriod",
    "SavedView",
    "ScoreCount",
    "SecondOpinion",
    "WaitingLabel",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookSecret",
]


class Transaction(models.Model):
    """A transaction as the client posted it. Insert-only.

    `fields` are the schema's features by name, `amount` among them. An amount that was sent in another currency than
    the schema's is converted in both, and `conversion` is a `scoring.messages.submission.Conversion`, else null.
    `tokens` are the tokens of its entities by name; null if it has none. `body_sha256` tells a repeat of the same body
    from another transaction with the same id. `sequence` is the place in the order of arrival of transactions and
    labels: docs/features.md. It is null for schemas without computed features, and until a transaction that is scored
    later has entered the histories. `request_id` and `trace_id` name the request that it came with. A null `request_id`
    is the same as `id`: so it is of single calls that were sent without one.

    Here and in `Prediction` the database checks no foreign key: the checks were two fifths of the cost of an insert,
    one statement writes both rows, and the rows that they refer to are never deleted (PROTECT).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    transaction_id = models.CharField(max_length=64, null=True, blank=True)
    schema = models.CharField(max_length=32)
    amount = models.FloatField(help_text="In the schema's currency.")
    fields = models.JSONField()
    tokens = models.JSONField(null=True)
    conversion = models.JSONField(null=True)
    sequence = models.BigIntegerField(null=True)
    body_sha256 = models.CharField(max_length=64)
    event_time = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now)
    request_id = models.CharField("request", max_length=64, null=True, blank=True)
    trace_id = models.UUIDField("trace", null=True, blank=True)

    class Meta:
        permissions = [("view_personal", "Can view personal values")]
        constraints = [
            models.UniqueConstraint(
                fields=["client", "transaction_id"],
                condition=models.Q(transaction_id__isnull=False),
                name="one_row_per_client_transaction_id",
                # Byte by byte, so that the index that keeps the rule also finds ids by their beginning.
                opclasses=["int8_ops", "varchar_pattern_ops"],
            )
        ]
        indexes = [
            models.Index(fields=["-received_at"], name="transaction_received"),
            # Only requests that name themselves, lists, and traces are written here.
            models.Index(
                fields=["request_id"], name="transaction_request", condition=models.Q(request_id__isnull=False)
            ),
            models.Index(fields=["trace_id"], name="transaction_trace", condition=models.Q(trace_id__isnull=False)),
            # The listings of a client: docs/decisions.md has what it costs.
            models.Index(fields=["client", "received_at", "id"], name="transaction_of_client"),
            # From an event of a history to its transaction. Sequences grow, so that it is written at its end.
            models.Index(fields=["sequence"], name="transaction_sequence", condition=models.Q(sequence__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.transaction_id or str(self.id)


class Prediction(models.Model):
    """The score of a transaction, and the decision that followed from it. Insert-only.

    `fraud_score` lies in [0, 1], higher is riskier. `threshold` is the review threshold at the time. `policy` is the
    version that decided, null if the model's thresholds alone did, and `evidence` the rules, lists and segment that had
    a say: see `scoring.policies.engine.Evidence`. `latency_ms` is
    measured from the arrival of the request to just before the commit. Parts of it are `queue_ms`, until a worker took
    the transaction, `features_ms`, while its batch's features were computed, and `model_ms`, while the model scored the
    batch. `reasons` is a list of `{"feature", "contribution", "text"}`, strongest first; only alerts have any.
    `explanation` has the contributions of all inputs, as `scoring.messages.explanation.Explanation`; null for others.
    `derived` are the computed features by name, as float64, each that is missing null; null for schemas without any.
    """

    transaction = models.OneToOneField(Transaction, primary_key=True, on_delete=models.CASCADE, db_constraint=False)
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    fraud_score = models.FloatField()
    decision = models.CharField(max_length=12, choices=Decision.choices)
    threshold = models.FloatField()
    policy = models.ForeignKey(
        PolicyVersion, null=True, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    evidence = models.JSONField(null=True)
    reasons = models.JSONField(default=list)
    explanation = models.JSONField(null=True)
    derived = models.JSONField(null=True)
    latency_ms = models.FloatField()
    queue_ms = models.FloatField(db_default=0.0)
    features_ms = models.FloatField(db_default=0.0)
    model_ms = models.FloatField(db_default=0.0)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [
            models.Index(fields=["-created_at"], name="prediction_created"),
            models.Index(fields=["model_version", "-created_at"], name="prediction_of_version"),
            models.Index(
                fields=["-created_at"],
                name="alert_created",
                condition=~models.Q(decision=Decision.APPROVE),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.decision} at {score(self.fraud_score)}"

    @property
    def is_alert(self) -> bool:
        return self.decision in ALERTS


class History(models.Model):
    """The latest events of an entity (a card, a terminal), in the format of `training.core.features.replay`.

    A history is written in the same database transaction as the transactions and labels that it includes.
    `last_sequence` is the largest sequence among these; 0 if there are none. `token` identifies schema, entity and
    value.
    """

    token = models.CharField(max_length=32, primary_key=True)
    schema = models.CharField(max_length=32)
    entity = models.CharField(max_length=64)
    events = models.BinaryField()
    last_sequence = models.BigIntegerField()
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "histories"

    def __str__(self) -> str:
        return f"{self.entity} {self.token[:8]}…"


class Fallback(models.Model):
    """A decision by rules about a transaction that no worker could score in time. Insert-only; the score follows.

    `reason` is the `degraded` field of the answer, and `lists` are the names of those that decided.
    """

    class Reason(models.TextChoices):
        DEADLINE = "deadline", "No worker answered inside the deadline"
        NO_WORKER = "no_worker", "No worker has answered for a while"
        BROKER = "broker", "The message broker did not answer"
        WORKER = "worker", "The worker could not score"

    transaction = models.OneToOneField(Transaction, primary_key=True, on_delete=models.CASCADE)
    decision = models.CharField(max_length=12, choices=Decision.choices)
    reason = models.CharField(max_length=9, choices=Reason.choices)
    lists = models.JSONField(default=list, db_default=models.Value([], models.JSONField()))
    latency_ms = models.FloatField()
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.decision} without a score"

    @property
    def is_alert(self) -> bool:
        return self.decision in ALERTS


class Pending(models.Model):
    """A stored transaction that waits for its score: accepted for later, or answered by a fallback.

    The row is inserted with the transaction and deleted with the prediction, so a message that the broker loses does
    no harm. After `PENDING_ATTEMPTS_LIMIT` attempts it is set aside, for a person to look at.

    `attempts` counts only failures that the row may have caused: it was scored alone, and failed or killed its worker.
    `suspect` says that a worker began to score its batch and has not finished; suspects are scored alone. `sent` is how
    often it was sent again, for any reason; the wait before the next time depends on it.
    """

    transaction = models.OneToOneField(Transaction, primary_key=True, on_delete=models.CASCADE)
    attempts = models.PositiveSmallIntegerField(default=0)
    sent = models.PositiveIntegerField(default=0, db_default=0)
    suspect = models.BooleanField(default=False, db_default=False)
    due_at = models.DateTimeField(db_index=True)
    fault = models.CharField(max_length=200, blank=True, help_text="Why the last attempt failed, where that is known.")
    request_id = models.CharField(
        max_length=64, blank=True, db_default="", help_text="Of the request that it came with, for the logs."
    )

    class Meta:
        verbose_name_plural = "pending"

    def __str__(self) -> str:
        return f"{self.attempts} attempts"


class RefusalCount(models.Model):
    """How many calls, and rows of lists, were refused in one minute in one way. `kind` is the title of the problem."""

    minute = models.DateTimeField()
    status = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=64)
    count = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["minute", "status", "kind"], name="one_refusal_count_per_minute_and_kind")
        ]

    def __str__(self) -> str:
        return f"{self.minute:%Y-%m-%d %H:%M}: {self.count} {self.status} {self.kind}"


class RefusalOfClientCount(models.Model):
    """Of the refused calls of `RefusalCount`, those with a key of one client. A table of its own, as web processes of
    before an upgrade add to `RefusalCount` by its unique columns."""

    minute = models.DateTimeField()
    client = models.PositiveBigIntegerField()
    status = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=64)
    count = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["minute", "client", "status", "kind"], name="one_refusal_count_per_minute_and_client"
            )
        ]

    def __str__(self) -> str:
        return f"{self.client}, {self.minute:%Y-%m-%d %H:%M}: {self.count} {self.status} {self.kind}"


class ShadowScore(models.Model):
    """The score that a shadow gives to a transaction. Insert-only, written some seconds after the answer.

    `created_at` is that of the champion's prediction.
    """

    transaction = models.ForeignKey(
        Transaction, on_delete=models.CASCADE, related_name="shadow_scores", db_constraint=False, db_index=False
    )
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    fraud_score = models.FloatField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["transaction", "model_version"], name="one_shadow_score_per_version")
        ]
        indexes = [models.Index(fields=["model_version", "-created_at"], name="shadow_score_of_version")]

    def __str__(self) -> str:
        return f"{score(self.fraud_score)} by {self.model_version_id}"


class ShadowProgress(models.Model):
    """The moment until which a shadow has scored the traffic."""

    model_version = models.OneToOneField(ModelVersion, primary_key=True, on_delete=models.CASCADE, related_name="+")
    scored_until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.model_version_id} until {self.scored_until:%H:%M:%S}"
