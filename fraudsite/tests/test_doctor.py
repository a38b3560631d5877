"""`manage.py doctor` says what is wrong with an installation, and what to do about it."""

import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from fraudsite.doctor import machine, services
from fraudsite.testing import await_follower, free_port
from scoring.models import History, Pending, WebhookDelivery
from scoring.tests.conftest import transaction  # noqa: F401  # a fixture
from scoring.tests.receivers import subscribe
from scoring.worker import workers

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def doctor(capsys):
    def doctor():
        failed = False
        try:
            call_command("doctor", json=True)
        except CommandError:
            failed = True
        found = json.loads(capsys.readouterr().out)
        assert failed == any(finding["level"] == "error" for finding in found)
        assert all(finding["remedy"] for finding in found if finding["level"] != "ok")
        return found

    return doctor


def levels(found, check):
    return [finding["level"] for finding in found if finding["check"] == check]


def words(found, check, level="error"):
    return " ".join(f["words"] for f in found if (f["check"], f["level"]) == (check, level))


def test_it_finds_no_error_in_an_installation_at_work(worker, champion, doctor, settings):
    await_follower(worker, "ulb", champion.pk)
    Path(settings.VAR_DIR, "beat-alive").unlink(missing_ok=True)  # of a beat of an earlier test
    found = doctor()
    assert not [finding for finding in found if finding["level"] == "error"]
    checks = {finding["check"] for finding in found if finding["level"] == "ok"}
    assert {"disk", "migrations", "redis", "clock", "store", "model", "workers", "queues", "pending"} <= checks


def test_it_tells_in_words_what_to_do(champion, capsys):
    with pytest.raises(CommandError, match="findings are errors"):
        call_command("doctor")
    told = capsys.readouterr().out
    assert "No realtime worker scores ulb" in told
    assert "Start workers" in told


def test_it_tells_that_no_model_decides(doctor):
    assert "No model decides" in words(doctor(), "model")


def test_it_tells_that_the_broker_is_away_and_checks_what_else_can_be_checked(doctor, champion, settings):
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    found = doctor()
    assert "does not answer" in words(found, "redis")
    assert levels(found, "model") == ["ok"]


def test_it_tells_that_the_database_is_away(doctor, monkeypatch):
    def away(*args, **options):
        raise DatabaseError("connection refused")

    monkeypatch.setattr(connection, "cursor", away)
    found = doctor()
    assert "connection refused" in words(found, "database")
    assert levels(found, "redis")[0] == "ok"


def test_it_tells_which_migrations_are_missing(doctor):
    MigrationRecorder.Migration.objects.filter(app="monitoring").order_by("-pk")[0].delete()
    assert "monitoring.0" in words(doctor(), "migrations")


def test_it_tells_that_the_store_cannot_be_written(doctor, settings, tmp_path):
    (tmp_path / "file").touch()
    settings.STORAGE_URL = str(tmp_path / "file" / "storage")
    assert "cannot be used" in words(doctor(), "store")


def test_it_tells_that_a_bundle_is_not_signed_with_our_key(doctor, champion, settings):
    settings.BUNDLE_SIGNING_KEY = "another"
    assert str(champion) in words(doctor(), "model")


def test_it_tells_which_histories_are_stale(doctor, handbook_champion):
    now = timezone.now()
    for token in "ab":
        History.objects.create(
            token=token, schema="handbook", entity="customer", events=bytes(8), last_sequence=0, updated_at=now
        )
    assert "2 of 2 histories of customer are stale" in words(doctor(), "histories")


def test_it_tells_that_a_clock_is_wrong(doctor, monkeypatch):
    began = time.time
    monkeypatch.setattr(services.time, "time", lambda: began() + 60)
    assert "from this machine's" in words(doctor(), "clock")


@pytest.mark.parametrize(("ahead_s", "where"), [(300, "ahead of"), (-300, "behind")])
def test_it_tells_which_workers_clock_is_wrong(doctor, monkeypatch, ahead_s, where):
    now = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + ahead_s)
        workers.publish(workers.Status("realtime@other", {}, {}))
    told = words(doctor(), "clock")
    workers.connection().delete(f"{workers.PREFIX}realtime@other")
    assert f"realtime@other is 300.0 s {where} that of Redis" in told


def test_it_tells_that_the_disk_is_nearly_full(doctor, settings):
    settings.DOCTOR_DISK_FREE_GB = 1e6
    assert "GB are free" in words(doctor(), "disk")


def test_it_tells_that_beat_stands_still(doctor, settings, tmp_path):
    settings.VAR_DIR = tmp_path
    assert levels(doctor(), "beat") == ["warning"]
    Path(tmp_path, "beat-alive").touch()
    assert levels(doctor(), "beat") == ["ok"]
    an_hour_ago = time.time() - 3_600
    os.utime(tmp_path / "beat-alive", (an_hour_ago, an_hour_ago))
    assert levels(doctor(), "beat") == ["error"]


def test_it_tells_what_was_set_aside_and_what_waits_for_long(doctor, transaction, settings):  # noqa: F811
    late = timezone.now() - timedelta(hours=1)
    Pending.objects.create(transaction=transaction(), due_at=late)
    Pending.objects.create(transaction=transaction(), due_at=late, attempts=settings.PENDING_ATTEMPTS_LIMIT)
    told = words(doctor(), "pending")
    assert "1 stored transactions are set aside" in told
    assert "1 stored transactions wait" in told


def test_it_tells_which_webhooks_were_given_up(doctor, acme, champion):
    endpoint = subscribe(acme, "https://hooks.example/fraud")[0]
    WebhookDelivery.objects.create(endpoint=endpoint, type="alert.opened", payload="{}", state="dead")
    assert "1 deliveries were given up" in words(doctor(), "webhooks", "warning")


def test_it_warns_of_packages_with_other_versions(doctor, monkeypatch):
    monkeypatch.setattr(machine.metadata, "version", lambda name: "0.0.1")
    assert "is 0.0.1, not" in words(doctor(), "packages", "warning")
