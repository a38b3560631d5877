"""Back into training: what was decided and what became of it, exported as known at a time, and learned from."""

from datetime import timedelta
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from django.conf import settings as site
from django.core.management import CommandError, call_command
from django.utils import timezone
from sklearn.metrics import average_precision_score

from fraudsite.testing import fraudulent_payload, seed_payload, submission
from scoring.api.validation import validate
from scoring.learning import tasks
from scoring.models import Label, Prediction, Review, Transaction
from scoring.reviews import labelling, receiving
from scoring.reviews.incoming import Incoming
from scoring.tests.test_control_group import everything_let_through  # noqa: F401
from scoring.worker import batches, predictor, scorer
from training import registry
from training.core import generator
from training.core.datasets import splits, storage
from training.core.exceptions import DatasetError
from training.core.schema import load_schema
from training.models import ModelVersion, TrainingRun

pytestmark = pytest.mark.django_db

NOW = timezone.now()
LONG_AGO = NOW - timedelta(days=100)


@pytest.fixture
def decided(alert):
    """Make a decision of a hundred days ago, and what was said of it, as (fraud or not, days later)."""

    def make(decision, *said, score=0.7):
        row = alert(score, decision).prediction.transaction
        Prediction.objects.filter(pk=row.pk).update(created_at=LONG_AGO)
        for is_fraud, days in said:
            at = LONG_AGO + timedelta(days=days)
            Label.objects.create(
                transaction=row, is_fraud=is_fraud, verdict=is_fraud, source="chargeback", created_at=at
            )
        return str(row.pk)

    return make


def exported(schema="ulb", **options):
    """What the command exports, by transaction, its output, and the file."""
    out = StringIO()
    call_command("export_training_set", schema=schema, stdout=out, **options)
    name = out.getvalue().split("--snapshot ")[1].strip()
    path = site.DATASETS_DIR / name
    return pd.read_parquet(path).set_index("transaction_id"), out.getvalue(), path


def test_labels_are_those_known_at_the_time_and_the_same_time_gives_the_same_snapshot(decided):
    late, early, quiet = decided("approve", (True, 60)), decided("review", (True, 5), (False, 60)), decided("approve")
    as_of = (LONG_AGO + timedelta(days=50)).isoformat()
    then, _, path = exported(as_of=as_of)
    assert then["Class"].to_dict() == {late: 0, early: 1, quiet: 0}
    assert then["_is_labelled"].to_dict() == {late: False, early: True, quiet: False}
    now, _, later = exported()
    assert now["Class"].to_dict() == {late: 1, early: 0, quiet: 0}
    assert exported(as_of=as_of)[2] == path != later


def test_a_fraud_that_only_the_random_sample_found_stands_for_those_that_were_not_drawn(decided):
    found, reported, fine = decided("approve", (True, 5)), decided("approve", (True, 5)), decided("approve", (False, 5))
    Review.objects.update(is_sample=True, sample_probability=0.25)
    Label.objects.exclude(transaction=reported).update(source="analyst")
    rows, _, _ = exported()
    assert rows["_weight"].to_dict() == {found: 4.0, reported: 1.0, fine: 1.0}


def test_what_nobody_can_know_yet_is_left_out_and_counted(decided):
    disputed, known = decided("approve", (None, 5)), decided("approve")
    unlabelled = decided("block")
    young = decided("approve", (True, 1))
    Prediction.objects.filter(pk=young).update(created_at=NOW - timedelta(days=44))
    rows, output, _ = exported()
    assert set(rows.index) == {known}
    assert {disputed, unlabelled, young}.isdisjoint(rows.index)
    assert "2 left out, without a known outcome" in output


@pytest.mark.parametrize("path", ["ulb/snapshots/none.parquet", "../elsewhere.parquet", "ulb", "/etc/hostname", "a\0b"])
def test_training_on_a_snapshot_that_is_none_is_refused_by_the_name_of_the_option(db, path):
    with pytest.raises(CommandError, match=r"--snapshot: there is no file .* `export_training_set` prints the path"):
        call_command("train", schema="ulb", snapshot=path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "has a known outcome"),
        ({"as_of": "soon"}, "takes an ISO time"),
        ({"as_of": "2999-01-01"}, "lies in the future"),
        ({"schema": "nothing"}, "nothing"),
        *(({"maturity_days": days}, "from 0 to 3,650") for days in (-1.0, float("nan"), float("inf"), 1e300)),
    ],
)
def test_a_snapshot_of_nothing_is_refused_with_the_reason(champion, options, told):
    with pytest.raises(CommandError, match=told):
        call_command("export_training_set", **{"schema": "ulb"} | options)
    assert not list((site.DATASETS_DIR / "ulb" / "snapshots").glob("*.part"))


def test_features_are_those_that_decided_to_the_last_bit(handbook_champion, acme):
    loaded = predictor.refresh("handbook")
    rows = [
        submission(acme.pk, {"schema": "handbook", "customer": "c", "terminal": f"t{i % 3}", "amount": 10.5 * i})
        for i in range(20)
    ]
    batches.score_batch(submissions=rows, predictor=loaded, started_at=0.0)
    Prediction.objects.update(created_at=LONG_AGO)
    Label.objects.create(transaction=Transaction.objects.all()[0], is_fraud=True, verdict=True, source="chargeback")
    Review.objects.all().delete()
    Prediction.objects.update(decision="approve")
    snapshot, _, path = exported("handbook")
    dataset = storage.read(path, load_schema("handbook"))
    scores = loaded.score(loaded.encode(dataset.features).astype(np.float32))
    assert len(scores) == 20
    assert scores.tolist() == snapshot["_fraud_score"].tolist()


def test_outcomes_of_the_control_group_stand_for_all_would_be_alerts(everything_let_through, acme):  # noqa: F811
    rows = [submission(acme.pk, fraudulent_payload(Amount=50.0)) for _ in range(40)]
    rows.append(submission(acme.pk, seed_payload()))
    batches.score_batch(submissions=rows, predictor=everything_let_through, started_at=0.0)
    Prediction.objects.update(created_at=LONG_AGO)
    through = Prediction.objects.filter(evidence__control__let_through=True)
    alerts = Prediction.objects.exclude(decision="approve")
    weights = exported()[0]["_weight"]
    assert {weights[str(row.pk)] for row in through} == {2.0}
    assert len(weights) == len(through) + 1
    # Somebody looks at half of the others: each known outcome stands for fewer.
    half = list(alerts)[: len(alerts) // 2]
    Label.objects.bulk_create(
        Label(transaction_id=row.pk, is_fraud=True, verdict=True, source="analyst") for row in half
    )
    rows, _, path = exported()
    weight = rows["_weight"][str(half[0].pk)]
    share = len(half) / len(alerts)
    assert weight == rows["_weight"][str(through[0].pk)] == pytest.approx(1 / (0.5 + 0.5 * share))
    dataset = storage.read(path, load_schema("ulb"))
    assert dataset.weights is not None
    times = [splits.times_of(dataset.weights, seed=seed).sum() for seed in range(50)]
    assert np.mean(times) == pytest.approx(dataset.weights.sum(), rel=0.03)


def test_a_snapshot_under_another_declaration_is_refused(decided):
    decided("approve")
    _, _, path = exported()
    with pytest.raises(DatasetError, match=r"has no amount, .*: handbook was declared otherwise"):
        storage.read(path, load_schema("handbook"))


RECIPE = """
[split]
test_days = 16
validation_days = 8
train_days = 60
keep_known_cards = true
[model]
architecture = "xgboost"
[xgboost]
epochs = 60
depth = 3
[policy]
review_precision = 0.3
[evaluation]
bootstrap_resamples = 20
"""


class Months:
    """Generated payments as the schema `handbook` has them, on the live path: an analyst looks at alerts on the same
    day, and frauds that were approved come back as chargebacks after twelve days."""

    def __init__(self, client, analyst, first):
        wanted = generator.wanted(rows=None, card_count=100, days=90, start=first.date(), seed=1, fraud_share=0.2)
        tables = [table.to_pandas() for table in generator.generated(wanted)]
        rows = pd.concat(tables, ignore_index=True)
        self.rows = rows[rows["card"].str.split("-").str[1].astype(int) % 4 == 1]
        self.day = (self.rows["event_time"] - self.rows["event_time"].min()).dt.days
        self.client, self.analyst, self.first, self.truth = client, analyst, first, {}
        self.predictor = predictor.refresh("handbook")

    def pass_by(self, since, until, labelled):
        for day in range(since, until, 3):
            rows = self.rows[(self.day >= day) & (self.day < day + 3)]
            sent = [
                validate(
                    {"schema": "handbook", "customer": row.card, "terminal": row.merchant, "amount": row.amount}
                    | {"event_time": row.event_time.isoformat(), "transaction_id": row.transaction_id},
                    schema=self.predictor.schema,
                    client_id=self.client.pk,
                    received_at=row.event_time,
                    deadline_ms=10**10,
                    clock_skew_s=0,
                )
                for row in rows.itertuples()
            ]
            batches.score_batch(submissions=sent, predictor=self.predictor, started_at=0.0)
            end = self.first + timedelta(days=day + 3)
            Prediction.objects.filter(created_at__gte=NOW).update(created_at=end - timedelta(days=2))
            self.truth |= dict(zip(rows["transaction_id"], rows["is_fraud"].astype(bool), strict=True))
            if labelled:
                self.labels_come(day, day + 3)

    def labels_come(self, since, until):
        for day in range(since, until, 3):
            self._label(day, self.first + timedelta(days=day + 3))

    def _label(self, day, end):
        for review in Review.objects.filter(state="open").select_related("prediction__transaction"):
            is_fraud = self.truth[review.prediction.transaction.transaction_id]
            labelling.close_review(review=review, is_fraud=is_fraud, reviewer=self.analyst)
        old = self.rows[(self.day >= day - 12) & (self.day < day - 9) & self.rows["is_fraud"].astype(bool)]
        said = [Incoming(None, name, "chargeback_lost", "chargeback", end, None, "") for name in old["transaction_id"]]
        receiving.receive(self.client.pk, said)
        Label.objects.filter(created_at__gte=NOW).update(created_at=end)


def test_a_retraining_proposes_a_challenger_that_is_better_on_the_next_month(
    handbook_champion, acme, alice, own_schemas, settings
):
    (own_schemas / "configs").mkdir()
    (own_schemas / "configs" / "handbook-retraining.toml").write_text(RECIPE)
    settings.LABEL_MATURITY_DAYS = 15
    first = NOW - timedelta(days=76)
    months = Months(acme, alice, first - timedelta(days=first.weekday()))
    months.pass_by(0, 60, labelled=True)
    months.labels_come(60, 75)
    tasks.retrain()
    run = TrainingRun.objects.get()
    assert (run.state, run.failure) == ("done", "")
    challenger = run.version
    assert challenger
    assert challenger.is_proposed
    assert registry.champion("handbook") == handbook_champion
    months.pass_by(60, 90, labelled=False)
    names = [name for name in months.truth if name in set(months.rows[months.day >= 60]["transaction_id"])]
    stored = {row.transaction.transaction_id: row for row in Prediction.objects.select_related("transaction")}
    rows = [stored[name] for name in names]
    truth = [months.truth[name] for name in names]
    new = predictor.of_version(challenger)
    inputs = scorer.stored_inputs(
        new.encode, [row.transaction.fields for row in rows], [row.derived or {} for row in rows]
    )
    before = average_precision_score(truth, [row.fraud_score for row in rows])
    assert average_precision_score(truth, new.score(inputs)) > before + 0.05
    tasks.retrain()  # of two schedules, the second has nothing to do
    assert TrainingRun.objects.count() == 1
    registry.consider(ModelVersion.objects.get(pk=challenger.pk), by="mel", promotes=True)
    assert registry.champion("handbook") == challenger
