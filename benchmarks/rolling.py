"""Restarts or upgrades two web servers and two workers one after the other while calls come in, and counts what becomes
of the calls: `python -m benchmarks.rolling`.

Calls go through Caddy with the Caddyfile of the compose file, if it is installed. Each process has a directory of its
own, and after a restart a new one: bundles come from a bucket of an S3 server. With `--before REVISION` it begins with
that revision of this repository; then the database is migrated, and the processes are restarted with the code at hand.
Otherwise all are restarted as they are.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.stand import await_answer, process
from fraudsite.testing import free_port
from fraudsite.tests import buckets
from fraudsite.tests.deployment import ROOT, Deployment, deployment, run
from scoring.tests.callers import Balancer, Callers, client_of, rows

SERVERS, WORKERS = ("web", "web1"), ("worker0", "worker1")


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=100.0, help="calls per second")
    parser.add_argument("--rounds", type=int, default=1, help="how often each process is restarted")
    parser.add_argument("--drain", type=float, default=4.0, help="WEB_DRAIN_S, in seconds")
    parser.add_argument("--before", help="a revision of git: the release that is upgraded")
    options = parser.parse_args()
    with release(options.before) as code, buckets.server() as address:
        machines: dict[str, Any] = {"workers": len(WORKERS), "web_servers": len(SERVERS), "apart": True, "code": code}
        machines |= buckets.Bucket(address).environment
        with deployment("postgresql", **machines, WEB_DRAIN_S=options.drain, PREDICT_DEADLINE_MS=4_500) as system:
            with balancer(system) as through:
                callers = Callers(system, through)
                posted = callers.post_while(lambda: roll(system, options.rounds), per_s=options.rate)
            print(report(system, callers, posted))


@contextmanager
def release(revision: str | None) -> Iterator[Path]:
    """The code of a revision, or that at hand."""
    if revision is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory(prefix="fraudsite-release-") as directory:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "--extract", "--directory", directory], input=archive.stdout, check=True)
        yield Path(directory)


@contextmanager
def balancer(system: Deployment) -> Iterator[Balancer | httpx.Client]:
    """Caddy, or without it what the tests have in its place."""
    if caddy := shutil.which("caddy"):
        url = f"http://127.0.0.1:{free_port()}"
        servers = " ".join(url.removeprefix("http://") for url in system.urls)
        own = {"SITE_HOST": url, "WEB_SERVERS": servers, "CADDY_ADMIN": f"127.0.0.1:{free_port()}"}
        homes = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(system.directory))
        command = [caddy, "run", "--config", str(ROOT / "Caddyfile")]
        with process(command, system.environment | own | homes, quiet=True):
            await_answer(f"{url}/healthz")
            with closing(client_of(system, url)) as through:
                yield through
    else:
        with closing(Balancer(system)) as through:
            yield through


def roll(system: Deployment, rounds: int) -> None:
    system.code = ROOT
    run([sys.executable, "manage.py", "migrate", "--noinput"], system.environment)
    for _ in range(rounds):
        for worker in WORKERS:
            system.replace(worker)
            system.await_worker(worker)
        for server, url in zip(SERVERS, system.urls, strict=True):
            system.replace(server)
            system.await_ready(url)
            time.sleep(2)  # the next one ends once calls go to this one again


def report(system: Deployment, callers: Callers, posted: int) -> str:
    statuses = Counter(answer.status for answer in callers.first.values())
    took_ms = sorted(answer.took_s * 1000 for answer in callers.first.values())
    [(stored, ids)] = rows(
        system,
        "SELECT count(*), count(DISTINCT transaction_id) FROM scoring_transaction WHERE transaction_id LIKE 'order-%'",
    )
    return "\n".join(
        (
            f"{posted} calls: {dict(statuses)} by status, {len(callers.lost)} without an answer",
            f"p50 {took_ms[len(took_ms) // 2]:.0f} ms, p99 {took_ms[int(len(took_ms) * 0.99)]:.0f} ms, "
            f"slowest {took_ms[-1]:.0f} ms",
            f"{stored} rows of {ids} transactions are stored",
            *(f"lost: {fault}" for fault in sorted(set(callers.lost.values()))),
        )
    )


if __name__ == "__main__":
    main()
