"""What a web server does between SIGTERM and its end."""

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import httpx
import pytest
from django.db import connection, transaction

from fraudsite.testing import PROCESS_START_S, free_port, worker_environment

# Longer than a busy machine takes for a few calls; a second signal ends it.
DRAIN_S = 240.0
SHORT_S = 1.0
# Longer than its last writes may take, and shorter than SQLite waits for a lock; PostgreSQL waits for ever.
ENDS_WITHIN_S = 15


@pytest.fixture
def server(transactional_db, request):
    """A web server that drains, and its address."""
    drain_s = getattr(request, "param", DRAIN_S)
    environment = worker_environment() | {"WEB_DRAIN_S": str(drain_s), "READY_TIMEOUT_MS": "50"}
    url = f"http://127.0.0.1:{(port := free_port())}"
    process = subprocess.Popen([sys.executable, "-m", "fraudsite.web", "--port", str(port)], env=environment)
    try:
        await_status(url, 200)
        yield process, url
    finally:
        process.kill()
        process.wait()


def await_status(url, wanted):
    give_up = time.monotonic() + PROCESS_START_S
    while True:
        try:
            if (answer := httpx.get(f"{url}/healthz", timeout=5)).status_code == wanted:
                return answer
        except httpx.ConnectError:
            pass
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_it_says_that_it_ends_and_still_answers_on_connections_that_it_closes(server):
    process, url = server
    with httpx.Client(base_url=url) as http:
        assert "Connection" not in http.get("/healthz").headers
        process.terminate()
        answer = await_status(url, 503)
        assert (answer.json(), answer.headers["Connection"]) == ({"status": "ending"}, "close")
        assert (http.get("/readyz").status_code, http.get("/admin/login/").status_code) == (503, 200)
        refused = http.post("/predict", json={})
        assert (refused.status_code, refused.headers["Connection"]) == (401, "close")


@pytest.mark.parametrize("server", [SHORT_S], indirect=True)
def test_it_ends_by_itself_after_the_time_that_is_set(server):
    process, _ = server
    told_at = time.monotonic()
    process.terminate()
    assert process.wait(timeout=PROCESS_START_S) == 0
    assert time.monotonic() - told_at >= SHORT_S


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(server, second):
    process, url = server
    told_at = time.monotonic()
    process.terminate()
    await_status(url, 503)
    process.send_signal(second)
    process.wait(timeout=PROCESS_START_S)
    assert time.monotonic() - told_at < DRAIN_S


@contextmanager
def nobody_can_count_refusals():
    """Hold the table to which a web process adds its counts at its end."""
    if connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE scoring_refusalcount IN EXCLUSIVE MODE")
            yield
    else:
        with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield


def test_a_database_that_lets_nobody_write_does_not_keep_it_from_its_end(server):
    process, url = server
    assert httpx.post(f"{url}/predict", json={}).status_code == 401
    with nobody_can_count_refusals():
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=ENDS_WITHIN_S) == 0
