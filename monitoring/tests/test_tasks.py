"""The tasks that beat starts: a real worker performs them, and they do not pile up."""

import time

import pytest
from celery.schedules import crontab
from django.conf import settings
from django.utils import timezone

from fraudsite.celery import app
from fraudsite.testing import PROCESS_START_S
from monitoring import tasks
from monitoring.models import TrafficRollup
from monitoring.tests.support import predict

SCHEDULE = settings.CELERY_BEAT_SCHEDULE
OURS = ["monitoring.tasks.update_rollups", "monitoring.tasks.measure_drift"]


def test_counting_and_drift_are_on_the_schedule():
    assert {entry["task"] for entry in SCHEDULE.values()} >= set(OURS)


@pytest.mark.parametrize("name", SCHEDULE)
def test_what_is_on_the_schedule_is_a_task(name):
    app.loader.import_default_modules()
    assert SCHEDULE[name]["task"] in app.tasks


@pytest.mark.parametrize("name", SCHEDULE)
def test_a_message_that_nobody_took_is_stale_before_the_next_comes(name):
    schedule = SCHEDULE[name]["schedule"]
    interval_s = 86_400.0 if isinstance(schedule, crontab) else schedule  # those by the clock come once a day
    assert 0 < SCHEDULE[name]["options"]["expires"] <= interval_s


@pytest.mark.parametrize("name", OURS)
def test_it_never_delays_the_realtime_queue(name):
    queue = app.amqp.router.route({}, name)["queue"]
    assert queue.name == settings.BULK_QUEUE


def test_a_worker_counts_the_traffic(worker, champion, acme):
    predict(champion, acme, [timezone.now()] * 3)
    tasks.update_rollups.apply_async(expires=20)
    give_up = time.monotonic() + PROCESS_START_S
    while not TrafficRollup.objects.exists():
        assert time.monotonic() < give_up, "nothing was counted"
        time.sleep(0.05)
    assert {row.transactions for row in TrafficRollup.objects.all()} == {3}
