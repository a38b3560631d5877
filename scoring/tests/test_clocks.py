"""Machines whose clocks disagree: what is written on one is judged on another by the clock of Redis."""

import sys
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from django.db import connection
from django.utils import timezone
from kombu import Message

from fraudsite import celery_app
from fraudsite.expiring import Request
from fraudsite.testing import seed_payload
from fraudsite.tests.deployment import deployment, run
from scoring import tasks
from scoring.messages import clock as of_redis
from scoring.messages import replies
from training import clock

MINUTES = 5


@pytest.fixture
def set_clock(monkeypatch, redis_server):
    """Sets this process's clock so many seconds ahead, and has it learn so."""

    def set_clock(ahead_s):
        now = timezone.now
        monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=ahead_s))
        monkeypatch.setattr(of_redis.time, "time", lambda: now().timestamp() + ahead_s)
        clock.correct(of_redis.ahead_s(replies.connection()))

    yield set_clock
    clock.correct(0.0)


@pytest.mark.alone
def test_a_worker_ahead_and_a_web_server_behind_answer_in_time_and_agree_on_when(tmp_path):
    skew_s = 60 * MINUTES
    with deployment(connection.vendor, ahead={"worker0": skew_s, "web": -skew_s}) as system:
        began = datetime.now(UTC)
        for number in range(10):
            body = seed_payload(transaction_id=f"order-{number}")
            answer = httpx.post(
                f"{system.url}/api/v1/predict", json=body, headers={"Authorization": system.authorization}, timeout=30
            )
            assert answer.status_code == 200, answer.text
            assert answer.json()["fraud_score"] is not None
        ended = datetime.now(UTC)
        told = (
            "from scoring.models import Prediction; from django.db.models import F, Min, Max; "
            "print(*Prediction.objects.aggregate(a=Min('created_at'), b=Max('created_at'), "
            "c=Max(F('created_at') - F('transaction__received_at'))).values(), sep='|')"
        )
        printed = run([sys.executable, "manage.py", "shell", "-v", "0", "-c", told], system.environment)
    first, last, longest = printed.splitlines()[-1].split("|")
    assert began - timedelta(seconds=5) < datetime.fromisoformat(first) <= datetime.fromisoformat(last)
    assert datetime.fromisoformat(last) < ended + timedelta(seconds=5)
    assert longest.startswith("0:00:")


@pytest.mark.parametrize("ahead_s", [60 * MINUTES, -60 * MINUTES, 0])
def test_a_clock_that_is_wrong_is_corrected_by_that_of_redis(set_clock, ahead_s):
    true = timezone.now()
    set_clock(ahead_s)
    assert abs((clock.now() - true).total_seconds()) < 60
    assert abs(clock.seconds() - true.timestamp()) < 60


def message(expires):
    return Request(
        Message(),
        app=celery_app,
        task=tasks.resend_pending,
        body=([], {}, {}),
        headers={"id": "1", "task": tasks.resend_pending.name, "expires": expires.isoformat()},
        decoded=True,
    )


@pytest.mark.parametrize("ahead_s", [60 * MINUTES, -60 * MINUTES])
def test_celery_drops_messages_by_the_clock_of_all(set_clock, ahead_s):
    now = timezone.now()
    set_clock(ahead_s)
    assert not message(now + timedelta(minutes=1)).maybe_expire()
    assert message(now - timedelta(minutes=1)).maybe_expire()


@pytest.mark.parametrize("ahead_s", [60 * MINUTES, -60 * MINUTES])
def test_a_message_of_beat_expires_by_the_clock_of_all(set_clock, ahead_s):
    sent = []
    now = timezone.now()
    set_clock(ahead_s)
    task = tasks.resend_pending
    with celery_app.connection_for_write() as broker, celery_app.amqp.Producer(broker) as producer:
        producer.publish = lambda body, **options: sent.append(options["headers"])
        celery_app.amqp.send_task_message(
            producer,
            task.name,
            celery_app.amqp.as_task_v2("1", task.name, now=timezone.now(), expires=30.0),
            routing_key="nowhere",
        )
    left = datetime.fromisoformat(sent[0]["expires"]) - now
    assert abs(left.total_seconds() - 30) < 60
