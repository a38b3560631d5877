import hashlib
import secrets
import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from scoring.decisions import Decision
from training.core.figures import score
from training.models import ModelVersion


class Client(models.Model):
    """A payments system that posts transactions. It sees its own rows only."""

    name = models.CharField(max_length=100, unique=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    # What DRF's IsAuthenticated asks of whoever is behind a request.
    is_authenticated = True

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A client's key: `prefix` to recognise it by, SHA-256 of the whole to check it against.

    The key has 256 random bits, so a fast hash is as safe as a slow one and does not tax each request.
    """

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="keys")
    prefix = models.CharField(max_length=12, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @staticmethod
    def digest_of(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    @classmethod
    def draw(cls, client: Client) -> tuple[Self, str]:
        """Make an unsaved key. Returns the row and the key itself, which is stored nowhere."""
        key = f"fs_{secrets.token_urlsafe(32)}"
        return cls(client=client, prefix=key[:9], digest=cls.digest_of(key)), key


class Transaction(models.Model):
    """What a client posted, as it was posted. Insert-only.

    `fields` are the schema's features by name, `tokens` what stands for its entities, by name; null where it has none.
    `body_sha256` tells a repeat of the same body from another transaction under the same id. `sequence` is the
    transaction's place in the order of arrival, which it shares with labels: docs/features.md. It is null for schemas
    that compute nothing, and until a transaction that is scored later has passed the histories.

    Here and in `Prediction` the database checks no foreign key: the checks were two fifths of the cost of an insert,
    both rows are written by one statement, and what they refer to is never deleted (PROTECT).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    transaction_id = models.CharField(max_length=64, null=True, blank=True)
    schema = models.CharField(max_length=32)
    amount = models.FloatField(help_text="In the schema's currency.")
    fields = models.JSONField()
    tokens = models.JSONField(null=True)
    sequence = models.BigIntegerField(null=True)
    body_sha256 = models.CharField(max_length=64)
    event_time = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["client", "transaction_id"],
                condition=models.Q(transaction_id__isnull=False),
                name="one_row_per_client_transaction_id",
                # Byte by byte, so that the index that keeps the rule also finds ids by their beginning.
                opclasses=["int8_ops", "varchar_pattern_ops"],
            )
        ]
        indexes = [models.Index(fields=["-received_at"], name="transaction_received")]

    def __str__(self) -> str:
        return self.transaction_id or str(self.id)


class Prediction(models.Model):
    """What a model said of a transaction, and what was decided. Insert-only.

    `fraud_score` lies in [0, 1], higher is riskier. `threshold` is the review threshold that held then. `latency_ms`
    runs from the arrival of the request to the moment before the commit; of it, `queue_ms` passed before a worker took
    the transaction, `features_ms` while its batch's features were made and `model_ms` while the model scored the batch.
    `reasons` is a list of `{"feature", "contribution"}`, alerts only, strongest first. `derived` are the computed
    features by name, as the model saw them before they became float32; null for schemas that compute nothing.
    """

    transaction = models.OneToOneField(Transaction, primary_key=True, on_delete=models.CASCADE, db_constraint=False)
    model_version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    fraud_score = models.FloatField()
    decision = models.CharField(max_length=8, choices=Decision.choices)
    threshold = models.FloatField()
    reasons = models.JSONField(default=list)
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
            models.Index(fields=["-created_at"], name="alert_created", condition=~models.Q(decision=Decision.APPROVE)),
        ]

    def __str__(self) -> str:
        return f"{self.decision} at {score(self.fraud_score)}"

    @property
    def is_alert(self) -> bool:
        return self.decision != Decision.APPROVE


class History(models.Model):
    """What is remembered of a card, a terminal or another entity: its latest events, as `training.core.features.replay`
    keeps them. Written in the database transaction that stores what it has seen, so neither is ahead of the other.

    `last_sequence` is the largest place in the order of arrival among what it has seen; 0 if it has seen nothing.
    `token` stands for schema, entity and value.
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
    """What we answered about a transaction while no worker could score it. Insert-only; the score follows.

    `reason` says what was wrong, as the `degraded` field of the answer did.
    """

    class Reason(models.TextChoices):
        DEADLINE = "deadline", "No worker answered inside the deadline"
        NO_WORKER = "no_worker", "No worker has answered for a while"
        BROKER = "broker", "The message broker did not answer"
        WORKER = "worker", "The worker could not score"

    transaction = models.OneToOneField(Transaction, primary_key=True, on_delete=models.CASCADE)
    decision = models.CharField(max_length=8, choices=Decision.choices)
    reason = models.CharField(max_length=9, choices=Reason.choices)
    latency_ms = models.FloatField()
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.decision} without a score"

    @property
    def is_alert(self) -> bool:
        return self.decision != Decision.APPROVE


class Pending(models.Model):
    """A stored transaction that waits for its score: accepted for later, or answered by a fallback.

    The row is written with the transaction and deleted with the prediction, so nothing that the message broker loses
    is forgotten. After `PENDING_ATTEMPTS_LIMIT` attempts it is left alone, for a person to look at.

    Only what may be the fault of the row counts among `attempts`: it was scored alone, and failed or took its worker
    along. `suspect` says that a worker began to score its batch and has not come back; such rows are scored alone.
    `sent` is how often it was sent again, for whatever reason, and says how long to wait before the next time.
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


class Review(models.Model):
    """An alert in the queue of the analysts."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        FRAUD = "fraud", "Confirmed fraud"
        LEGITIMATE = "legitimate", "Legitimate"

    prediction = models.OneToOneField(Prediction, primary_key=True, on_delete=models.CASCADE)
    state = models.CharField(max_length=12, choices=State.choices, default=State.OPEN)
    # Copied from the prediction, so that the queue is one index scan however long the history grows.
    fraud_score = models.FloatField()
    opened_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="reviews"
    )
    # Who is at it: `scoring.reviews.claims`.
    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    claimed_until = models.DateTimeField(null=True, editable=False)

    class Meta:
        indexes = [
            models.Index(fields=["state", "-fraud_score"], name="review_queue"),
            models.Index(fields=["closed_at"], name="review_closed"),
            models.Index(fields=["-opened_at"], name="review_newest", condition=models.Q(state="open")),
        ]

    def __str__(self) -> str:
        return f"{self.get_state_display()}, score {score(self.fraud_score)}"

    @property
    def is_claimed(self) -> bool:
        return self.claimed_by_id is not None and self.claimed_until is not None and self.claimed_until > timezone.now()


class Label(models.Model):
    """Somebody's word on whether a transaction was fraud. Never changed: a later word is a new row, and the latest
    counts. One whose `is_fraud` is null takes back what was said before.

    `sequence` is its place in the order of arrival, where the transaction has one: from there on, computed features
    of later transactions know of it. `act` is shared by what one click labelled, and `review_before` is what the
    review was before it: with them it can be undone.
    """

    class Source(models.TextChoices):
        ANALYST = "analyst", "Analyst"
        CHARGEBACK = "chargeback", "Chargeback"
        IMPORT = "import", "Import"

    transaction = models.ForeignKey(Transaction, on_delete=models.CASCADE, related_name="labels")
    # Words for the filter and every place that shows the value: fraud is no success, so a tick would mislead.
    is_fraud = models.BooleanField(
        "label", null=True, choices=[(True, "Fraud"), (False, "Legitimate"), (None, "Taken back")]
    )
    sequence = models.BigIntegerField(null=True, editable=False)
    source = models.CharField(max_length=12, choices=Source.choices)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="labels"
    )
    reason = models.TextField(blank=True, db_default="")
    act = models.UUIDField(null=True, editable=False, db_index=True)
    review_before = models.JSONField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["transaction", "-created_at"], name="label_latest")]

    def __str__(self) -> str:
        return f"{self.get_is_fraud_display().lower()} by {self.get_source_display().lower()}"


class RefusalCount(models.Model):
    """Calls of one minute that were refused in one way, and rows of lists. `kind` is the title of the problem."""

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


class ShadowScore(models.Model):
    """What a shadow would have said of a transaction. Insert-only, written some seconds after the answer.

    `created_at` is that of the prediction which it stands beside.
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
    """Up to which moment of the traffic a shadow has scored along."""

    model_version = models.OneToOneField(ModelVersion, primary_key=True, on_delete=models.CASCADE, related_name="+")
    scored_until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.model_version_id} until {self.scored_until:%H:%M:%S}"
