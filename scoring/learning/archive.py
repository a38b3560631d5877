"""Keeps of decisions what training needs, when retention deletes their transactions: values, features as they were
computed, labels with their times, and what weights are made of. It has no entities, no ids, and no values that may tell
of a person, the same as an erasure leaves.

The archive is Parquet files in the store, each with a row of `ArchivedDecisions`, which is committed with the deletion:
a decision is stored or archived, never both. A file whose deletion was rolled back is no part of it.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from scoring.decisions import Decision
from scoring.learning.models import ArchivedDecisions
from scoring.lists.keys import declared
from scoring.models import Label, Prediction, Transaction
from scoring.policies import evidence
from scoring.policies.evidence import Draw
from scoring.privacy.blanking import telling_of_nobody
from scoring.reviews import verdicts
from scoring.reviews.models import LabelSource
from training import store
from training.core.exceptions import FraudsiteError, SchemaNotFound
from training.core.schema import Schema

logger = logging.getLogger(__name__)

FOLDER = "training"
PAGE = 5_000
COLUMNS = (
    *("pk", "created_at", "fraud_score", "decision", "model_version_id", "evidence", "derived"),
    *("transaction__schema", "transaction__event_time", "transaction__fields", "review__sample_probability"),
)


class ArchiveBroken(FraudsiteError):
    """A file of archived decisions is not in the store. Restore it there, under STORAGE_URL, from a backup."""


class Said(NamedTuple):
    """A label: when it arrived, and what it says."""

    created_at: datetime
    event_time: datetime
    source: str
    is_fraud: bool | None
    verdict: bool | None


class Archived(NamedTuple):
    """A decision of the archive. Its labels are in the order of their arrival, and `chance` is that of being drawn for
    the random sample, if it was."""

    decided_at: datetime
    fraud_score: float
    decision: str
    model_version: str
    draw: Draw | None
    chance: float | None
    labels: list[Said]
    event_time: datetime
    values: dict[str, Any]
    derived: dict[str, float | None]

    def known(self, at: datetime) -> list[Said]:
        """The labels that had arrived at a time."""
        return [label for label in self.labels if label.created_at <= at]


def is_reported(labels: Sequence[Said]) -> bool:
    """Whether others than analysts say that it is fraud: `scoring.policies.missed.reported_by_others`."""
    held = verdicts.holding([label for label in labels if label.source != LabelSource.ANALYST])
    return bool(held and held.is_fraud)


class Boundary(NamedTuple):
    """Up to the key `last`, transactions are archived and about to be dropped, and take no labels any more: the archive
    would not have them. None if nothing is."""

    last: UUID | None

    def is_behind(self, key: UUID) -> bool:
        return self.last is not None and key <= self.last


@contextmanager
def kept(keys: Sequence[UUID], *, last_key: UUID | None = None) -> Iterator[None]:
    """Archive the decisions about transactions that are deleted in the block. `last_key` says instead that all of them
    and of earlier keys are deleted later, as a partition.

    The transactions are locked, as whoever labels one does: a label is committed before it is archived, or finds its
    transaction archived or deleted.

    Raises:
        StoreUnavailable: nothing is archived, and nothing may be deleted.
    """
    names: list[str] = []
    try:
        with transaction.atomic():
            if settings.TRAINING_ARCHIVE_DAYS:
                _write(keys, last_key, names)
            yield
    except BaseException:
        for name in names:
            store.delete(name)
        raise


def boundary() -> Boundary:
    """Whoever writes a label asks it under the lock of the transaction. Keys are ordered by time."""
    of_partitions = ArchivedDecisions.objects.filter(last_key__isnull=False).order_by("-last_key")
    return Boundary(of_partitions.values_list("last_key", flat=True).first())


def pages(schema: Schema, until: datetime) -> Iterator[list[Archived]]:
    """The archived decisions of a schema before a time.

    Raises:
        StoreUnavailable, ArchiveBroken: they cannot be read.
    """
    for name in ArchivedDecisions.objects.filter(schema=schema.name, since__lt=until).order_by("since", "pk"):
        try:
            with store.open_stored(name.name) as file:
                yield from _read(file, schema, until)
        except FileNotFoundError as error:
            raise ArchiveBroken(f"{name.name}: {ArchiveBroken.__doc__}") from error


def count(before: datetime) -> int:
    """How many decisions are in files whose decisions were all made before a time."""
    return ArchivedDecisions.objects.filter(until__lt=before).aggregate(number=Sum("rows"))["number"] or 0


def written_since(moment: datetime) -> int:
    return ArchivedDecisions.objects.filter(written_at__gte=moment).aggregate(number=Sum("rows"))["number"] or 0


def expire(before: datetime) -> Iterator[int]:
    """Delete the files whose decisions were all made before a time. Gives the number of each."""
    for row in ArchivedDecisions.objects.filter(until__lt=before).order_by("until"):
        store.delete(row.name)
        row.delete()
        yield row.rows


def _write(keys: Sequence[UUID], last: UUID | None, names: list[str]) -> None:
    # In the order of `scoring.reviews.bulk`: otherwise the two could deadlock.
    list(Transaction.objects.select_for_update().filter(pk__in=keys).order_by("pk").values_list("pk"))
    found = Prediction.objects.filter(pk__in=keys).order_by("created_at", "pk").values_list(*COLUMNS)
    by_schema: dict[str, list[tuple[Any, ...]]] = {}
    for row in found:
        by_schema.setdefault(row[7], []).append(row)
    labels: dict[UUID, list[Said]] = {}
    for label in Label.objects.filter(transaction__in=keys).order_by("created_at", "pk"):
        said = Said(label.created_at, label.event_time, label.source, label.is_fraud, label.verdict)
        labels.setdefault(label.transaction_id, []).append(said)
    for name, rows in by_schema.items():
        try:
            schema = declared(name)
        except SchemaNotFound:  # nobody can train on it, or tell what of it is personal
            logger.warning("%d decisions of %s are not archived: nobody declares it.", len(rows), name)
            continue
        stored = f"{FOLDER}/{name}/{timezone.now():%Y%m%dT%H%M%SZ}-{uuid4().hex}.parquet"
        names.append(stored)
        _write_file(stored, schema, rows, labels)
        ArchivedDecisions.objects.create(
            schema=name, name=stored, rows=len(rows), since=rows[0][1], until=rows[-1][1], last_key=last
        )


def _write_file(name: str, schema: Schema, rows: Sequence[tuple[Any, ...]], labels: dict[UUID, list[Said]]) -> None:
    # Imported late, as most that deletes or reads nothing of the archive needs none of it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    moment, text, number = pa.timestamp("us", tz="UTC"), pa.string(), pa.float64()
    said = [("created_at", moment), ("event_time", moment), ("source", text)]
    label = pa.struct([*said, ("is_fraud", pa.bool_()), ("verdict", pa.bool_())])
    columns: dict[str, tuple[Any, list[Any]]] = {
        "_decided_at": (moment, [row[1] for row in rows]),
        "_fraud_score": (number, [row[2] for row in rows]),
        "_decision": (text, [row[3] for row in rows]),
        "_model_version": (text, [row[4] for row in rows]),
        "_chance": (number, [row[10] for row in rows]),
        "_labels": (pa.list_(label), [[each._asdict() for each in labels.get(row[0], ())] for row in rows]),
        "event_time": (moment, [row[8] for row in rows]),
    }
    drawn = [evidence.read(row[5]).control for row in rows]
    columns["_would"] = (text, [draw and str(draw.would) for draw in drawn])
    columns["_propensity"] = (number, [draw and draw.propensity for draw in drawn])
    columns["_let_through"] = (pa.bool_(), [draw and draw.let_through for draw in drawn])
    may_be_kept = telling_of_nobody(schema.name)
    for field in schema.features:
        if field.name in may_be_kept:
            values = [row[9].get(field.name) for row in rows]
            is_number = field.is_number
            columns[field.name] = (
                (number, [None if value is None else float(value) for value in values]) if is_number else (text, values)
            )
    for feature in schema.derived:
        if feature.name in may_be_kept:
            columns[feature.name] = (number, [(row[6] or {}).get(feature.name) for row in rows])
    table = pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})
    with store.open_new(name) as file:
        pq.write_table(table, file, compression="zstd")
        store.keep(file)


def _read(file: Any, schema: Schema, until: datetime) -> Iterator[list[Archived]]:
    import pyarrow.parquet as pq

    names, computed = schema.feature_names, schema.derived_names
    # A value may have been declared as personal since.
    readable = telling_of_nobody(schema.name)
    for batch in pq.ParquetFile(file).iter_batches(PAGE):
        yield [
            Archived(
                decided_at=row["_decided_at"],
                fraud_score=row["_fraud_score"],
                decision=row["_decision"],
                model_version=row["_model_version"],
                draw=_draw_of(row),
                chance=row["_chance"],
                labels=[Said(**label) for label in row["_labels"]],
                event_time=row["event_time"],
                values={name: row.get(name) for name in names if name in readable},
                derived={name: row.get(name) for name in computed if name in readable},
            )
            for row in batch.to_pylist()
            if row["_decided_at"] < until
        ]


def _draw_of(row: dict[str, Any]) -> Draw | None:
    if row["_would"] is None:
        return None
    return Draw(would=Decision(row["_would"]), propensity=row["_propensity"], let_through=row["_let_through"])
