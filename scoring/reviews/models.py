from django.db import models
from django.utils import timezone

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

    `transaction_id` is the client's. `identity` tells a repeat: see `scoring.reviews.receiving.identity_of`.
    """

    client = models.ForeignKey("scoring.Client", on_delete=models.CASCADE, related_name="+")
    transaction_id = models.CharField(max_length=64)
    kind = models.CharField(max_length=20, choices=LabelKind.choices)
    source = models.CharField(max_length=12, choices=LabelSource.choices)
    event_time = models.DateTimeField()
    amount = models.FloatField(null=True)
    reference = models.CharField(max_length=REFERENCE_LIMIT, blank=True)
    identity = models.CharField(max_length=32, unique=True)
    received_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.get_kind_display().lower()} about {self.transaction_id}"
