import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

from monitoring.alerts.conditions import NoData

NOTE_LENGTH = 500


class Severity(models.TextChoices):
    INFO = "info", "For information"
    WARNING = "warning", "Warning"
    CRITICAL = "critical", "Critical"


class AlertRule(models.Model):
    """What is watched, and from which level on it is an alert.

    `measure` names one of `monitoring.alerts.measures`. An empty `schema` and a null `client` are all of them, each
    watched by itself. `key` names a rule that every installation has; it is empty for rules of operators' own.
    `judged_at` is when it was judged last.
    """

    class WithoutData(models.TextChoices):
        KEEP = NoData.KEEP.value, "leave everything as it is"
        FIRE = NoData.FIRE.value, "count as beyond the level"

    key = models.CharField(max_length=40, blank=True, editable=False)
    name = models.CharField(max_length=80, unique=True)
    measure = models.CharField(max_length=40)
    severity = models.CharField(max_length=8, choices=Severity.choices, default=Severity.WARNING)
    is_on = models.BooleanField("on", default=True)
    schema = models.CharField(max_length=32, blank=True, help_text="Empty: every schema, each by itself.")
    client = models.ForeignKey(
        "scoring.Client",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        help_text="Empty: every client, each by itself.",
    )
    fires_at = models.FloatField("fires at")
    clears_at = models.FloatField("clears at", help_text="A calmer level, so that a value that swings fires once.")
    lasts_min = models.PositiveIntegerField(
        "for minutes", default=0, help_text="For how long it has to be beyond the level before it fires."
    )
    calm_min = models.PositiveIntegerField(
        "calm for minutes", default=0, help_text="For how long it has to be back before it clears."
    )
    min_samples = models.PositiveIntegerField(
        "fewest samples", default=0, help_text="A value that rests on fewer counts as unknown."
    )
    least_ratio = models.FloatField(
        "at least times the usual",
        default=1.0,
        help_text="Of measures that are compared with the usual: smaller changes are no alert, however certain.",
    )
    no_data = models.CharField("without a value", max_length=4, choices=WithoutData.choices, default=WithoutData.KEEP)
    judged_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["measure", "name"]
        constraints = [models.UniqueConstraint(fields=["key"], condition=~Q(key=""), name="one_alert_rule_per_key")]

    def __str__(self) -> str:
        return self.name


class Alert(models.Model):
    """A rule that fires for one subject: firing, then perhaps acknowledged, then resolved.

    `subject` tells what fires from everything else under the rule, for a rule has one open alert for each subject;
    `schema`, `client` and `part`, such as a segment, are what it is made of. `began_at` is the beginning of the steps
    that made it fire at `fired_at`.
    `fired_value` is what was compared with the level then, `value` the latest and `shown` the latest as people read it,
    `detail` what stood out. `told_at` is when its routes were told of it last; null before that.
    """

    class State(models.TextChoices):
        FIRING = "firing", "Firing"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        RESOLVED = "resolved", "Resolved"

    OPEN = (State.FIRING, State.ACKNOWLEDGED)

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="alerts")
    subject = models.CharField(max_length=200)
    schema = models.CharField(max_length=32, blank=True)
    part = models.CharField(max_length=100, blank=True)
    client = models.ForeignKey(
        "scoring.Client", null=True, on_delete=models.SET_NULL, related_name="+", db_constraint=False
    )
    severity = models.CharField(max_length=8, choices=Severity.choices)
    state = models.CharField(max_length=12, choices=State.choices, default=State.FIRING)
    began_at = models.DateTimeField()
    fired_at = models.DateTimeField()
    fired_value = models.FloatField(null=True)
    value = models.FloatField(null=True)
    shown = models.CharField(max_length=80)
    detail = models.CharField(max_length=300, blank=True)
    judged_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    resolved_at = models.DateTimeField(null=True)
    told_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-fired_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject"], condition=Q(resolved_at=None), name="one_open_alert_per_rule_and_subject"
            )
        ]
        indexes = [models.Index(fields=["-fired_at"], name="alert_fired")]

    def __str__(self) -> str:
        return f"{self.rule}: {self.of}" if self.of else str(self.rule)

    @property
    def of(self) -> str:
        """What it is about, for people."""
        return ", ".join(str(each) for each in (self.schema, self.client, self.part) if each)

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN


class AlertEvent(models.Model):
    """What happened to an alert, and who did it: nobody if the evaluation did."""

    class Kind(models.TextChoices):
        FIRED = "fired", "Fired"
        STILL = "still", "Still fires"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        SILENCED = "silenced", "Silenced"
        RESOLVED = "resolved", "Resolved"

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    at = models.DateTimeField()
    by = models.CharField(max_length=150, blank=True)
    note = models.CharField(max_length=NOTE_LENGTH, blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.alert}"


class AlertSilence(models.Model):
    """From `starts_at` until `ends_at` nobody is told of what is silenced: of a rule, a schema, a client, or what all
    that are given have in common. It is shown in the admin all the same."""

    rule = models.ForeignKey(
        AlertRule, null=True, blank=True, on_delete=models.CASCADE, related_name="+", help_text="Empty: all rules."
    )
    schema = models.CharField(max_length=32, blank=True, help_text="Empty: all schemas.")
    client = models.ForeignKey(
        "scoring.Client",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        help_text="Empty: all clients.",
    )
    starts_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField()
    note = models.CharField(max_length=NOTE_LENGTH, help_text="Why, for colleagues.")
    by = models.CharField(max_length=150, editable=False)

    class Meta:
        ordering = ["-ends_at"]

    def __str__(self) -> str:
        of = [str(part) for part in (self.rule, self.schema, self.client) if part]
        return f"{', '.join(of) or 'everything'} until {self.ends_at:%Y-%m-%d %H:%M}"


class AlertRoute(models.Model):
    """Where alerts are told: those of at least `severity`, of the `schemas`, or of all if there are none.

    `secret` signs webhooks; it is encrypted by `scoring.webhooks.sealing`, and empty for others.
    """

    class Kind(models.TextChoices):
        EMAIL = "email", "E-mail"
        WEBHOOK = "webhook", "Webhook"
        CHAT = "chat", "Chat"

    name = models.CharField(max_length=80, unique=True)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    address = models.CharField(
        max_length=500,
        help_text="E-mail: addresses, separated by commas. Webhook and chat: https:// and a host that is reached from "
        "outside. A chat takes the address of an incoming webhook, as Slack, Mattermost and others give it.",
    )
    severity = models.CharField("from severity", max_length=8, choices=Severity.choices, default=Severity.WARNING)
    schemas = models.JSONField(default=list, blank=True)
    is_on = models.BooleanField("on", default=True)
    secret = models.TextField(blank=True, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class AlertMessage(models.Model):
    """One message to one route: the outbox. A route has at most one pending message, so that what happens while its
    receiver is away comes as one message afterwards.

    `lines` are what it tells, as `monitoring.alerts.telling` makes them. A sender claims a pending message by moving
    `due_at` into the future; what a killed one had claimed is due again. Retries stop `ALERT_RETRY_H` after
    `created_at`.
    """

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        SENT = "sent", "Sent"
        DEAD = "dead", "Given up"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    route = models.ForeignKey(AlertRoute, on_delete=models.CASCADE, related_name="messages")
    lines = models.JSONField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)
    fault = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["route"], condition=Q(state="pending"), name="one_pending_alert_message_per_route"
            )
        ]

    def __str__(self) -> str:
        return f"{self.route}: {self.get_state_display()}"


class AlertNotice(models.Model):
    """An event that a route is to be told of. It is written in the transaction of the event, and gets the `message`
    that tells it."""

    route = models.ForeignKey(AlertRoute, on_delete=models.CASCADE, related_name="+")
    event = models.ForeignKey(AlertEvent, on_delete=models.CASCADE, related_name="notices")
    message = models.ForeignKey(AlertMessage, null=True, on_delete=models.SET_NULL, related_name="notices")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["route", "event"], name="one_alert_notice_per_route_and_event")]
        indexes = [models.Index(fields=["route"], name="alert_notice_waiting", condition=Q(message=None))]

    def __str__(self) -> str:
        return f"{self.event}, to {self.route}"


class AlertSample(models.Model):
    """What the evaluation saw of a measure that nothing else keeps, such as the number of workers, in one minute."""

    measure = models.CharField(max_length=40)
    subject = models.CharField(max_length=200, blank=True)
    minute = models.DateTimeField()
    value = models.FloatField()
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["measure", "minute", "subject"], name="one_alert_sample_per_minute_and_subject"
            )
        ]
        indexes = [models.Index(fields=["minute"], name="alert_sample_minute")]

    def __str__(self) -> str:
        return f"{self.measure}, {self.minute:%Y-%m-%d %H:%M}: {self.value:g}"
