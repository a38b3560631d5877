"""How figures and times are written where people read them."""

import re
from datetime import UTC, datetime, timedelta
from datetime import timezone as zone

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from monitoring.models import DriftReport
from scoring.models import Prediction
from training.core.figures import at
from training.models import ModelVersion

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")


def test_a_time_is_written_with_its_zone_whatever_it_came_in():
    moment = datetime(2026, 11, 28, 7, 0, 5, 999, tzinfo=UTC)
    assert at(moment) == at(moment.astimezone(zone(timedelta(hours=5)))) == "2026-11-28 07:00:05 UTC"


@pytest.mark.parametrize(
    ("threshold", "shown"), [(0.123456789, "0.1235"), (0.0000123456, "0.0000123"), (1.0, "1.0000")]
)
def test_a_threshold_has_a_sensible_number_of_digits(client, mel, champion, capsys, threshold, shown):
    ModelVersion.objects.update(review_threshold=threshold, block_threshold=None)
    client.force_login(mel)
    page = client.get(reverse("admin:training_modelversion_changelist")).content.decode()
    assert f"review {shown}<br>block none" in page
    call_command("models", "list")
    listed = capsys.readouterr().out
    assert shown in listed
    assert TIME.search(listed)
    assert TIME.search(page)


def test_a_threshold_that_is_sent_back_as_it_was_shown_is_not_changed(client, mel, champion):
    ModelVersion.objects.update(review_threshold=0.043865739646438875, block_threshold=0.34703534870453645)
    address = reverse("admin:training_modelversion_change", args=[champion.pk])
    client.force_login(mel)
    page = client.get(address).content.decode()
    assert 'value="0.0438657"' in page
    client.post(address, {"review_threshold": "0.0438657", "block_threshold": "0.5"})
    champion.refresh_from_db()
    assert (champion.review_threshold, champion.block_threshold) == (0.043865739646438875, 0.5)


@pytest.mark.parametrize(
    ("fraud_score", "shown"), [(0.98765432, "0.9877"), (0.00004321, "0.0000432"), (0.0, "0.0000"), (1.0, "1.0000")]
)
def test_a_score_never_looks_like_nothing_where_its_threshold_does_not(client, alice, alert, fraud_score, shown):
    review = alert(fraud_score)
    Prediction.objects.update(latency_ms=1234.5678)
    client.force_login(alice)
    pages = [
        client.get(reverse("admin:scoring_review_changelist")),
        client.get(reverse("admin:scoring_review_change", args=[review.pk])),
        client.get(reverse("admin:scoring_prediction_changelist")),
        client.get(reverse("admin:scoring_prediction_change", args=[review.pk])),
    ]
    for page in pages:
        assert (
            re.search(rf">\s*{re.escape(shown)}\s*<", page.content.decode())
            or f"score {shown}" in page.content.decode()
        )
    assert "1,234.6" in pages[3].content.decode()


@pytest.mark.django_db
def test_a_drift_report_has_three_decimals(client, mel, champion):
    report = DriftReport.objects.create(
        model_version=champion,
        created_at=timezone.now(),
        window_start=timezone.now(),
        window_end=timezone.now(),
        samples=500,
        score=0.1234567,
        features={"V14": 0.04567},
        status="moderate",
    )
    client.force_login(mel)
    assert ">0.123<" in client.get(reverse("admin:monitoring_driftreport_changelist")).content.decode()
    page = client.get(reverse("admin:monitoring_driftreport_change", args=[report.pk])).content.decode()
    assert "V14 0.046" in page


def test_money_has_two_decimals_among_the_metrics(client, mel, champion):
    metrics = champion.metrics
    metrics["test"]["cost_per_1000"] = {"value": 16406.25001, "low": 1.23456, "high": 20000.0}
    ModelVersion.objects.update(metrics=metrics)
    client.force_login(mel)
    page = client.get(reverse("admin:training_modelversion_change", args=[champion.pk])).content.decode()
    assert "<b>16,406.25</b>" in page
    assert "1.23–20,000.00" in page
