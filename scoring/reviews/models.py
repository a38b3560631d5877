from django.conf import settings
from django.db import models
from django.utils import timezone

from scoring.decisions import Decision
from training.core.figures import score

REFERENCE_LIMIT = 64


class LabelKind(models.TextChoices):
    """What is said of a transaction. `scoring.reviews.verdicts.WORDS` has what each means for the model."""

    FRAUD = "fraud", "Fraud"
    LEGITIMATE = "legitimate", "Legitimate"
    DISPUTED = "disputed", "Disputed"
    FRIENDLY_FRAUD = "friendly_fraud", "Friendly fraud"
    CHARGEBACK_WON = "chargeback_won", "Chargeback won"
    CHARGEBACK_LOST = "chargeback_lost", "Chargeback lost"
    EARLY_FRAUD_WARNING = "early_fraud_warning", "Early fraud warning"
    RETRACTED = "retracted", "Taken back"


class LabelSource(models.TextChoices):
    """Who says it. `scoring.reviews.verdicts.ORDER` has whose word holds."""

    ANALYST = "analyst", "Analyst"
    CHARGEBACK = "chargeback", "Chargeback"
    NETWORK = "network", "Card network"
    CLIENT = "client", "Client"
    IMPORT = "import", "Import"


class WaitingLabel(models.Model):
    """A label whose transaction has not arrived yet. It is deleted when it becomes a label, or when it expires.

    `transaction_id` is the client's. `identity` tells a repeat: see `scoring.reviews.receiving.identity_of`. `schemas`
    are those of the key that it was sent with; about a transaction of another schema it becomes no label.
    """

    client = models.ForeignKey("scoring.Client", on_delete=models.CASCADE, related_name="+")
    transaction_id = models.CharField(max_length=64)
    kind = models.CharField(max_length=20, choices=LabelKind.choices)
    source = models.CharField(max_length=12, choices=LabelSource.choices)
    event_time = models.DateTimeField()
    amount = models.FloatField(null=True)
    reference = models.CharField(max_length=REFERENCE_LIMIT, blank=True)
    identity = models.CharField(max_length=32, unique=True)
    schemas = models.JSONField(default=list, db_default=models.Value([], models.JSONField()))
    received_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.get_kind_display().lower()} about {self.transaction_id}"


class ReviewQueue(models.Model):
    """A queue of reviews. A new review goes to the first active queue, by position, whose expression is true of it.

    `expression` is CEL over what rules may use (see `scoring.policies.names`); an empty one is true of every review.
    Analysts of the `groups` work on the queue, or every analyst if it has none.
    """

    class WhenDue(models.TextChoices):
        """What happens to a review that nobody decided in time."""

        NOTHING = "", "Nothing"
        ESCALATE = "escalate", "Escalate to the supervisors"
        CONFIRM = "fraud", "Confirm fraud"
        DISMISS = "legitimate", "Mark legitimate"

    name = models.CharField(max_length=40, unique=True)
    position = models.PositiveSmallIntegerField(default=0)
    expression = models.TextField(blank=True)
    is_active = models.BooleanField(default=True)
    is_for_supervisors = models.BooleanField(default=False, help_text="Escalated reviews go here.")
    groups = models.ManyToManyField("auth.Group", blank=True, related_name="+")
    due_minutes = models.PositiveIntegerField(null=True, blank=True)
    when_due = models.CharField(max_length=12, choices=WhenDue.choices, blank=True)
    failures = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="How often the expression could not be calculated."
    )

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.name


class Review(models.Model):
    """A case for the analysts: an alert, or approved traffic that was drawn for the random sample.

    `expected_loss` is the calibrated score times the amount, in the base currency of the schema. `decision` is what the
    client heard, `reason` the field that raised the score most, `rules` the active rules that matched, each between
    spaces, and `card` the token of the card. `queue` is null if no queue asked for it. An open review is late from
    `due_at` on; null if its queue has no due time, or its action for late reviews was taken. `decided_by_default` says
    that this action closed it, so nobody has judged it. A review is not offered before `snoozed_until`. A colleague
    handed it to `assigned_to`, and until `assigned_until` it is offered to nobody else. `sample_probability` is the
    probability with which the random sample drew it; null for alerts.
    """

    class State(models.TextChoices):
        OPEN = "open", "Open"
        FRAUD = "fraud", "Confirmed fraud"
        LEGITIMATE = "legitimate", "Legitimate"

    prediction = models.OneToOneField("scoring.Prediction", primary_key=True, on_delete=models.CASCADE)
    state = models.CharField(max_length=12, choices=State.choices, default=State.OPEN)
    # Copied from the prediction, so that the queue is one index scan however many predictions there are.
    fraud_score = models.FloatField()
    expected_loss = models.FloatField(default=0.0, db_default=0.0)
    # Copies for the filters of the list, by `scoring.worker.opening`.
    client = models.ForeignKey(
        "scoring.Client", null=True, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )
    schema = models.CharField(max_length=32, default="", db_default="")
    amount = models.FloatField(default=0.0, db_default=0.0)
    decision = models.CharField(max_length=12, choices=Decision.choices, default="", db_default="")
    reason = models.CharField(max_length=128, default="", db_default="")
    rules = models.TextField(default="", db_default="")
    card = models.CharField(max_length=32, default="", db_default="")
    queue = models.ForeignKey(ReviewQueue, null=True, blank=True, on_delete=models.PROTECT, related_name="reviews")
    due_at = models.DateTimeField(null=True, blank=True)
    snoozed_until = models.DateTimeField(null=True, blank=True)
    is_sample = models.BooleanField(default=False, db_default=False, editable=False)
    sample_probability = models.FloatField(null=True, editable=False)
    opened_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="reviews"
    )
    # Who works on it: see `scoring.reviews.queue`.
    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    claimed_until = models.DateTimeField(null=True, editable=False)
    assigned_to = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    assigned_until = models.DateTimeField(null=True, editable=False)
    decided_by_default = models.BooleanField(default=False, db_default=False, editable=False)
    claimed_since = models.DateTimeField(null=True, editable=False)
    # From the opening of the page by its reviewer to the decision; null if the review was not opened before.
    decided_in_s = models.FloatField(null=True, editable=False)

    class Meta:
        permissions = [
            ("escalate_review", "Can hand a review over, or escalate it to the supervisors"),
            ("second_review", "Can give the second opinion on a decided review"),
            ("supervise_review", "Can take, release and assign the reviews of others"),
            ("view_quality", "Can view agreement and time per decision by analyst"),
        ]
        indexes = [
            models.Index(fields=["state", "-fraud_score"], name="review_queue"),
            models.Index(fields=["-expected_loss"], name="review_by_loss", condition=models.Q(state="open")),
            models.Index(fields=["-expected_loss"], name="review_of_any_state_by_loss"),
            models.Index(fields=["closed_at"], name="review_closed"),
            # The listings of a client, by opening and by decision.
            models.Index(fields=["client", "opened_at", "prediction"], name="review_of_client"),
            models.Index(
                fields=["client", "closed_at", "prediction"],
                name="review_of_client_closed",
                condition=models.Q(closed_at__isnull=False),
            ),
            models.Index(fields=["-opened_at"], name="review_newest", condition=models.Q(state="open")),
            models.Index(fields=["queue", "due_at"], name="review_due", condition=models.Q(state="open")),
            models.Index(
                fields=["assigned_to"],
                name="review_assigned",
                condition=models.Q(state="open", assigned_to__isnull=False),
            ),
            models.Index(
                fields=["queue", "opened_at", "due_at"], name="review_of_queue", condition=models.Q(state="open")
            ),
            # Byte by byte, so that cards are also found by the beginning of their token.
            models.Index(
                fields=["card"], name="review_of_card", condition=~models.Q(card=""), opclasses=["varchar_pattern_ops"]
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_state_display()}, score {score(self.fraud_score)}"

    @property
    def is_claimed(self) -> bool:
        return self.claimed_by_id is not None and self.claimed_until is not None and self.claimed_until > timezone.now()

    @property
    def is_assigned(self) -> bool:
        """Whether a colleague handed it to somebody for whom it waits."""
        handed = self.assigned_to_id is not None and self.state == self.State.OPEN
        return handed and self.assigned_until is not None and self.assigned_until > timezone.now()


class ReviewEvent(models.Model):
    """What was done with a review, apart from its labels: the history of a case. Insert-only.

    `by` is null for what the system did. `to` is the colleague, the queue or the time that it is about.
    """

    class Did(models.TextChoices):
        HANDED_OVER = "handed_over", "Handed over"
        ESCALATED = "escalated", "Escalated"
        TAKEN_OVER = "taken_over", "Taken over"
        SNOOZED = "snoozed", "Snoozed"
        CARD_SNOOZED = "card_snoozed", "Card snoozed"
        WOKEN = "woken", "Woken"
        LATE = "late", "Was late"

    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="events")
    did = models.CharField(max_length=12, choices=Did.choices)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    to = models.CharField(max_length=150, blank=True)
    note = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.get_did_display()} {self.to}".strip()


class CardSnooze(models.Model):
    """Reviews of a card, also those that come, are not offered before `until`. `card` is the token."""

    card = models.CharField(max_length=32, primary_key=True)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.card[:8]}… until {self.until:%Y-%m-%d %H:%M}"


class SampledPeriod(models.Model):
    """A stretch of time whose approved traffic the random sample was drawn from, within one day of UTC: after `since`,
    up to `until`. `drawn` are its reviews."""

    since = models.DateTimeField()
    until = models.DateTimeField(db_index=True)
    drawn = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.since:%Y-%m-%d %H:%M} to {self.until:%H:%M}: {self.drawn}"


class ReviewLink(models.Model):
    """Something that a review shares with others: an entity of its transaction, or a value that tells a person or a
    device. `key` is the token of an entity, or the hash of a stored value: see `scoring.linked`."""

    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="links", db_index=False)
    name = models.CharField(max_length=64)
    key = models.CharField(max_length=32)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["review", "name"], name="one_link_per_review_and_name")]
        # Fraudsite's ids (UUIDv7) increase with time, so the newest alerts with a key are next to each other.
        indexes = [models.Index(fields=["key", "-review"], name="review_link_newest")]

    def __str__(self) -> str:
        return f"{self.name} {self.key[:8]}…"


class Label(models.Model):
    """What somebody says of a transaction. Never changed: a correction or a reversal is a new row.

    `is_fraud` is what the label says, null if it leaves that open or takes back what its source said. `verdict` is what
    holds of all labels from this one on: see `scoring.reviews.verdicts`. `event_time` is when it was said, `created_at`
    when it became known here, later than that of every earlier label of the transaction.

    `sequence` is its place in the order of arrival, if it changed the verdict and the transaction has one: computed
    features of transactions after it use the verdict. The labels of one click share an `act`, and `review_before` is
    the state of the review before it; undoing needs both. `identity` tells a client's repeat, and `client` is who sent
    the label; both are null for other labels.
    `code` is that of a `ReviewReason`, empty if none was chosen; `reason` is what the author wrote.
    """

    Kind = LabelKind
    Source = LabelSource

    transaction = models.ForeignKey("scoring.Transaction", on_delete=models.CASCADE, related_name="labels")
    # The choices name the values, as Django would show a tick for fraud, which looks like success.
    is_fraud = models.BooleanField(
        "label", null=True, choices=[(True, "Fraud"), (False, "Legitimate"), (None, "Taken back")]
    )
    kind = models.CharField(max_length=20, choices=LabelKind.choices, blank=True, db_default="")
    verdict = models.BooleanField(null=True, editable=False)
    sequence = models.BigIntegerField(null=True, editable=False)
    source = models.CharField(max_length=12, choices=LabelSource.choices)
    event_time = models.DateTimeField(default=timezone.now)
    amount = models.FloatField(null=True, blank=True)
    reference = models.CharField(max_length=REFERENCE_LIMIT, blank=True, db_default="")
    identity = models.CharField(max_length=32, null=True, unique=True, editable=False)
    client = models.ForeignKey(
        "scoring.Client",
        null=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="labels"
    )
    reason = models.TextField(blank=True, db_default="")
    code = models.CharField("reason code", max_length=32, blank=True, db_default="")
    act = models.UUIDField(null=True, editable=False, db_index=True)
    review_before = models.JSONField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [
            models.Index(fields=["transaction", "-created_at"], name="label_latest"),
            models.Index(fields=["-created_at"], name="label_fraud", condition=models.Q(verdict=True)),
            # The listing of a client's own labels.
            models.Index(
                fields=["client", "created_at", "id"],
                name="label_of_client",
                condition=models.Q(client__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_is_fraud_display().lower()} by {self.get_source_display().lower()}"
