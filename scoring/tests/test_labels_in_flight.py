"""A label that comes while its transaction is archived or deleted is kept as a whole, or refused: never lost."""

import threading
import time
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.utils import timezone

from monitoring.tests.support import predict
from scoring.exceptions import RequestRefused, TransactionDeleted
from scoring.learning import archive
from scoring.lists.keys import declared
from scoring.models import Label, Transaction
from scoring.retention import deleting, dropping
from scoring.retention.partitions import LOWEST, Partition
from scoring.reviews import labelling, receiving
from scoring.reviews.incoming import Incoming

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite writes one after the other."),
]

NOW = timezone.now()
LIMIT_S = 60
# In place of a partition with all rows: a table on which it is kept how far they are archived.
ALL = Partition("standing_in", "scoring_transaction", LOWEST, UUID(int=2**128 - 1))


class Beside(threading.Thread):
    """Does something on a connection of its own, and keeps what comes of it."""

    def __init__(self, do):
        super().__init__(daemon=True)
        self.do, self.result = do, None
        self.start()

    def run(self):
        try:
            self.result = self.do()
        except Exception as error:  # told by the tests
            self.result = error
        finally:
            connection.close()

    def ended(self):
        self.join(LIMIT_S)
        assert not self.is_alive()
        return self.result

    def await_block(self):
        """Return once it waits for a lock of somebody else, or has ended."""
        give_up = time.monotonic() + LIMIT_S
        while self.is_alive() and not _waits_for_lock():
            assert time.monotonic() < give_up
            time.sleep(0.05)


def _waits_for_lock():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # otherwise a transaction sees what it saw first
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(cursor.fetchone()[0])


@pytest.fixture
def row(champion, acme, settings, tmp_path):
    settings.STORAGE_URL = str(tmp_path / "store")
    [prediction] = predict(champion, acme, [NOW - timedelta(days=200)])
    return prediction.transaction


def said(row):
    return receiving.receive(row.client_id, [Incoming(row.pk, None, "fraud", "chargeback", NOW, None, "")])[0]


def archive_all():
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {ALL.name} ()")
    try:
        return list(dropping.archived(dropping.Old(ALL, ALL)))
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {ALL.name}")


def labels_in_archive():
    return [label.source for page in archive.pages(declared("ulb"), NOW) for row in page for label in row.labels]


@pytest.fixture
def meanwhile(monkeypatch):
    """Does something beside, when the labels are read and their transactions are not yet gone."""
    begun = []

    def meanwhile(do):
        write = archive._write_file

        def held_up(*args):
            begun.append(Beside(do))
            begun[0].await_block()
            write(*args)

        monkeypatch.setattr(archive, "_write_file", held_up)
        return begun

    return meanwhile


def test_a_label_that_is_not_yet_committed_when_its_decision_is_archived_is_archived_with_it(row):
    stored, may_commit = threading.Event(), threading.Event()

    def label():
        with transaction.atomic():
            answer = said(row)
            stored.set()
            may_commit.wait(LIMIT_S)
        return answer

    labelling_it = Beside(label)
    assert stored.wait(LIMIT_S)
    archiving = Beside(archive_all)
    archiving.await_block()
    may_commit.set()
    archiving.ended()
    assert labelling_it.ended().transaction == row.pk
    assert labels_in_archive() == ["chargeback"]


def test_a_label_that_comes_while_its_decision_is_archived_is_refused(row, meanwhile):
    begun = meanwhile(lambda: said(row))
    archive_all()
    answer = begun[0].ended()
    assert [error.code for error in answer.errors] == ["deleted_transaction"]
    assert labels_in_archive() == [] == list(Label.objects.all())


def test_an_analyst_who_labels_what_is_being_archived_is_told(row, meanwhile):
    begun = meanwhile(
        lambda: labelling.add_label(transaction_id=row.pk, is_fraud=True, source=Label.Source.ANALYST, reason="Called.")
    )
    archive_all()
    assert isinstance(begun[0].ended(), TransactionDeleted)
    assert labels_in_archive() == [] == list(Label.objects.all())


def test_a_label_that_comes_while_its_transaction_is_deleted_is_refused(row, meanwhile):
    begun = meanwhile(lambda: said(row))
    list(deleting.transactions(row.client, NOW - timedelta(days=100), "old transactions"))
    assert isinstance(begun[0].ended(), RequestRefused)
    assert not Label.objects.exists()
    assert not Transaction.objects.exists()
