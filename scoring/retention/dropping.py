"""Drops partitions whose rows are all older than every client keeps them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from scoring.clients.models import Client
from scoring.learning import archive
from scoring.models import Attachment, Forgotten, Prediction, Transaction
from scoring.retention import deleting, partitions
from scoring.retention.partitions import LOWEST, Partition

# A key is drawn a moment before or after its transaction counts as received. The keys of a file's rows have the time of
# the file, and so do their transactions, whenever they are scored.
LATEST_AFTER_KEY = timedelta(days=1)
# The decisions of a file of the archive.
ARCHIVED_AT_ONCE = 20_000


@dataclass(frozen=True)
class Old:
    """The partitions of transactions and of their predictions that hold the same keys."""

    transactions: Partition
    predictions: Partition

    def count(self) -> int:
        return Transaction.objects.filter(pk__gte=self.transactions.lowest, pk__lt=self.transactions.end).count()


def before(cutoffs: Iterable[datetime | None]) -> datetime | None:
    """The time before which no client keeps transactions; None if one keeps them for ever, or if there are no
    partitions that this process may drop."""
    times = list(cutoffs)
    return min((time for time in times if time), default=None) if None not in times and partitions.are_ours() else None


def old_partitions(of_all: datetime) -> list[Old]:
    """The partitions whose transactions were all received before a time, the oldest first."""
    predictions = {part.end: part for part in partitions.of("scoring_prediction")}
    return [
        Old(part, predictions[part.end])
        for part in partitions.of("scoring_transaction")
        if part.until + LATEST_AFTER_KEY <= of_all and part.end in predictions
    ]


def steps(old: Old, cutoffs: Mapping[Client, datetime | None]) -> Iterator[int]:
    """Archive a partition's decisions and delete what belongs to its transactions, in steps, and then drop it.

    Raises:
        StoreUnavailable: the archive cannot be written, so nothing is deleted.
    """
    first, end = old.transactions.lowest, old.transactions.end
    number = old.count()
    decided = Prediction.objects.filter(pk__gte=first, pk__lt=end).aggregate(latest=Max("created_at"))["latest"]
    for client, cutoff in cutoffs.items():
        if cutoff:
            decided_before = decided + deleting.MOMENT if decided else None
            deleting.mark(client, cutoff, f"transactions of {client} from before {cutoff:%Y-%m-%d}", decided_before)
    for _ in archived(old):
        yield 0
    for _ in _belongings(old):
        yield 0
    for _ in partitions.forget_keys(old.transactions):
        yield 0
    # Together: a partition whose counterpart is gone would be found by no later run.
    partitions.drop([old.predictions, old.transactions])
    # What came while they were dropped: no foreign key refuses it.
    for _ in _belongings(old):
        pass
    yield number


def archived(old: Old) -> Iterator[None]:
    """Archive the decisions of a partition, from where the last run ended."""
    # Not all of them become part of the archive, so that its last is not always that of the last run.
    last = partitions.place_in(old.predictions)
    while True:
        with transaction.atomic():
            list(Forgotten.objects.select_for_update().order_by("pk"))  # another run would archive them, too
            since = max(old.predictions.lowest, archive.boundary().last or LOWEST, last)
            found = Prediction.objects.filter(pk__gt=since, pk__lt=old.predictions.end).order_by("pk")
            keys = list(found.values_list("pk", flat=True)[:ARCHIVED_AT_ONCE])
            if not keys:
                return
            last = keys[-1]
            with archive.kept(keys, last_key=last):
                pass  # they are dropped together
            partitions.keep_place(old.predictions, last)
        yield


def _belongings(old: Old) -> Iterator[int]:
    for model, column in deleting.BELONGINGS:
        if model in (Prediction, Transaction):
            continue
        # The first partition begins with the lowest key: whatever is older goes, too.
        bounds = {f"{column}__gte": old.transactions.lowest, f"{column}__lt": old.transactions.end}
        rows = model._base_manager.filter(**bounds).order_by(column)
        while keys := list(rows.values_list("pk", flat=True)[: settings.RETENTION_STEP_ROWS]):
            if model is Attachment:
                deleting.delete_files(Attachment.objects.filter(pk__in=keys, removed_at=None))
            yield deleting.delete_rows(model._base_manager.filter(pk__in=keys))
