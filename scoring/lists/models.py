from django.db import models
from django.utils import timezone

from scoring.decisions import Decision

NOTE_LIMIT = 200
# A key is the longest text of a request, or an e-mail address whose first part is a token.
KEY_LIMIT = 512


class PolicyList(models.Model):
    """A list of a schema, such as the stolen cards.

    It is `about` an entity or a field, and the transactions whose entity or value is on it get the decision `action`;
    those of more than `max_amount` do not. Without an action only rules refer to it, as `on_<name>`.

    Every change of its entries takes the next `revision` under a lock of this row, so that whoever has followed until a
    revision misses nothing. `size` is the number of entries that are not removed. A removed list is kept for the audit.

    A draft counts in backtests that choose it, and nowhere else. One with the name of a list is a change of that list:
    its entries take the place of those with the same key, and are taken over when the draft goes live.
    """

    schema = models.CharField(max_length=32)
    name = models.CharField(max_length=60)
    about = models.CharField(max_length=64)
    action = models.CharField(max_length=12, choices=Decision.choices, blank=True)
    max_amount = models.FloatField(null=True, blank=True)
    note = models.CharField(max_length=NOTE_LIMIT, blank=True)
    author = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    removed_at = models.DateTimeField(null=True, blank=True)
    revision = models.BigIntegerField(default=0)
    size = models.PositiveIntegerField(default=0)
    is_draft = models.BooleanField("draft", default=False, db_default=False)

    class Meta:
        ordering = ["schema", "name"]
        verbose_name = "list"
        constraints = [
            models.UniqueConstraint(
                fields=["schema", "name", "is_draft"],
                condition=models.Q(removed_at__isnull=True),
                name="one_list_and_draft_of_each_name",
            )
        ]

    def __str__(self) -> str:
        return f"{self.schema} {self.name}{' (draft)' if self.is_draft else ''}"


class ListChange(models.Model):
    """What a list did before it was changed: until `changed_at` it had this action and largest amount, or was a draft,
    which did nothing. Never changed. Backtests read it."""

    list = models.ForeignKey(PolicyList, on_delete=models.PROTECT, related_name="changes")
    action = models.CharField(max_length=12, choices=Decision.choices, blank=True)
    max_amount = models.FloatField(null=True, blank=True)
    was_draft = models.BooleanField(default=False)
    changed_at = models.DateTimeField(default=timezone.now)
    changed_by = models.CharField(max_length=150)

    class Meta:
        ordering = ["changed_at", "pk"]

    def __str__(self) -> str:
        return f"a change of {self.list.name}"


class ListEntry(models.Model):
    """An entity or a value on a list. Never changed, apart from its removal; what replaces it is a new row.

    `act` is that of the decision that it was added with, null if there was none: undoing the decision undoes it, too.
    `key` is the token of the entity, or the stored form of the value. `client` is whose entity it is; null if the entry
    counts for all clients: one of a value, of an entity that they share, or from before they were told apart.
    `revision` is that of the list when the entry was added or removed. `author` and `removed_by` are names of users, or
    of accounts that ran a command.
    """

    list = models.ForeignKey(PolicyList, on_delete=models.PROTECT, related_name="entries", db_index=False)
    client = models.ForeignKey(
        "scoring.Client", null=True, on_delete=models.PROTECT, related_name="+", db_index=False, editable=False
    )
    key = models.CharField(max_length=KEY_LIMIT)
    expires_at = models.DateTimeField("expires", null=True, blank=True)
    note = models.CharField(max_length=NOTE_LIMIT, blank=True)
    author = models.CharField(max_length=150)
    created_at = models.DateTimeField("added", default=timezone.now)
    removed_at = models.DateTimeField("removed", null=True, blank=True)
    removed_by = models.CharField(max_length=150, blank=True)
    removed_because = models.CharField(max_length=NOTE_LIMIT, blank=True)
    revision = models.BigIntegerField()
    act = models.UUIDField(null=True, editable=False)

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "list entries"
        constraints = [
            models.UniqueConstraint(
                fields=["list", "key"],
                condition=models.Q(removed_at__isnull=True),
                name="one_live_entry_of_each_key",
            )
        ]
        indexes = [
            models.Index(fields=["list", "revision"], name="list_entry_changes"),
            models.Index(fields=["act"], name="list_entry_act", condition=models.Q(act__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"an entry of {self.list.name}"

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()
