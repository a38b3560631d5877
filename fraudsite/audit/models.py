"""The audit trail: who did or saw what, and the chain that shows later changes to it."""

import hashlib
import json
from datetime import UTC

from django.db import models
from django.utils import timezone


class Action(models.TextChoices):
    SEEN = "seen", "Saw"
    LISTED = "listed", "Saw in a list"
    EXPORTED = "exported", "Exported"
    CLAIMED = "claimed", "Claimed"
    RELEASED = "released", "Released"
    DECIDED = "decided", "Decided"
    LABELLED = "labelled", "Labelled"
    ADDED = "added", "Added"
    CHANGED = "changed", "Changed"
    DELETED = "deleted", "Deleted"
    RAN = "ran", "Ran a command"
    SIGNED_IN = "signed_in", "Signed in"
    SIGNED_OUT = "signed_out", "Signed out"
    REFUSED = "refused", "Was refused a sign-in"


# What the digest of an entry covers, in this order.
CONTENT = ("at", "action", "person", "origin", "request_id", "kind", "object_id", "detail")


class Entry(models.Model):
    """One act of a person or program. Rows are only added: triggers refuse everything else."""

    at = models.DateTimeField(default=timezone.now)
    action = models.CharField(max_length=12, choices=Action.choices)
    # Names, not keys: the trail outlives the accounts.
    person = models.CharField(max_length=150)
    # The address of the person's computer, a command, or "worker".
    origin = models.CharField(max_length=150)
    request_id = models.CharField(max_length=64)
    # What it was done to: the model as in "scoring.review", or the page; and the key of the row.
    kind = models.CharField(max_length=100)
    object_id = models.CharField(max_length=255)
    detail = models.TextField()
    digest = models.CharField(max_length=64)

    class Meta:
        verbose_name_plural = "entries"
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["at"], name="audit_at"),
            models.Index(fields=["object_id", "at"], name="audit_object"),
            models.Index(fields=["person", "at"], name="audit_person"),
        ]

    def __str__(self) -> str:
        return f"{self.person or 'Nobody'}: {self.get_action_display().lower()} {self.kind} {self.object_id}".strip()

    def compute_digest(self) -> str:
        """SHA-256 of the content, written as a JSON list."""
        values = [getattr(self, name) for name in CONTENT]
        values[0] = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()


class Link(models.Model):
    """An entry's place in the chain. The database adds it when the entry's transaction commits: see migration 0002."""

    number = models.BigIntegerField(primary_key=True)
    entry = models.OneToOneField(Entry, on_delete=models.PROTECT, db_constraint=False)
    hash = models.CharField(max_length=64)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


def next_hash(previous: str, digest: str) -> str:
    """The hash of the link that follows `previous`, which is empty for the first: SHA-256 of both, as text."""
    return hashlib.sha256(f"{previous}{digest}".encode()).hexdigest()
