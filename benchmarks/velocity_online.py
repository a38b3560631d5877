"""The predict call with features that are computed from histories: `python -m benchmarks.velocity_online`.

The schemas `handbook` (two entities, 22 computed features) and `payments` (values of many kinds, categories, places)
beside `ulb` (30 numbers, nothing computed), in one deployment on PostgreSQL, in turn: throughput at 64 connections,
latency of one, and the processor time of worker, web server and database for a call of the 64, which other work on the
machine changes little. At the end all computed features are computed again offline, and have to be the same to the bit.
"""

import sys
from argparse import ArgumentParser
from pathlib import Path
from statistics import median

from benchmarks.stand import Load, as_fast_as_possible, table, worked_s
from fraudsite.tests.deployment import Deployment, deployment, run

CONNECTIONS = 64


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="each schema in turn so many times")
    options = parser.parse_args()
    with deployment("postgresql", handbook=True, payments=True) as ours:
        sides = [("ulb", ours.rows), ("handbook", ours.handbook_rows), ("payments", ours.payments_rows)]
        cells = []
        per_s: dict[str, list[float]] = {name: [] for name, _ in sides}
        p50_ms: dict[str, list[float]] = {name: [] for name, _ in sides}
        worked_us: dict[str, list[float]] = {name: [] for name, _ in sides}
        for turn in range(options.rounds + 1):
            for name, rows in sides:
                before_s = worked(ours)
                many = load(ours, rows, CONNECTIONS, options.seconds)
                us = (worked(ours) - before_s) / (many.per_s * options.seconds) * 1e6
                one = load(ours, rows, 1, options.seconds)
                if turn:  # the first is a warm-up
                    per_s[name].append(many.per_s)
                    p50_ms[name].append(one.p50_ms)
                    worked_us[name].append(us)
                    measured = [f"{many.per_s:,.0f}", f"{many.p99_ms:.1f}", f"{us:.0f}", f"{one.p50_ms:.2f}"]
                    cells.append([name, *measured, str(many.failed + one.failed)])
        titles = ["schema", f"requests per s, {CONNECTIONS} connections", "p99 ms", "processor time of a call, µs"]
        print(table([*titles, "p50 ms, one connection", "failed"], cells))
        for name in ("handbook", "payments"):
            rate, latency, work = (
                median(figures[name]) / median(figures["ulb"]) for figures in (per_s, p50_ms, worked_us)
            )
            print(f"\n{name} / ulb: {rate:.2f}×, by processor time {1 / work:.2f}×; p50 alone {latency:.2f}×")
            check = ["manage.py", "check_parity", "--schema", name, "--sample", "0"]
            print(run([sys.executable, *check], ours.environment).splitlines()[-1])


def load(ours: Deployment, rows: Path, connections: int, seconds: int) -> Load:
    address = f"{ours.url}/predict"
    return as_fast_as_possible(
        address, rows, connections=connections, seconds=seconds, authorization=ours.authorization
    )


def worked(ours: Deployment) -> float:
    """The processor time that worker, web server and database have taken, in seconds."""
    assert ours.cluster is not None
    return sum(map(worked_s, [ours.processes["worker0"].pid, ours.processes["web"].pid, ours.cluster.pid]))


if __name__ == "__main__":
    main()
