"""What training needs of transactions outlives them, without persons: the same rows, before and after retention."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from django.conf import settings as site
from django.core.management import CommandError, call_command

from fraudsite.audit.models import Entry
from fraudsite.testing import submission
from scoring.learning import archive, export
from scoring.models import ArchivedDecisions, Label, Prediction, Review, Transaction
from scoring.privacy.blanking import telling_of_nobody
from scoring.retention import applying
from scoring.tests.test_erasure import MAIL, make_everything, purchase  # noqa: F401  # a fixture
from scoring.tests.test_training_sets import LONG_AGO, NOW, decided, exported  # noqa: F401  # a fixture
from scoring.worker import batches, predictor
from training.core.datasets import storage
from training.core.schema import load_schema

pytestmark = pytest.mark.django_db

# Of a snapshot, what the archive does not have.
IDS = ["customer", "terminal"]


@pytest.fixture(autouse=True)
def keep(settings, tmp_path):
    settings.STORAGE_URL = str(tmp_path / "store")
    settings.TRANSACTION_RETENTION_DAYS = 60


def grow_old(*keys):
    """Have these transactions, or all, be as old as their decisions."""
    rows = Transaction.objects.filter(pk__in=keys) if keys else Transaction.objects.all()
    rows.update(received_at=LONG_AGO)


def rows_of(**options):
    """What an export has, in no order and without the ids."""
    snapshot = exported(**options)[0].reset_index(drop=True).drop(columns=IDS, errors="ignore")
    told = snapshot.astype(object).where(snapshot.notna(), None)
    return sorted(map(repr, told.itertuples(index=False)))


def files():
    return list(Path(site.STORAGE_URL).rglob("*.parquet"))


def test_an_export_has_the_same_rows_before_and_after_they_are_deleted_as_known_at_any_time(decided):  # noqa: F811
    gone = [decided("approve", (True, 60)), decided("review", (True, 5), (False, 60)), decided("approve", score=0.1)]
    gone += [
        decided("approve", (None, 5)),
        decided("block"),
        decided("approve", (True, 5)),
        decided("block", (True, 5)),
    ]
    Review.objects.filter(pk=gone[5]).update(is_sample=True, sample_probability=0.25)
    Label.objects.filter(transaction=gone[5]).update(source="analyst")
    drawn = {"would": "block", "propensity": 0.5, "let_through": False}
    Prediction.objects.filter(pk__in=[gone[4], gone[6]]).update(evidence={"control": drawn})
    through = drawn | {"let_through": True}
    Prediction.objects.filter(pk=gone[2]).update(evidence={"control": through})
    decided("approve", (True, 20))
    grow_old(*gone)
    times = [{}, {"as_of": (LONG_AGO + timedelta(days=50)).isoformat()}]
    before = [rows_of(**options) for options in times]
    call_command("apply_retention")
    assert Transaction.objects.count() == 1
    assert [rows_of(**options) for options in times] == before
    assert before[0] != before[1]


def test_training_reads_the_same_features_labels_and_weights(handbook_champion, acme):
    loaded = predictor.refresh("handbook")
    sent = [
        submission(acme.pk, {"schema": "handbook", "customer": "c", "terminal": f"t{i % 3}", "amount": 10.5 * i})
        for i in range(20)
    ]
    batches.score_batch(submissions=sent, predictor=loaded, started_at=0.0)
    Prediction.objects.update(created_at=LONG_AGO, decision="approve")
    Label.objects.create(transaction=Transaction.objects.all()[0], is_fraud=True, verdict=True, source="chargeback")
    Review.objects.all().delete()

    def read():
        dataset = storage.read(exported("handbook")[2], load_schema("handbook"))
        columns = (dataset.features, dataset.labels[:, None], dataset.weights[:, None])
        return dataset, np.array(sorted(np.hstack(columns).tolist()))

    _, before = read()
    grow_old()
    call_command("apply_retention")
    dataset, after = read()
    assert np.array_equal(before, after, equal_nan=True)
    # Who used which card is not known any more: no two rows are of the same.
    assert len(set(dataset.timeline.card)) == 20


def test_the_archive_names_no_entity_no_id_and_nothing_personal(purchase, acme, alice, shop):  # noqa: F811
    row, *_ = make_everything(purchase, acme, alice, shop)
    token = next(iter(row.tokens.values()))
    grow_old()
    call_command("apply_retention")
    assert not Transaction.objects.exists()
    [file] = files()
    columns = set(pq.read_schema(file).names)
    assert columns - {name for name in columns if name.startswith("_")} <= telling_of_nobody("shop") | {"event_time"}
    table = pq.read_table(file).to_pylist()
    assert "books" in str(table)
    for told in (MAIL, str(row.pk), token, "192.0.2.77", acme.name):
        assert told not in str(table)
        assert told not in str(file.relative_to(site.STORAGE_URL))


def test_while_the_store_is_away_nothing_is_deleted(decided, settings, tmp_path):  # noqa: F811
    decided("approve")
    grow_old()
    (tmp_path / "a-file").touch()
    settings.STORAGE_URL = str(tmp_path / "a-file" / "store")
    with pytest.raises(CommandError, match="a-file"):
        call_command("apply_retention")
    assert Transaction.objects.count() == Prediction.objects.count() == 1
    assert not ArchivedDecisions.objects.exists()


def test_what_is_not_deleted_in_the_end_is_not_archived(decided):  # noqa: F811
    row = Transaction.objects.get(pk=decided("approve"))
    with pytest.raises(KeyboardInterrupt), archive.kept([row.pk]):
        raise KeyboardInterrupt
    assert not ArchivedDecisions.objects.exists()
    assert not files()


def test_the_audit_trail_tells_what_is_archived_and_when_it_goes(decided, settings):  # noqa: F811
    decided("approve")
    grow_old()
    call_command("apply_retention")
    told = "1 transactions of Acme .*, of which 1 decisions are archived for training, without persons"
    assert Entry.objects.filter(kind="scoring.forgotten", detail__iregex=told).exists()
    settings.TRAINING_ARCHIVE_DAYS = 99
    assert [progress.deleted for progress in applying.apply()] == [1]
    assert Entry.objects.filter(detail__startswith="1 archived decisions from before").exists()
    assert not files()
    with pytest.raises(export.NothingToExport):
        export.export("ulb", as_of=NOW)


def test_without_a_time_for_the_archive_nothing_is_kept(decided, settings):  # noqa: F811
    settings.TRAINING_ARCHIVE_DAYS = 0
    decided("approve")
    grow_old()
    call_command("apply_retention")
    assert not Transaction.objects.exists()
    assert not files()


def test_an_export_says_that_a_file_of_the_archive_is_lost(decided):  # noqa: F811
    decided("approve")
    grow_old()
    call_command("apply_retention")
    files()[0].unlink()
    with pytest.raises(CommandError, match=r"is not in the store\. Restore it"):
        call_command("export_training_set", schema="ulb")
