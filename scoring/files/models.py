import uuid_utils.compat
from django.db import models
from django.utils import timezone

NAME_LIMIT = 120
FAULT_LIMIT = 500


class Mode(models.TextChoices):
    """What a file is. Traffic is stored, enters the histories and opens reviews, as by predict calls; the other is
    scored, and nothing of it is stored but the result."""

    TRAFFIC = "traffic", "Traffic: store and score"
    SCORE = "score", "Score only"


class Format(models.TextChoices):
    CSV = "csv", "CSV"
    JSONL = "jsonl", "JSON Lines"
    PARQUET = "parquet", "Parquet"


class State(models.TextChoices):
    RECEIVING = "receiving", "Being uploaded"
    WAITING = "waiting", "Waiting to be read"
    SCORING = "scoring", "Being scored"
    DONE = "done", "Done"
    REFUSED = "refused", "Refused"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    EXPIRED = "expired", "Expired"


# What workers still have something to do for.
ACTIVE = (State.WAITING, State.SCORING)
# What has results.
READABLE = (State.SCORING, State.DONE, State.FAILED, State.CANCELLED)


def new_id() -> uuid_utils.compat.UUID:
    return uuid_utils.compat.uuid7()


class BatchFile(models.Model):
    """A file of transactions that a client sent, all of one schema.

    It is in the store under `folder`. `layout` tells how its rows are written, once it was read: see
    `scoring.files.layout.Layout`. `ignored` are the columns that are passed over. `rows` is how many it has, null
    until it was read. `touched_at` is when something last went on; `leased_until` how long the worker that reads it has
    the file to itself. `has_rows` says that its rows are still in the store. `fault` tells why it does not go on.
    `key` is the API key that sent it, null if a person or a command did.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    client = models.ForeignKey("scoring.Client", on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=NAME_LIMIT, blank=True)
    schema = models.CharField(max_length=32)
    mode = models.CharField(max_length=7, choices=Mode.choices)
    format = models.CharField(max_length=7, choices=Format.choices)
    ignored = models.JSONField(default=list)
    state = models.CharField(max_length=9, choices=State.choices, default=State.RECEIVING)
    size_bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    idempotency_key = models.CharField(max_length=64, null=True, blank=True)
    layout = models.JSONField(null=True)
    rows = models.BigIntegerField(null=True)
    scored = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    fault = models.CharField(max_length=FAULT_LIMIT, blank=True)
    key = models.ForeignKey("scoring.ApiKey", null=True, on_delete=models.SET_NULL, related_name="+")
    request_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    touched_at = models.DateTimeField(default=timezone.now)
    leased_until = models.DateTimeField(null=True)
    has_rows = models.BooleanField(default=True)
    expires_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "file"
        constraints = [
            models.UniqueConstraint(
                fields=["client", "idempotency_key"],
                condition=models.Q(idempotency_key__isnull=False),
                name="one_file_per_client_and_key",
            )
        ]
        indexes = [
            models.Index(fields=["client", "-created_at"], name="file_of_client"),
            models.Index(fields=["state", "touched_at"], name="file_state"),
        ]

    def __str__(self) -> str:
        return self.name or str(self.pk)

    @property
    def folder(self) -> str:
        return f"files/{self.pk}"

    @property
    def upload(self) -> str:
        """The name of the file as it was sent."""
        return f"{self.folder}/upload"

    @property
    def unpacked(self) -> str:
        """The name of the rows, if they are not written as they were sent."""
        return f"{self.folder}/rows"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def done(self) -> int:
        """How many rows have a result."""
        return self.scored + self.refused


class FileChunk(models.Model):
    """Consecutive rows of a file, which one worker scores at a time. Chunks are numbered from 0.

    They are `size` bytes from `start` on. Their first row has the number `first_row`, from 0, and the line
    `first_line`. A worker has the chunk until `leased_until`, and knows by `claim` whether it still has it.
    """

    file = models.ForeignKey(BatchFile, on_delete=models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    first_row = models.BigIntegerField()
    first_line = models.BigIntegerField()
    rows = models.PositiveIntegerField()
    start = models.BigIntegerField()
    size = models.BigIntegerField()
    claim = models.CharField(max_length=32, blank=True)
    leased_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    done_at = models.DateTimeField(null=True)
    refused = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["file", "number"], name="one_chunk_per_file_and_number")]
        indexes = [
            models.Index(fields=["file", "number"], name="chunk_to_do", condition=models.Q(done_at__isnull=True))
        ]

    def __str__(self) -> str:
        return f"rows from {self.first_row:,}"

    @property
    def result(self) -> str:
        """The name of its part of the result."""
        return f"files/{self.file_id}/results/{self.number:08}"


class FileHistory(models.Model):
    """The latest events of an entity while a file is scored whose rows are not stored: those of the stored history,
    and those of the rows so far."""

    file = models.ForeignKey(BatchFile, on_delete=models.CASCADE, related_name="histories")
    token = models.CharField(max_length=32)
    events = models.BinaryField()
    last_sequence = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["file", "token"], name="one_history_per_file_and_token")]

    def __str__(self) -> str:
        return f"{self.token[:8]}…"
