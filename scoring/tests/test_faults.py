"""What holds when parts are killed under load: real processes, a real Redis, the real database."""

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import connection

from fraudsite.testing import seed_payload, suspended
from fraudsite.tests.deployment import deployment, run
from scoring.tests.callers import DEADLINE_S, Callers, hold

pytestmark = pytest.mark.alone

OPTIONS: dict[str, Any] = {"workers": 2, "PREDICT_DEADLINE_MS": int(DEADLINE_S * 1000)}


@pytest.fixture(scope="module")
def system():
    """One for several tests, each with transactions of its own: it has to go on by itself after what they do to it."""
    with deployment(connection.vendor, **OPTIONS) as made:
        yield made


def test_workers_killed_ten_times_during_five_thousand_calls_lose_and_double_nothing(system):
    # On SQLite, where only the statements differ, a fifth of it: a worker takes seconds to come back.
    kills, calls = (10, 5_000) if system.cluster else (2, 1_000)

    def kill_again_and_again():
        for turn in range(kills):
            time.sleep(1)
            name = f"worker{turn % 2}"
            system.kill(name)
            system.start(name)
            system.await_worker(name)  # as who restarts one machine after the other

    callers = Callers(system)
    callers.post_all(calls, per_s=60, meanwhile=kill_again_and_again)
    hold(system, callers, calls)
    scored = sum(answer.status == 200 for answer in callers.first.values())
    assert scored > calls * 0.9  # while one worker is dead the other scores


def test_redis_restarted_under_load_loses_nothing_and_all_go_on_by_themselves(system):
    def restart():
        time.sleep(3)
        system.redis.terminate()
        time.sleep(2)
        system.redis.start()

    entries = system.directory / "entries.csv"
    entries.write_text("value\n230\n999\n")
    for arguments in (["create", "amounts", "Amount", "--action", "block"], ["import", "amounts", str(entries)]):
        run([sys.executable, "manage.py", "lists", *arguments], system.environment)
    callers = Callers(system)
    callers.post_all(1_000, per_s=80, meanwhile=restart, after=10_000)
    hold(system, callers, 1_000)
    assert callers.first["order-10999"].status == 200
    # Workers hold lists in memory and read them from the database, so a list counts all the time, from two seconds on.
    for key in ("order-10230", "order-10999"):
        answer = httpx.Response(200, content=callers.heard[key].body).json()
        assert (answer["decision"], answer["lists"]) == ("block", ["amounts"])


@pytest.mark.skipif("sqlite" in settings.DATABASES["default"]["ENGINE"], reason="SQLite has no server.")
def test_postgresql_that_crashes_and_then_hangs_under_load_keeps_what_was_acknowledged(system):
    def crash_and_hang():
        time.sleep(2)
        system.cluster.stop(signal.SIGQUIT)
        time.sleep(2)
        system.cluster.start()
        time.sleep(2)
        with system.cluster.hung():
            time.sleep(3)

    callers = Callers(system)
    callers.post_all(1_000, per_s=80, meanwhile=crash_and_hang, after=20_000)
    assert {answer.status for answer in callers.first.values()} == {200, 503}
    hold(system, callers, 1_000)
    assert callers.first["order-20999"].status == 200


@pytest.fixture
def divided():
    """A worker for each queue."""
    with deployment(connection.vendor, queues=("realtime", "bulk"), BATCH_DEADLINE_MS=60_000, **OPTIONS) as made:
        yield made


def test_a_bulk_worker_that_hangs_delays_no_predict_call(divided):
    rows = [seed_payload(Amount=n) for n in range(1_000)]
    headers = {"Authorization": divided.authorization}
    with httpx.Client(base_url=divided.url, headers=headers, timeout=60) as http, ThreadPoolExecutor(4) as pool:
        with suspended(divided.processes["worker1"].pid):
            batches = [pool.submit(http.post, "/api/v1/predict/batch", json={"transactions": rows}) for _ in range(4)]
            while not all(batch.running() for batch in batches):
                time.sleep(0.01)
            callers = Callers(divided)
            callers.post_all(200, per_s=50, meanwhile=lambda: None)
            assert not any(batch.done() for batch in batches)
        assert {answer.status for answer in callers.first.values()} == {200}
        results = [result for batch in batches for result in batch.result().json()["results"]]
    assert {result["status"] for result in results} == {200}
    assert len(results) == 4_000
