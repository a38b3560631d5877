"""What holds when parts are killed under load: real processes, a real Redis, the real database."""

import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from django.conf import settings
from django.db import connection

from fraudsite.testing import fraudulent_payload, seed_payload, suspended
from fraudsite.tests.deployment import Deployment, deployment, run

pytestmark = pytest.mark.alone

DEADLINE_S = 2.0
# A busy test machine may keep a thread waiting before and after the call; a hang is a matter of minutes.
GRACE_S = 3.0
CALLERS = 12


@dataclass
class Answer:
    status: int
    body: bytes
    took_s: float


OPTIONS: dict[str, Any] = {"workers": 2, "PREDICT_DEADLINE_MS": int(DEADLINE_S * 1000)}


@pytest.fixture(scope="module")
def system():
    """One for several tests, each with transactions of its own: it has to go on by itself after what they do to it."""
    with deployment(connection.vendor, **OPTIONS) as made:
        yield made


class Callers:
    """Clients that post transactions at a steady pace, each with an id of its own, and note what they hear."""

    def __init__(self, system: Deployment) -> None:
        self.heard: dict[str, Answer] = {}
        self.before = counts(system)
        self._http = httpx.Client(
            base_url=system.url, headers={"Authorization": system.authorization}, timeout=DEADLINE_S + GRACE_S
        )

    @staticmethod
    def payload(number: int) -> dict[str, Any]:
        # Every twentieth looks like fraud, so that reviews are at stake too.
        payload = fraudulent_payload if number % 20 == 0 else seed_payload
        return payload(transaction_id=f"order-{number}", Amount=number % 10_000)

    def post(self, key: str) -> None:
        began = time.monotonic()
        response = self._http.post("/predict", json=self.payload(int(key.removeprefix("order-"))))
        self.heard[key] = Answer(response.status_code, response.content, time.monotonic() - began)

    def post_all(self, count: int, *, per_s: float, meanwhile: Callable[[], None], after: int = 0) -> None:
        """Post `count` transactions, numbered from `after` on, while something happens, and then what was not answered
        with 200, until it is."""
        happening = threading.Thread(target=meanwhile)
        with ThreadPoolExecutor(CALLERS) as pool:
            happening.start()
            began = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, began + number / per_s - time.monotonic()))
                pool.submit(self.post, f"order-{after + number}")
        happening.join()
        self.first = dict(self.heard)
        assert len(self.first) == count, "a call was left without an answer"
        give_up = time.monotonic() + 60
        with closing(self._http), ThreadPoolExecutor(CALLERS) as pool:
            while again := [key for key, answer in self.heard.items() if answer.status != 200]:
                assert time.monotonic() < give_up, f"{len(again)} without a score, like {self.heard[again[0]]}"
                list(pool.map(self.post, again[: 10 * CALLERS]))


def hold(system: Deployment, callers: Callers, count: int) -> None:
    """Every first call was answered in time, with 200 or 503; what got 200 is stored once, as it was told."""
    assert {answer.status for answer in callers.first.values()} <= {200, 503}
    assert max(answer.took_s for answer in callers.first.values()) < DEADLINE_S + GRACE_S
    told = {key: httpx.Response(200, content=answer.body).json() for key, answer in callers.heard.items()}
    assert len({answer["id"] for answer in told.values()}) == count
    stored = rows(
        system,
        "SELECT t.transaction_id, p.fraud_score FROM scoring_transaction t "
        "JOIN scoring_prediction p ON p.transaction_id = t.id",
    )
    stored = [row for row in stored if row[0] in told]
    assert dict(stored) == {key: answer["fraud_score"] for key, answer in told.items()}
    assert len(stored) == count
    alerts = sum(answer["alert"] for answer in told.values())
    transactions, reviews = counts(system)
    assert (transactions - callers.before[0], reviews - callers.before[1]) == (count, alerts)
    assert alerts


def counts(system: Deployment) -> tuple[int, int]:
    """How many transactions and reviews are stored."""
    [found] = rows(system, "SELECT (SELECT count(*) FROM scoring_transaction), (SELECT count(*) FROM scoring_review)")
    return found[0], found[1]


def rows(system: Deployment, query: str) -> list[tuple]:
    """Ask the deployment's own database."""
    if system.cluster:
        with psycopg.connect(system.cluster.url) as connected:
            return connected.execute(query).fetchall()
    with closing(sqlite3.connect(system.directory / "fraudsite.sqlite3")) as connected:
        return connected.execute(query).fetchall()


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
