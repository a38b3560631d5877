"""Drift of the champion's recent traffic from its training data."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.conf import settings as django_settings

from monitoring.drift import measurement
from monitoring.drift.measurement import TooFewSamples, measure_drift
from monitoring.drift.psi import PopulationStabilityIndex
from monitoring.drift.thinning import thin
from monitoring.models import DriftReport
from monitoring.tasks import measure_drift as measure_drift_task
from monitoring.tests.support import NOON, made_up_fields, moments, predict
from scoring.models import Prediction, Transaction, WebhookDelivery
from scoring.webhooks import endpoints
from training import registry
from training.core.exceptions import BundleRefused, NoChampion
from training.core.families.preprocessing import reference_histogram
from training.core.schema import load_schema
from training.models import ModelVersion
from training.tests.support import (
    bundle_of_purchases,
    made_up_purchases,
    made_up_rows,
    tiny_bundle,
    with_purchases,
)

pytestmark = pytest.mark.django_db

SAMPLES = 600


@pytest.fixture(autouse=True)
def nothing_read_yet(monkeypatch):
    """Each test is a process that has not read a bundle yet."""
    monkeypatch.setattr(measurement, "_references", {})


@pytest.fixture
def post(acme):
    """Recent traffic that a version scored, like its training rows but for the shifts."""

    def of(version, count=SAMPLES, *, shifts=None, fraud_scores=None, before=NOON):
        times = sorted(moments(count, before=before, within=timedelta(hours=1)))
        fields = made_up_fields(count, **shifts or {})
        return predict(version, acme, times, fields=fields, fraud_scores=fraud_scores or usual_scores(version, count))

    return of


def usual_scores(version, count):
    """Scores that fall into the bins of the reference as the reference did."""
    reference = registry.load(version).reference["score"]
    edges = np.array(reference["edges"])
    inside = np.concatenate([[edges[0] / 2], (edges[:-1] + edges[1:]) / 2, [(edges[-1] + 1) / 2]])
    return np.random.default_rng(1).choice(inside, count, p=reference["proportions"]).tolist()


def test_below_the_minimum_sample_nothing_is_said(champion, post, settings):
    post(champion, settings.DRIFT_MIN_SAMPLES - 1)
    assert measure_drift(schema="ulb") == TooFewSamples(settings.DRIFT_MIN_SAMPLES - 1, settings.DRIFT_MIN_SAMPLES)
    assert not DriftReport.objects.exists()


def test_with_the_minimum_sample_drift_is_measured(champion, post, settings):
    post(champion, settings.DRIFT_MIN_SAMPLES)
    assert measure_drift(schema="ulb").samples == settings.DRIFT_MIN_SAMPLES


@pytest.mark.parametrize(
    ("psi", "status"), [(0.0999, "stable"), (0.1, "moderate"), (0.2499, "moderate"), (0.25, "strong")]
)
def test_the_status_of_a_report_is_that_of_its_largest_index(champion, post, monkeypatch, psi, status):
    measured = iter([psi, *[0.0] * 30])
    monkeypatch.setattr(PopulationStabilityIndex, "measure", lambda *_: next(measured))
    post(champion)
    assert measure_drift(schema="ulb").status == status


def test_traffic_like_the_training_rows_is_stable(champion, post):
    rows = post(champion)
    report = measure_drift(schema="ulb")
    assert DriftReport.objects.get() == report
    assert (report.status, report.samples, report.model_version) == ("stable", SAMPLES, champion)
    assert (report.window_start, report.window_end) == (rows[0].created_at, rows[-1].created_at)
    assert report.features.keys() == made_up_fields(1)[0].keys()
    assert max(report.score, *report.features.values()) < 0.1


@pytest.mark.parametrize(("shift", "status"), [(0.45, "moderate"), (2.0, "strong")])
def test_a_feature_that_moved_is_named_and_no_other(champion, post, shift, status):
    post(champion, shifts={"V7": shift})
    report = measure_drift(schema="ulb")
    assert report.status == status
    assert max(report.features, key=report.features.get) == "V7"
    assert max(value for name, value in report.features.items() if name != "V7") < 0.1


def test_scores_that_moved_are_drift_too(champion, post):
    post(champion, fraud_scores=[0.99] * SAMPLES)
    report = measure_drift(schema="ulb")
    assert report.status == "strong"
    assert report.score > 0.25 > max(report.features.values())


def test_only_the_latest_traffic_counts(champion, post, settings):
    settings.DRIFT_MAX_SAMPLES = SAMPLES
    post(champion, shifts={"V7": 5.0}, before=NOON - timedelta(hours=2))
    post(champion)
    report = measure_drift(schema="ulb")
    assert (report.status, report.samples) == ("stable", SAMPLES)


def test_only_the_traffic_of_the_champion_counts(champion, post):
    bundle = tiny_bundle(
        django_settings.BUNDLES_DIR, django_settings.BUNDLE_SIGNING_KEY, **{"model.seed": 3, "model.epochs": 3}
    )
    challenger = registry.register(bundle, promote=False)
    post(champion)
    post(challenger, shifts={"V7": 5.0})
    assert measure_drift(schema="ulb").status == "stable"
    challenger.promote(by="mel")
    report = measure_drift(schema="ulb")
    assert (report.model_version, report.status) == (challenger, "strong")


def test_without_a_champion_there_is_nothing_to_compare_with(db):
    with pytest.raises(NoChampion):
        measure_drift(schema="ulb")


def test_drift_is_told_to_webhooks_when_it_begins_and_when_it_grows_and_once_each(champion, post, acme, monkeypatch):
    endpoints.create(client=acme, url="https://shop.example/", event_types=["drift.detected"])
    post(champion)
    for psi in (0.0, 0.15, 0.15, 0.3, 0.3, 0.0, 0.3):
        measured = iter([psi, *[0.0] * 30])
        monkeypatch.setattr(PopulationStabilityIndex, "measure", lambda *_, measured=measured: next(measured))
        measure_drift(schema="ulb")
    told = [json.loads(row.payload)["data"] for row in WebhookDelivery.objects.order_by("pk")]
    assert [about["status"] for about in told] == ["moderate", "strong", "strong"]
    assert told[0]["drifted_features"] == ["Time"]
    assert told[0]["model_version"] == champion.pk


def test_the_task_stores_a_report(champion, post):
    post(champion)
    measure_drift_task()
    assert DriftReport.objects.get().status == "stable"


def test_every_live_schema_is_measured_and_what_is_computed_of_its_traffic_too(champion, handbook_champion, acme, post):
    post(champion)
    names = load_schema("handbook").input_names
    times = moments(SAMPLES, before=NOON, within=timedelta(hours=1))
    rows = predict(handbook_champion, acme, times)
    for row in rows:
        row.transaction.fields = {"amount": 12.5}
        row.transaction.save()
        row.derived = dict.fromkeys(names[1:], 0.0)
        row.save()
    measure_drift_task()
    reports = {report.model_version.schema: report for report in DriftReport.objects.all()}
    assert reports.keys() == {"ulb", "handbook"}
    assert reports["handbook"].features.keys() == set(names)
    assert (reports["ulb"].status, reports["handbook"].status) == ("stable", "strong")


@pytest.mark.parametrize(("days", "status"), [(1, "stable"), (8, "strong")])
def test_the_hour_of_the_day_is_no_drift_until_the_traffic_spans_a_week(
    handbook_champion, acme, monkeypatch, days, status
):
    names = load_schema("handbook").input_names
    measured = iter([float(name == "is_night") for name in (*names, "score")])
    monkeypatch.setattr(PopulationStabilityIndex, "measure", lambda *_: next(measured))
    predict(handbook_champion, acme, sorted(moments(SAMPLES, before=NOON, within=timedelta(days=days))))
    Transaction.objects.update(fields={"amount": 12.5})
    Prediction.objects.update(derived=dict.fromkeys(names[1:], 0.0))
    report = measure_drift(schema="handbook")
    assert (report.features["is_night"], report.status) == (1.0, status)


def test_of_old_reports_the_last_of_an_hour_stays_and_of_older_ones_the_last_of_a_day(champion):
    retired = ModelVersion.objects.create(version="retired", schema="ulb", review_threshold=0.5)
    now = datetime(2026, 5, 20, 12, tzinfo=UTC)

    def report(version, *moments):
        for moment in moments:
            at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
            ends = {
                "window_start": at,
                "window_end": at,
                "samples": 1,
                "features": {},
                "score": 0.0,
                "status": "stable",
            }
            DriftReport.objects.create(model_version=version, created_at=at, **ends)

    latest, hourly, daily = "2026-05-20T10:00 2026-05-20T10:01", "2026-05-01T10:59", "2026-01-01T23:00"
    report(champion, *latest.split(), "2026-05-01T10:00", hourly, "2026-05-01T11:30", "2026-01-01T03:00", daily)
    report(retired, "2026-01-01T02:00")
    assert [thin(now=now), thin(now=now)] == [2, 0]
    kept = DriftReport.objects.filter(model_version=champion).order_by("created_at")
    assert [f"{moment:%Y-%m-%dT%H:%M}" for moment in kept.values_list("created_at", flat=True)] == [
        daily,
        hourly,
        "2026-05-01T11:30",
        *latest.split(),
    ]
    assert DriftReport.objects.filter(model_version=retired).count() == 1


def test_the_task_says_that_there_is_no_champion_and_goes_on(db, caplog):
    measure_drift_task()
    assert "Drift was not measured: No model has been promoted" in caplog.text


def test_the_task_says_that_the_bundle_was_altered_and_goes_on(champion, post, settings, tmp_path, caplog):
    post(champion)
    directory = shutil.copytree(champion.bundle_dir, tmp_path / champion.version)
    settings.BUNDLES_DIR, settings.STORAGE_URL = tmp_path, str(tmp_path / "empty")
    weights = directory / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleRefused):
        measure_drift(schema="ulb")
    measure_drift_task()
    assert "Drift was not measured" in caplog.text
    assert not DriftReport.objects.exists()


def test_the_made_up_traffic_is_not_the_training_rows(champion):
    # Or the tests above would compare the reference with itself.
    training, _ = made_up_rows()
    assert made_up_fields(1)[0]["V1"] not in training[:, 1]


def drawn(shares, count, seed):
    """A column of the values in `shares`, each with its share."""
    return np.random.default_rng(seed).choice(list(shares), count, p=list(shares.values())).astype(np.float32)


@pytest.mark.parametrize(
    ("trained", "live"),
    [
        ({0: 0.97, 5: 0.03}, dict.fromkeys(range(1, 10), 1 / 9)),
        ({0: 0.97, 5: 0.03}, {0: 0.7, 5: 0.3}),
        ({0: 0.88, 5: 0.12}, {0: 0.7, 5: 0.3}),
        ({7: 1.0}, {7.5: 1.0}),
        ({7: 1.0}, {6.5: 1.0}),
        ({7: 1.0}, {7: 0.8, 8: 0.2}),
        ({0.1: 1.0}, {0.2: 1.0}),
        ({0: 0.5, 1: 0.5}, {0: 0.8, 1: 0.2}),
        ({0: 0.95, 1: 0.05}, {0: 0.7, 1: 0.3}),
        ({0: 0.5, 1: 0.5}, {0: 0.5, 2: 0.5}),
        ({1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1}, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}),
        ({1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1}, {1.5: 0.4, 2: 0.3, 3: 0.2, 4: 0.1}),
        ({-1: 0.12} | dict.fromkeys(range(88), 0.01), {-0.5: 0.12} | dict.fromkeys(range(88), 0.01)),
    ],
)
def test_values_that_are_frequent_drift_when_they_move_and_not_when_they_stay(trained, live):
    psi = PopulationStabilityIndex(**reference_histogram(drawn(trained, 5_000, seed=0)))
    assert psi.measure(drawn(trained, 2_000, seed=1)) < PopulationStabilityIndex.MODERATE
    assert psi.measure(drawn(live, 2_000, seed=2)) > PopulationStabilityIndex.MODERATE


@pytest.fixture(scope="module")
def purchases_bundle(tmp_path_factory):
    trees = {"model.architecture": "xgboost", "xgboost.epochs": 20}
    with with_purchases(tmp_path_factory.mktemp("declared")):
        yield bundle_of_purchases(django_settings.BUNDLES_DIR, django_settings.BUNDLE_SIGNING_KEY, **trees)


@pytest.mark.parametrize("moved", [None, "category", "device_days", "country"])
def test_categories_that_nobody_knew_and_values_that_are_missing_are_drift(purchases_bundle, acme, moved):
    champion = registry.register(purchases_bundle, promote=True)
    dataset = made_up_purchases(SAMPLES, seed=1)
    texts = {name: {**texts, np.nan: None} for name, texts in dataset.texts.items()}
    changes = {moved: {"category": "a new one", "device_days": None, "country": None}[moved]} if moved else {}
    fields = [
        {
            name: None if np.isnan(value) else texts[name][value] if name in texts else value
            for name, value in zip(dataset.schema.feature_names, row, strict=True)
        }
        | changes
        for row in dataset.features.tolist()
    ]
    scores = usual_scores(champion, SAMPLES)
    predict(champion, acme, [NOON] * SAMPLES, fields=fields, fraud_scores=scores)
    report = measure_drift(schema="purchases")
    assert [name for name, value in report.features.items() if value > 0.25] == ([moved] if moved else [])
    parts = {None: set(), "category": {"unseen"}, "device_days": {"missing"}, "country": {"missing"}}[moved]
    told = {(name, part) for name, of in report.unusual.items() for part, share in of.items() if share["excess"]}
    assert told == {(moved, part) for part in parts}
    if moved == "category":
        assert report.unusual["category"]["unseen"]["value"] == "a new one"
