"""Drift reports in the admin: every role can read them, and nobody can change them."""

import pytest
from django.urls import reverse

from monitoring.models import DriftReport
from monitoring.tests.support import NOON

pytestmark = pytest.mark.django_db

LIST = reverse("admin:monitoring_driftreport_changelist")
ROLES = ["alice", "mel", "ada"]


@pytest.fixture
def report(champion):
    return DriftReport.objects.create(
        created_at=NOON,
        model_version=champion,
        window_start=NOON,
        window_end=NOON,
        samples=512,
        features={"V14": 0.31, "Amount": 0.02},
        score=0.07,
        status=DriftReport.Status.STRONG,
    )


@pytest.mark.parametrize("person", ROLES)
def test_every_role_finds_and_reads_a_report(client, request, report, person):
    client.force_login(request.getfixturevalue(person))
    assert LIST in client.get(reverse("admin:index")).content.decode()
    listing = client.get(LIST, {"status": "strong"}).content.decode()
    assert "Strong drift" in listing
    assert report.model_version.version in listing
    assert "0 drift reports" in client.get(LIST, {"status": "stable"}).content.decode()
    page = client.get(reverse("admin:monitoring_driftreport_change", args=[report.pk])).content.decode()
    assert "V14" in page
    assert "512" in page


@pytest.mark.parametrize("person", ROLES)
def test_nobody_changes_makes_or_deletes_a_report(client, request, report, person):
    client.force_login(request.getfixturevalue(person))
    change = reverse("admin:monitoring_driftreport_change", args=[report.pk])
    assert client.post(change, {"score": 0, "status": "stable", "_save": "Save"}).status_code == 403
    assert client.get(reverse("admin:monitoring_driftreport_add")).status_code == 403
    delete = reverse("admin:monitoring_driftreport_delete", args=[report.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403
    client.post(LIST, {"action": "delete_selected", "_selected_action": [report.pk], "post": "yes"})
    report.refresh_from_db()
    assert (report.score, report.status) == (0.07, "strong")


def test_a_stranger_is_asked_to_log_in(client, report):
    assert client.get(LIST)["Location"].startswith(reverse("admin:login"))
