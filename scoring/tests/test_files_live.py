"""Files through a real broker and real workers: computed features, and workers that are killed."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from fraudsite.testing import PROCESS_START_S, seed_payload, worker_environment
from scoring.files import tasks
from scoring.files.models import BatchFile, FileChunk, FileHistory
from scoring.models import History, Transaction
from scoring.tests.files import CSV, csv_of, lines, result
from scoring.tests.test_velocity import api, check_parity, handbook, pay  # noqa: F401  # fixtures

GIVE_UP_S = 4 * PROCESS_START_S


def send(api, content, **parameters):  # noqa: F811
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    response = api.generic("POST", f"/api/v1/batches?{query}", content, content_type=CSV)
    assert response.status_code == 202, response.content
    return response["Location"]


def until(api, address, *states):  # noqa: F811
    """Wait until a file is in one of these states, and do what beat does meanwhile."""
    give_up = time.monotonic() + GIVE_UP_S
    while (file := api.get(address).json())["state"] not in states:
        assert time.monotonic() < give_up, file
        tasks.keep_going()
        time.sleep(0.2)
    return file


def payments(prefix, count=60):
    """Payments of three cards at two terminals, in no order of time, the same whatever the prefix."""
    start = timezone.now().replace(microsecond=0, second=0, minute=0)
    return [
        {
            "amount": 10.0 + n / 3,
            "customer": f"{prefix} {n % 3}",
            "terminal": f"{prefix} shop {n % 2}",
            "event_time": (start - timedelta(minutes=(n * 37) % 600 + 60)).isoformat(),
        }
        for n in range(count)
    ]


def test_a_file_of_traffic_has_the_scores_of_predict_calls_with_their_computed_features(api):  # noqa: F811
    alone = [pay(api, **(row | {"customer": row["customer"]})) for row in payments("alone")]
    scores = [prediction.fraud_score for prediction in alone]
    file = until(api, send(api, csv_of(payments("traffic")), mode="traffic", schema="handbook"), "done")
    assert file["scored"] == len(scores), file
    assert [row["fraud_score"] for row in lines(result(api, file))] == scores
    check_parity()


def test_a_file_that_is_only_scored_has_these_scores_too_and_leaves_histories_as_they_were(api, settings):  # noqa: F811
    half = 30
    for row in payments("both")[:half]:
        pay(api, **row)
    alone = [pay(api, **row).fraud_score for row in payments("alone")]
    before = dict(History.objects.values_list("token", "events"))
    stored = Transaction.objects.count()
    new = csv_of(payments("new"))
    file = until(api, send(api, new, mode="score", schema="handbook"), "done")
    assert [row["fraud_score"] for row in lines(result(api, file))] == alone
    rest = until(api, send(api, csv_of(payments("both")[half:]), mode="score", schema="handbook"), "done")
    assert [row["fraud_score"] for row in lines(result(api, rest))] == alone[half:]
    assert dict(History.objects.values_list("token", "events")) == before
    assert Transaction.objects.count() == stored
    assert not FileHistory.objects.exists()


@pytest.fixture
def own_worker(worker):
    """A second worker on the bulk queue, which a test may kill."""
    environment = worker_environment() | {"BATCH_FILE_LEASE_S": "2", "BATCH_FILE_CHUNK": "500"}
    command = [sys.executable, "-m", "celery", "-A", "fraudsite", "worker", "-Q", "bulk", "--pool", "solo"]
    process = subprocess.Popen([*command, "--hostname", "doomed@%h"], env=environment, start_new_session=True)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.mark.alone
def test_when_a_worker_is_killed_in_the_middle_of_a_file_each_row_is_scored_exactly_once(own_worker, worker, acme_api):
    """The other worker is stopped until the one that has the file is killed in the middle of a chunk."""
    count = 6_000
    rows = [seed_payload(Amount=float(n % 500), V1=n / count) for n in range(count)]
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        address = send(acme_api, csv_of(rows), mode="traffic")
        give_up = time.monotonic() + GIVE_UP_S
        while not 1_000 <= Transaction.objects.count() < count:
            assert time.monotonic() < give_up, acme_api.get(address).json()
            assert own_worker.poll() is None
            tasks.keep_going()
            time.sleep(0.01)
        own_worker.kill()
        own_worker.wait()
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    stored = Transaction.objects.count()
    assert FileChunk.objects.exclude(done_at=None).count() * 500 <= stored < count
    FileChunk.objects.filter(leased_until__gt=timezone.now() + timedelta(seconds=2)).update(leased_until=timezone.now())
    BatchFile.objects.update(touched_at=timezone.now() - timedelta(minutes=1))
    file = until(acme_api, address, "done", "failed")
    assert (file["state"], file["scored"], file["refused"]) == ("done", count, 0), file
    found = lines(result(acme_api, file))
    assert [row["line"] for row in found] == list(range(2, count + 2))
    assert len({row["id"] for row in found}) == count == Transaction.objects.count()
    amounts = {str(key): amount for key, amount in Transaction.objects.values_list("pk", "amount")}
    assert [amounts[row["id"]] for row in found] == [row["Amount"] for row in rows]
