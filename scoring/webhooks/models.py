import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

from scoring.webhooks.types import ALL_TYPES

URL_LENGTH = 500
FAULT_LENGTH = 200


class WebhookEndpoint(models.Model):
    """An address of a client that is told of events.

    `event_types` are those that it is told, and `schemas` the schemas whose events it is told, all if there are none.
    While it is paused its events are stored, and wait. A disabled one asked for no more (410), and nothing is stored
    for it; `fault` says why. A removed one is hidden, and its deliveries go by `manage.py`'s retention. Nothing is sent
    before `wait_until`, for which its receiver asked. `failures` are the failed attempts since the last that succeeded.
    """

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        PAUSED = "paused", "Paused"
        DISABLED = "disabled", "Disabled"
        REMOVED = "removed", "Removed"

    # Those for which events are stored.
    HEARING = (State.ACTIVE, State.PAUSED)

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    client = models.ForeignKey("scoring.Client", on_delete=models.PROTECT, related_name="webhooks")
    url = models.CharField("URL", max_length=URL_LENGTH)
    description = models.CharField(max_length=200, blank=True)
    event_types = models.JSONField(default=list)
    schemas = models.JSONField(default=list, blank=True)
    state = models.CharField(max_length=12, choices=State.choices, default=State.ACTIVE)
    fault = models.CharField(max_length=FAULT_LENGTH, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    wait_until = models.DateTimeField(null=True, editable=False)
    last_success_at = models.DateTimeField(null=True, editable=False)
    last_failure_at = models.DateTimeField(null=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        verbose_name = "webhook endpoint"

    def __str__(self) -> str:
        return self.url


class WebhookSecret(models.Model):
    """A secret that signs what is sent to an endpoint, encrypted by `scoring.webhooks.sealing`. Several are live while
    a receiver changes over; from `expires_at` on it signs nothing."""

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="secrets")
    sealed = models.TextField(editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"secret {self.pk}"


class WebhookDelivery(models.Model):
    """An event on its way to one endpoint: the outbox. It is written in the transaction of what it tells.

    `event_id` tells a repeat. `object` is what the event is about: one endpoint hears the events of an object in the
    order of their keys here, so a delivery waits for the pending ones before it. `payload` is the body, to the byte.
    A pending delivery may be attempted from `due_at` on; a deliverer claims it by moving that into the future, so what
    a killed one had claimed is due again. A dead one is not tried any more, but by a replay.
    """

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        DELIVERED = "delivered", "Delivered"
        DEAD = "dead", "Dead"

    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_constraint=False, db_index=False
    )
    event_id = models.UUIDField(default=uuid.uuid4, db_index=True)
    type = models.CharField(max_length=32, choices=ALL_TYPES)
    object = models.CharField(max_length=128)
    payload = models.TextField()
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING, db_default="pending")
    attempts = models.PositiveIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField(default=timezone.now)
    # When its time to be retried began: its creation, or its last replay.
    since = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)
    fault = models.CharField(max_length=FAULT_LENGTH, blank=True, default="", db_default="")
    # The `traceparent` of what it tells of, if that is recorded.
    span = models.CharField(max_length=55, blank=True, default="", db_default="", editable=False)

    class Meta:
        verbose_name_plural = "webhook deliveries"
        indexes = [
            models.Index(fields=["endpoint", "-id"], name="webhook_of_endpoint"),
            models.Index(fields=["endpoint", "due_at", "id"], name="webhook_due", condition=Q(state="pending")),
            models.Index(fields=["endpoint", "object", "id"], name="webhook_order", condition=Q(state="pending")),
            models.Index(fields=["endpoint", "-id"], name="webhook_dead", condition=Q(state="dead")),
            models.Index(fields=["finished_at"], name="webhook_finished", condition=~Q(state="pending")),
        ]

    def __str__(self) -> str:
        return self.message_id

    @property
    def message_id(self) -> str:
        """The `webhook-id` of the message: the same in every attempt."""
        return f"msg_{self.event_id.hex}"


class WebhookAttempt(models.Model):
    """One attempt to deliver. `status` is that of the answer, null if there was none, and `answer` its beginning."""

    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="tries", db_constraint=False)
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False
    )
    at = models.DateTimeField()
    is_success = models.BooleanField()
    status = models.PositiveSmallIntegerField(null=True)
    latency_ms = models.FloatField()
    fault = models.CharField(max_length=FAULT_LENGTH, blank=True)
    answer = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["endpoint", "-id"], name="webhook_attempts")]

    def __str__(self) -> str:
        return f"{self.status or 'no answer'} after {self.latency_ms:.0f} ms"
