"""Tables that are partitioned by time: nothing else changes, and retention drops whole partitions."""

import time
from datetime import timedelta
from io import StringIO
from itertools import islice
from uuid import UUID, uuid4

import pandas as pd
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from fraudsite.testing import seed_payload, submission
from monitoring.tests.support import transactions
from scoring.exceptions import TransactionDeleted
from scoring.learning import export
from scoring.messages.replies import Kind
from scoring.models import ArchivedDecisions, Client, Forgotten, Label, Prediction, Review, Transaction
from scoring.retention import applying, dropping, partitioning, partitions
from scoring.reviews import labelling, receiving
from scoring.reviews.incoming import Incoming
from scoring.worker import batches, pending
from scoring.worker.opening import review_of
from scoring.worker.predictor import Predictor

on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no partitions.")
pytestmark = pytest.mark.django_db

NOW = timezone.now()
DAY = timedelta(days=1)


def drawn(at):
    """A key as it would have been drawn at a time."""
    return UUID(int=partitions.lowest_key(at).int | 7 << 76 | 0b10 << 62 | uuid4().int & (1 << 62) - 1)


@pytest.fixture
def stored(champion, acme):
    """Store a decision of a time, of Acme if nobody else is named."""

    def make(at, client=None, name=None, decision="approve"):
        row = Transaction.objects.create(
            id=drawn(at),
            client=client or acme,
            transaction_id=name,
            schema="ulb",
            amount=1.0,
            fields=seed_payload(),
            body_sha256="0" * 64,
            event_time=at,
            received_at=at,
        )
        scored = {"fraud_score": 0.1, "threshold": 0.5, "latency_ms": 4.0, "created_at": at, "decision": decision}
        Prediction.objects.create(transaction=row, model_version=champion, **scored)
        return row

    return make


@pytest.fixture
def partition(settings):
    """Partition the tables as of a time."""
    settings.PARTITION_DAYS = 30

    def convert(at=NOW):
        connection.check_constraints()  # the test's own rows are not committed
        return list(partitioning.partition(at))

    return convert


def apply():
    return {progress.what: progress.deleted for progress in applying.apply()}


def in_partition(row, table="scoring_transaction", key="id"):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT tableoid::regclass::text FROM {table} WHERE {key} = %s", [row.pk])  # noqa: S608
        return cursor.fetchone()[0]


@on_postgresql
def test_the_tables_that_are_there_become_the_first_partitions_with_all_their_rows(stored, partition):
    rows = [stored(NOW - days * DAY, name=f"order-{days}") for days in (0, 1, 400)]
    told = partition()
    assert "3 ids of clients are copied." in told
    assert {row.pk for row in Transaction.objects.all()} == {row.pk for row in rows}
    assert {in_partition(row) for row in rows} == {"scoring_transaction_first"}
    assert in_partition(rows[0], "scoring_prediction", "transaction_id") == "scoring_prediction_first"
    assert len(partitions.of("scoring_transaction")) == len(partitions.of("scoring_prediction")) == 3
    later = stored(NOW + 40 * DAY)
    assert in_partition(later).startswith("scoring_transaction_2")


@on_postgresql
def test_a_client_has_one_transaction_of_each_id_across_partitions(stored, partition, globex):
    stored(NOW - 400 * DAY, name="old")
    partition()
    stored(NOW, name="new")
    for at, name in ((NOW, "old"), (NOW + 40 * DAY, "new"), (NOW + 40 * DAY, "old")):
        [row] = transactions_like(name, at, Client.objects.get(name="Acme"))
        Transaction.objects.bulk_create([row], ignore_conflicts=True)
    assert Transaction.objects.count() == 2
    stored(NOW, client=globex, name="old")
    assert Transaction.objects.filter(transaction_id="old").count() == 2


def transactions_like(name, at, client):
    common = {"schema": "ulb", "amount": 1.0, "fields": {}, "body_sha256": "0" * 64}
    return [Transaction(id=drawn(at), client=client, transaction_id=name, event_time=at, received_at=at, **common)]


@on_postgresql
def test_the_worker_stores_and_recognises_as_before(stored, partition, champion, acme):
    stored(NOW - 400 * DAY, name="before")
    partition()
    predictor = Predictor(champion)

    def score(*names):
        sent = [submission(acme.pk, seed_payload(transaction_id=name)) for name in names]
        outcomes, _ = batches.score_batch(submissions=sent, predictor=predictor, started_at=time.time())
        return [outcome.kind for outcome in outcomes]

    assert score("one", "two") == [Kind.SCORED, Kind.SCORED]
    assert score("two", "three", "before") == [Kind.REPEATED, Kind.SCORED, Kind.REPEATED]
    assert Transaction.objects.count() == Prediction.objects.count() == 4
    again = submission(acme.pk, seed_payload(transaction_id="one"))
    assert pending.accept(submission=again).kind == Kind.REPEATED
    assert pending.accept(submission=submission(acme.pk, seed_payload(transaction_id="late"))).kind == Kind.PENDING


@on_postgresql
def test_a_partition_that_is_old_for_every_client_is_dropped_with_all_that_belongs_to_it(
    stored, partition, settings, globex
):
    settings.TRANSACTION_RETENTION_DAYS = 100
    begin = NOW - 200 * DAY
    partition(begin)
    gone = [stored(begin + days * DAY, name=f"order-{days}", decision="review") for days in (0, 35, 95)]
    partitions.make_ahead(NOW)
    kept = stored(NOW, name="order-now", decision="review")
    for row in (*gone, kept):
        review_of(row.prediction).save(force_insert=True)
        labelling.add_label(transaction_id=row.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
    deleted = apply()
    # The third is 105 days old, and its partition is not yet 100 days old as a whole.
    assert [number for what, number in deleted.items() if "partition" in what] == [1, 1, 0]
    left = {gone[2].pk, kept.pk}
    assert {row.pk for row in Transaction.objects.all()} == left
    for model, column in ((Prediction, "pk"), (Review, "pk"), (Label, "transaction")):
        assert set(model.objects.values_list(column, flat=True)) == left, model
    assert Forgotten.objects.count() == 2
    # Its id may be sent again, and that of a row which is there may not.
    again = [*transactions_like("order-0", NOW, kept.client), *transactions_like("order-now", NOW, kept.client)]
    Transaction.objects.bulk_create(again, ignore_conflicts=True)
    assert Transaction.objects.count() == 3


@on_postgresql
def test_the_command_says_what_it_does_until_a_partition_is_dropped(stored, partition, settings, tmp_path, capsys):
    settings.STORAGE_URL = str(tmp_path / "store")
    settings.TRANSACTION_RETENTION_DAYS = 100
    partition(NOW - 200 * DAY)
    stored(NOW - 190 * DAY)
    partitions.make_ahead(NOW)
    call_command("apply_retention")
    told = [line for line in capsys.readouterr().out.splitlines() if "scoring_transaction_first" in line]
    assert told == [
        "Archiving transactions of partition scoring_transaction_first, and deleting what belongs to them.",
        "1 transactions of partition scoring_transaction_first are deleted.",
    ]


@on_postgresql
def test_what_training_needs_of_a_partition_is_archived_once_and_takes_no_labels_from_then_on(
    stored, partition, settings, tmp_path, monkeypatch, acme
):
    settings.STORAGE_URL = str(tmp_path / "store")
    settings.TRANSACTION_RETENTION_DAYS = 100
    monkeypatch.setattr(dropping, "ARCHIVED_AT_ONCE", 2)
    partition(NOW - 200 * DAY)
    for days in (190, 185, 180):
        stored(NOW - days * DAY, name=f"order-{days}")
    partitions.make_ahead(NOW)

    def exported():
        made = export.export("ulb", as_of=NOW)
        return sorted(pd.read_parquet(made.path)["_decided_at"])

    before = exported()
    list(islice(applying.apply(), 2))  # a run that ends between the archive and the drop
    assert Transaction.objects.count() == 3
    assert exported() == before
    [answer] = receiving.receive(acme.pk, [Incoming(None, "order-185", "fraud", "client", NOW, None, "")])
    assert [error.code for error in answer.errors] == ["deleted_transaction"]
    archived = Transaction.objects.get(transaction_id="order-185")
    with pytest.raises(TransactionDeleted):
        labelling.add_label(transaction_id=archived.pk, is_fraud=True, source=Label.Source.IMPORT)
    assert not Label.objects.exists()
    apply()
    assert not Transaction.objects.exists()
    assert exported() == before == [NOW - days * DAY for days in (190, 185, 180)]
    assert sorted(ArchivedDecisions.objects.values_list("rows", flat=True)) == [1, 2]


@on_postgresql
def test_a_partition_is_dropped_where_nothing_is_archived(stored, partition, settings):
    settings.TRANSACTION_RETENTION_DAYS, settings.TRAINING_ARCHIVE_DAYS = 100, 0
    partition(NOW - 200 * DAY)
    stored(NOW - 190 * DAY)
    partitions.make_ahead(NOW)
    assert len(list(islice(applying.apply(), 1_000))) < 1_000
    assert not Transaction.objects.exists()


@on_postgresql
@pytest.mark.parametrize("archive_days", [0, 3_650])
def test_runs_that_have_no_time_for_more_than_a_step_drop_a_partition_in_the_end(
    stored, partition, settings, tmp_path, monkeypatch, archive_days
):
    settings.STORAGE_URL = str(tmp_path / "store")
    settings.TRANSACTION_RETENTION_DAYS, settings.TRAINING_ARCHIVE_DAYS = 100, archive_days
    settings.RETENTION_STEP_ROWS = 1
    monkeypatch.setattr(dropping, "ARCHIVED_AT_ONCE", 1)
    partition(NOW - 200 * DAY)
    gone = [stored(NOW - days * DAY, name=f"order-{days}") for days in (190, 185, 180)]
    partitions.make_ahead(NOW)
    runs = 0
    while Transaction.objects.filter(pk=gone[0].pk).exists():
        runs += 1
        assert runs < 20
        list(applying.apply(seconds=0))
        if runs == 6:  # an id that is forgotten is used again
            Transaction.objects.bulk_create(transactions_like("order-190", NOW, gone[0].client), ignore_conflicts=True)
    Transaction.objects.bulk_create(transactions_like("order-190", NOW, gone[0].client), ignore_conflicts=True)
    assert Transaction.objects.count() == 1


@on_postgresql
def test_no_partition_is_dropped_while_a_client_keeps_its_rows_and_others_go_by_steps(
    stored, partition, settings, globex
):
    settings.TRANSACTION_RETENTION_DAYS = 100
    Client.objects.filter(pk=globex.pk).update(keep_transactions_days=0)
    partition(NOW - 200 * DAY)
    stored(NOW - 200 * DAY, name="ours")
    theirs = stored(NOW - 200 * DAY, client=globex, name="theirs")
    partitions.make_ahead(NOW)
    apply()
    assert [row.pk for row in Transaction.objects.all()] == [theirs.pk]
    [row] = transactions_like("ours", NOW, Client.objects.get(name="Acme"))
    Transaction.objects.bulk_create([row], ignore_conflicts=True)
    assert Transaction.objects.count() == 2


@on_postgresql
def test_rows_without_a_partition_are_kept_and_move_to_it_when_it_is_made(stored, partition, caplog):
    partition(NOW - 200 * DAY)
    row = stored(NOW, name="order-1")
    assert in_partition(row) == "scoring_transaction_default"
    assert partitions.make_ahead(NOW)
    assert "had no partition" in caplog.text
    assert in_partition(row) not in ("scoring_transaction_default", "scoring_transaction_first")
    assert in_partition(row, "scoring_prediction", "transaction_id").startswith("scoring_prediction_2")
    assert not partitions.make_ahead(NOW)


@on_postgresql
def test_a_run_that_ends_between_two_drops_leaves_nothing_that_is_never_deleted(
    stored, partition, settings, monkeypatch
):
    settings.TRANSACTION_RETENTION_DAYS = 100
    partition(NOW - 200 * DAY)
    stored(NOW - 190 * DAY, name="order-1")
    partitions.make_ahead(NOW)
    with monkeypatch.context() as in_use:
        in_use.setattr(partitions, "LOCK_ATTEMPTS", 1)
        run = partitions.run

        def busy(statement):
            if statement.startswith("DROP TABLE") and "scoring_transaction_first" in statement:
                raise OperationalError("canceling statement due to lock timeout")
            run(statement)

        in_use.setattr(partitions, "run", busy)
        with pytest.raises(OperationalError):
            apply()
    apply()
    assert not Transaction.objects.exists()
    assert not Prediction.objects.exists()


@on_postgresql
def test_who_stores_while_rows_are_moved_waits_before_a_partition_is_chosen(stored, partition, monkeypatch):
    """A row that came to the default partition meanwhile would refuse the new one, every night anew."""
    partition(NOW - 200 * DAY)
    stored(NOW)
    done: list[str] = []
    run = partitions.run

    def told(statement: str) -> None:
        done.append(statement)
        run(statement)

    monkeypatch.setattr(partitions, "run", told)
    partitions.make_ahead(NOW)
    for table in partitions.TABLES:
        locked, *_ = [place for place, each in enumerate(done) if each.startswith(f"LOCK TABLE ONLY {table} ")]
        moved, *_ = [place for place, each in enumerate(done) if f" {table}_default WHERE" in each]
        assert locked < moved


@on_postgresql
def test_keys_that_do_not_begin_with_their_time_are_refused_and_nothing_is_changed(acme, partition):
    transactions(acme, [NOW])  # a key at random
    Transaction.objects.update(id=UUID("f" * 8 + "-0000-4000-8000-000000000000"))
    with pytest.raises(partitioning.PartitioningRefused, match="not drawn by Fraudsite"):
        partition()
    assert not partitions.are_made()


@on_postgresql
def test_tables_are_partitioned_once(partition):
    partition()
    with pytest.raises(CommandError, match="partitioned already"):
        call_command("partition_tables", stdout=StringIO())


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL has partitions.")
def test_sqlite_says_that_it_has_no_partitions():
    with pytest.raises(CommandError, match="Only PostgreSQL has partitions"):
        call_command("partition_tables", stdout=StringIO())
