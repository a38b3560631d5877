from django.db import models


class ArchivedDecisions(models.Model):
    """A file of decisions whose transactions retention has deleted, for training: see `scoring.learning.archive`.

    `name` is that in the store. The decisions were made from `since` to `until`. If they were those of a partition,
    which is dropped later, `last_key` is the last of their keys: all rows up to it are archived.
    """

    schema = models.CharField(max_length=64)
    name = models.CharField(max_length=200, unique=True)
    rows = models.PositiveIntegerField()
    since = models.DateTimeField()
    until = models.DateTimeField(db_index=True)
    last_key = models.UUIDField(null=True, db_index=True)
    written_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["schema", "since"], name="archived_of_schema")]

    def __str__(self) -> str:
        return self.name
