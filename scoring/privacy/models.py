import uuid_utils.compat
from django.db import models
from django.utils import timezone

REFERENCE_LIMIT = 64
PERSON_LIMIT = 150


def new_id() -> uuid_utils.compat.UUID:
    return uuid_utils.compat.uuid7()


class Erasure(models.Model):
    """The erasure of an entity, such as a card: counted first, then confirmed, then done step by step.

    `held` is a `scoring.privacy.finding.Held`: the tokens and keys by which the entity is found. It is emptied at the
    end, so that the receipt tells neither the value nor its token; `reference` is what the request is known by
    elsewhere. Without a `client` the entity is erased at all of them. `cursor` is the last transaction that was looked
    at, `looked_at` how many were. `counts` are the rows found or erased by their kind. Transactions that arrive after
    `until` are those of an entity that begins anew.
    """

    class State(models.TextChoices):
        COUNTING = "counting", "Being counted"
        COUNTED = "counted", "Counted: waits to be confirmed"
        ERASING = "erasing", "Being erased"
        DONE = "done", "Erased"
        CANCELLED = "cancelled", "Cancelled"

    # In which there is something to do.
    ACTIVE = (State.COUNTING, State.ERASING)

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    schema = models.CharField(max_length=32)
    entity = models.CharField(max_length=64)
    client = models.ForeignKey("scoring.Client", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    reference = models.CharField(max_length=REFERENCE_LIMIT, blank=True)
    held = models.JSONField(null=True)
    state = models.CharField(max_length=9, choices=State.choices, default=State.COUNTING)
    stage = models.CharField(max_length=12, blank=True)
    cursor = models.UUIDField(null=True)
    looked_at = models.BigIntegerField(default=0)
    counts = models.JSONField(default=dict)
    by = models.CharField(max_length=PERSON_LIMIT)
    confirmed_by = models.CharField(max_length=PERSON_LIMIT, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    until = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("add", "view")
        indexes = [models.Index(fields=["state"], name="erasure_to_do", condition=models.Q(finished_at__isnull=True))]

    def __str__(self) -> str:
        return self.reference or f"{self.schema} {self.entity}, {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE

    @property
    def found(self) -> list[tuple[str, int]]:
        """What there is, by its kind: PostgreSQL keeps no order of names."""
        return [(kind, count) for kind, count in sorted(self.counts.items()) if count]
