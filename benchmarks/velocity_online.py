"""The predict call with features that are computed from histories: `python -m benchmarks.velocity_online`.

The schemas `handbook` (two entities, 22 computed features) and `payments` (values of many kinds, categories, places)
beside `ulb` (30 numbers, nothing computed), in one deployment on PostgreSQL, in turn: throughput at 64 connections,
latency of one. At the end all computed features are computed again offline, and have to be the same to the bit.
"""

import sys
from argparse import ArgumentParser
from statistics import median

from benchmarks.stand import as_fast_as_possible, table
from fraudsite.tests.deployment import deployment, run

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
        for turn in range(options.rounds + 1):
            for name, rows in sides:
                many, one = (
                    as_fast_as_possible(
                        f"{ours.url}/predict",
                        rows,
                        connections=connections,
                        seconds=options.seconds,
                        authorization=ours.authorization,
                    )
                    for connections in (CONNECTIONS, 1)
                )
                if turn:  # the first is a warm-up
                    per_s[name].append(many.per_s)
                    p50_ms[name].append(one.p50_ms)
                    failed = many.failed + one.failed
                    cells.append([name, f"{many.per_s:,.0f}", f"{many.p99_ms:.1f}", f"{one.p50_ms:.2f}", str(failed)])
        titles = ["schema", f"requests per s, {CONNECTIONS} connections", "p99 ms", "p50 ms, one connection", "failed"]
        print(table(titles, cells))
        for name in ("handbook", "payments"):
            rate, latency = (median(figures[name]) / median(figures["ulb"]) for figures in (per_s, p50_ms))
            print(f"\n{name} / ulb: {rate:.2f}×; p50 of one connection {latency:.2f}×")
            check = ["manage.py", "check_parity", "--schema", name, "--sample", "0"]
            print(run([sys.executable, *check], ours.environment).splitlines()[-1])


if __name__ == "__main__":
    main()
