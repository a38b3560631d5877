"""The predict call beside its peers: `python -m benchmarks.realtime` (see docs/performance.md for what it needs).

Throughput at 64 connections and p99 at half of it, against a lean FastAPI service that commits one row per request and
against a Flask service; and the latency of one connection without load, on PostgreSQL and on SQLite.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from benchmarks.stand import Load, as_fast_as_possible, at_rate, await_answer, process, rss_mb, table
from fraudsite.testing import free_port
from fraudsite.tests.deployment import Deployment, deployment, run

CONNECTIONS = 64


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="each side in turn so many times; the medians count")
    parser.add_argument("--web-processes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help="without the peers")
    options = parser.parse_args()
    size = {"web_processes": options.web_processes, "workers": options.workers}
    with deployment("postgresql", **size) as ours, ExitStack() as peers:
        if not options.alone:
            run([sys.executable, "-m", "benchmarks.peers.export", str(ours.directory)], ours.environment)
        fastapi = None if options.alone else peers.enter_context(fastapi_peer(ours))
        flask = None if options.alone else peers.enter_context(flask_peer(ours))
        measure_throughput(ours, fastapi, flask, options)
    with deployment("sqlite", **size) as ours:
        print(f"\nOne connection, SQLite: p50 {one_connection(ours, options.seconds).p50_ms:.2f} ms")


def measure_throughput(ours: Deployment, fastapi: str | None, flask: str | None, options) -> None:  # type: ignore[no-untyped-def]
    rows = ours.rows
    print(f"One connection, PostgreSQL: p50 {one_connection(ours, options.seconds).p50_ms:.2f} ms", flush=True)
    seen: dict[str, list[Load]] = {"ours": [], "FastAPI": [], "Flask": []}

    def busy(url: str, authorization: str = "") -> Load:
        return as_fast_as_possible(
            url, rows, connections=CONNECTIONS, seconds=options.seconds, authorization=authorization
        )

    busy(f"{ours.url}/predict", ours.authorization)  # a warm-up
    for _ in range(options.rounds):
        seen["ours"].append(busy(f"{ours.url}/predict", ours.authorization))
        if fastapi:
            seen["FastAPI"].append(busy(fastapi))
        if flask:
            seen["Flask"].append(busy(flask))
    cells = [
        [name, f"{load.per_s:,.0f}", f"{load.p50_ms:.1f}", f"{load.p99_ms:.1f}", str(load.failed)]
        for name, loads in seen.items()
        for load in loads
    ]
    print(f"\n{CONNECTIONS} connections, PostgreSQL\n")
    print(table(["service", "requests per s", "p50 ms", "p99 ms", "failed"], cells))
    best = {name: median([load.per_s for load in loads]) for name, loads in seen.items() if loads}
    for name in ("FastAPI", "Flask"):
        if name in best:
            print(f"\nours / {name}: {best['ours'] / best[name]:.2f}×")
    rate = best["ours"] / 2
    sides = [("ours", f"{ours.url}/predict", ours.authorization)] + ([("FastAPI", fastapi, "")] if fastapi else [])
    calm: dict[str, list[Load]] = {}
    for _ in range(options.rounds):
        for name, url, authorization in sides:
            load = at_rate(
                url, rows, per_s=rate, seconds=options.seconds, directory=ours.directory, authorization=authorization
            )
            calm.setdefault(name, []).append(load)
    print(f"\nAt {rate:,.0f} requests per s\n")
    print(
        table(
            ["service", "reached per s", "p50 ms", "p99 ms", "failed"],
            [
                [name, f"{load.per_s:,.0f}", f"{load.p50_ms:.1f}", f"{load.p99_ms:.1f}", str(load.failed)]
                for name, loads in calm.items()
                for load in loads
            ],
        )
    )
    if fastapi:
        p99 = {name: median([load.p99_ms for load in loads]) for name, loads in calm.items()}
        print(f"\np99, ours / FastAPI: {p99['ours'] / p99['FastAPI']:.2f}×")
    print(
        "\nResident memory: "
        + ", ".join(f"{name} {rss_mb(started.pid):,.0f} MB" for name, started in ours.processes.items())
    )


def one_connection(ours: Deployment, seconds: int) -> Load:
    rows = ours.rows
    return as_fast_as_possible(
        f"{ours.url}/predict", rows, connections=1, seconds=seconds, authorization=ours.authorization
    )


@contextmanager
def fastapi_peer(ours: Deployment) -> Iterator[str]:
    """Two processes, as many as there are cores here; on our own PostgreSQL, in a table of its own."""
    environment = ours.environment | {"PEER_DIR": str(ours.directory)}
    port = free_port()
    module = "benchmarks.peers.fastapi_onnx"
    with process([sys.executable, "-m", module], environment) as making:
        making.wait()
    command = [sys.executable, "-m", "uvicorn", f"{module}:app", "--workers", str(os.cpu_count()), "--port", str(port)]
    with process([*command, "--no-access-log", "--log-level", "warning"], environment):
        await_answer(f"http://127.0.0.1:{port}/openapi.json")
        yield f"http://127.0.0.1:{port}/predict"


@contextmanager
def flask_peer(ours: Deployment) -> Iterator[str]:
    port = free_port()
    environment = ours.environment | {"PEER_DIR": str(ours.directory), "PORT": str(port)}
    with process([sys.executable, "-m", "benchmarks.peers.flask_keras"], environment, quiet=True):
        await_answer(f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}/predict"


if __name__ == "__main__":
    main()
