"""What limits of keys cost the predict call: `python -m benchmarks.limits` (needs wrk and PostgreSQL).

One key without limits and one with a rate and a quota that are never reached, in turn, on the same deployment. Compares
the processor time of the web process for each call, which other work on the machine changes less, and the calls per
second.
"""

import os
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from statistics import median
from timeit import timeit

from benchmarks.stand import as_fast_as_possible, table
from fraudsite.tests.deployment import Deployment, deployment, run

PLENTY = "1000000000"
CALLS = 50_000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=7, help="each key in turn so many times; the medians count")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--loop", action="store_true", help="only count calls in a loop, against REDIS_URL")
    options = parser.parse_args()
    if options.loop:
        return count_in_a_loop()
    with deployment(options.database) as ours:
        keys = {"without limits": ours.api_key, "with limits": limited_key(ours)}
        print(run([sys.executable, "-m", "benchmarks.limits", "--loop"], ours.environment))
        for key in keys.values():
            measure(ours, key, options.connections, 2)  # a warm-up
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in keys}
        for number in range(options.rounds):
            for side in (*keys,) if number % 2 else (*reversed(keys),):
                found[side].append(measure(ours, keys[side], options.connections, options.seconds))
    us, per_s = ({side: [row[place] for row in rows] for side, rows in found.items()} for place in (0, 1))
    print(
        table(
            ["key", "web process, µs per call", "calls per s"],
            [[side, f"{median(us[side]):.1f}", f"{median(per_s[side]):,.0f}"] for side in keys],
        )
    )
    for name, each in (("processor time", us), ("calls per s", per_s)):
        ratios = [one / other for one, other in zip(each["with limits"], each["without limits"], strict=True)]
        print(f"{name}, with / without: {median(ratios):.3f} (of {options.rounds} pairs: {told(ratios)})")


def count_in_a_loop() -> None:
    """Print what counting a call and telling what is left takes, in one thread, while another settles."""
    import django

    django.setup()
    from scoring.api import limiting
    from scoring.clients import uses
    from scoring.models import ApiKey

    def call(key: ApiKey) -> None:
        uses.note(key)
        limiting.lines_of(limiting.count(key, "predict"))

    plenty = int(PLENTY)
    for side, limits in {
        "no limits": {"calls_per_s": 0},
        "a rate": {"calls_per_s": plenty},
        "a rate and a quota": {"calls_per_s": plenty, "transactions_per_day": plenty},
    }.items():
        key = ApiKey(digest=side, **limits)
        took = [timeit(lambda key=key: call(key), number=CALLS, timer=time.thread_time) for _ in range(5)]  # type: ignore[misc]
        print(f"{side}: {min(took) / CALLS * 1e6:.2f} µs a call")


def limited_key(ours: Deployment) -> str:
    command = ["create_api_key", "Acme", "--name", "limited", "--calls-per-s", PLENTY, "--transactions-per-day", PLENTY]
    return run([sys.executable, "manage.py", *command], ours.environment).split()[-1]


def measure(ours: Deployment, key: str, connections: int, seconds: int) -> tuple[float, float]:
    """The web process's processor time for each call, in µs, and the calls per second."""
    web, before = ours.processes["web"].pid, cpu_s(ours.processes["web"].pid)
    load = as_fast_as_possible(
        f"{ours.url}/predict", ours.rows, connections=connections, seconds=seconds, authorization=f"Bearer {key}"
    )
    if load.failed:
        raise RuntimeError(f"{load.failed} calls failed.")
    return (cpu_s(web) - before) / (load.per_s * seconds) * 1e6, load.per_s


def cpu_s(pid: int) -> float:
    """Processor time of a process and its children so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = {child for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()}
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S + sum(cpu_s(int(child)) for child in children)


def told(ratios: list[float]) -> str:
    return ", ".join(f"{ratio:.3f}" for ratio in sorted(ratios))


if __name__ == "__main__":
    main()
