"""Has Redis or PostgreSQL fail over while calls come in, and counts what becomes of the calls: `python -m
benchmarks.failover redis` and `python -m benchmarks.failover postgresql`.

Redis: the primary is killed, and later its successor changes places with it. PostgreSQL: the primary crashes, and its
replica, which has confirmed each commit, is promoted.
"""

import signal
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from fraudsite.tests import postgresql
from fraudsite.tests.deployment import Deployment, deployment
from fraudsite.tests.sentinels import Redundant
from scoring.tests.callers import Callers, rows

DEADLINE_MS = 2_000
WORKERS = 2


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["redis", "postgresql"])
    parser.add_argument("--rate", type=float, default=50.0, help="calls per second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fraudsite-failover-") as directory:
        (redis if options.what == "redis" else database)(Path(directory), options.rate)


def redis(directory: Path, rate: float) -> None:
    def fail_over() -> None:
        time.sleep(3)
        killed = server.kill_primary()
        time.sleep(5)
        server.start(killed)
        server.await_replica()
        server.change_over()
        time.sleep(5)

    own: dict[str, Any] = {"workers": WORKERS, "PREDICT_DEADLINE_MS": DEADLINE_MS}
    with Redundant(directory) as server, deployment("postgresql", REDIS_URL=server.url, **own) as system:
        measure(system, fail_over, rate)


def database(directory: Path, rate: float) -> None:
    def fail_over() -> None:
        assert system.cluster
        time.sleep(3)
        system.cluster.stop(signal.SIGQUIT)
        time.sleep(1)  # as long as somebody, or something, takes to decide
        replica.promote()
        time.sleep(10)
        system.cluster = replica

    with deployment("postgresql", workers=WORKERS, PREDICT_DEADLINE_MS=DEADLINE_MS) as system:
        assert system.cluster
        home = directory / "replica"
        home.mkdir()
        directory.chmod(0o755)
        primary, replica = system.cluster, postgresql.Replica(home, system.cluster)
        replica.start()
        primary.confirm_by_replica()
        system.environment["DATABASE_URL"] = primary.url_with(replica)
        for name in system.processes:
            system.end(name)
            system.start(name)
        system.await_ready()
        try:
            measure(system, fail_over, rate)
        finally:
            replica.stop()
            primary.start()  # which the end of the deployment stops


def measure(system: Deployment, fail_over: Callable[[], None], rate: float) -> None:
    callers = Callers(system)
    posted = callers.post_while(fail_over, per_s=rate)
    statuses = [callers.first[key].status if (key := f"order-{n}") in callers.first else 0 for n in range(posted)]
    for status in sorted(set(statuses)):
        print(f"{statuses.count(status)} calls got {status or 'no answer'}")
    without_retry = sum(answer.status != 200 and not answer.retry_after for answer in callers.first.values())
    print(f"{without_retry} refusals had no Retry-After")
    windows = [len(list(of)) for scored, of in groupby(statuses, key=lambda status: status == 200) if not scored]
    print(f"at most {max(windows, default=0)} calls in a row had no score, {len(windows)} times in all")
    print(f"slowest answer: {max(answer.took_s for answer in callers.first.values()):.1f} s")
    stored = dict(rows(system, "SELECT transaction_id, id::text FROM scoring_transaction"))
    told = [key for key, answer in callers.first.items() if answer.status == 200]
    print(f"{len(told) - sum(key in stored for key in told)} of {len(told)} acknowledged are lost")
    print(f"{len(stored)} rows of {posted} transactions, after each was repeated until it was answered")


if __name__ == "__main__":
    main()
