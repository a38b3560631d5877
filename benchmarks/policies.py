"""The predict call under a policy of 50 rules, 5 lists of 100,000 entries and 10 segments, beside the same without any:
`python -m benchmarks.policies`.

The schema is `handbook`, which has entities for lists. Both are the same deployment on PostgreSQL, in turn: the policy
is made live and rolled back by its command. At the end policies are swapped under load, and no call may fail.
"""

import json
import sys
import time
from argparse import ArgumentParser
from statistics import median
from threading import Thread

from benchmarks.stand import as_fast_as_possible, at_rate, table
from fraudsite.tests.deployment import Deployment, deployment, run

CONNECTIONS = 64
SCHEMA = "handbook"
SETTLED_S = 3
FILL_LISTS = """
import sys, django
django.setup()
from scoring.lists import changes
from scoring.lists.changes import Addition
for number in range(5):
    about = ("customer", "terminal")[number % 2]
    row = changes.create(schema="handbook", name=f"list_{number}", about=about, action="", by="benchmark")
    keys = (Addition(key=f"{number}{entry:031x}") for entry in range(int(sys.argv[1])))
    changes.add(row, iter(lambda: [part for _, part in zip(range(5000), keys)], []), by="benchmark")
"""
NAMES = """
import json, django
django.setup()
from training.core.schema import load_schema
print(json.dumps([feature.name for feature in load_schema("handbook").derived]))
"""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--entries", type=int, default=100_000, help="of each list")
    options = parser.parse_args()
    with deployment("postgresql", handbook=True) as ours:
        run([sys.executable, "-c", FILL_LISTS, str(options.entries)], ours.environment)
        write_policy(ours)
        seen: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
        cells = []
        rate = 0.0
        for turn in range(options.rounds + 1):
            for side in seen:
                switch(ours, side)
                many = as_fast_as_possible(
                    f"{ours.url}/predict",
                    ours.handbook_rows,
                    connections=CONNECTIONS,
                    seconds=options.seconds,
                    authorization=ours.authorization,
                )
                rate = rate or many.per_s / 2
                half = at_rate(
                    f"{ours.url}/predict",
                    ours.handbook_rows,
                    per_s=rate,
                    seconds=options.seconds,
                    directory=ours.directory,
                    authorization=ours.authorization,
                )
                if turn:  # the first is a warm-up
                    seen[side].append((many.per_s, half.p99_ms))
                    failed = many.failed + half.failed
                    cells.append([side, f"{many.per_s:,.0f}", f"{many.p99_ms:.1f}", f"{half.p99_ms:.1f}", f"{failed}"])
        titles = ["policy", f"requests per s, {CONNECTIONS} connections", "p99 ms", "p99 ms at half load", "failed"]
        print(table(titles, cells))
        per_s, p99 = (
            {side: median(figures[place] for figures in measured) for side, measured in seen.items()}
            for place in (0, 1)
        )
        print(f"\nwith / without: {per_s['with'] / per_s['without']:.2f}×; p99 {p99['with'] / p99['without']:.2f}×")
        print(f"Swaps under load: {swaps(ours, options.seconds)} calls failed.")


def write_policy(ours: Deployment) -> None:
    """50 active rules and 10 segments over 12 computed features, the amount, the score, the hour and the lists."""
    names = json.loads(run([sys.executable, "-c", NAMES], ours.environment))[:12]
    rules = [
        {
            "name": f"rule_{number}",
            "when": f"{names[number % 12]} > {1000 + number} && amount > {number} || "
            f"on_list_{number % 5} && fraud_score > 0.{number + 10}",
            "action": "review",
            "state": "active",
        }
        for number in range(50)
    ]
    segments = [
        {
            "name": f"segment_{number}",
            "when": f"amount > {5000 + number} && event_time.getHours() == {number}",
            "review": 0.9,
        }
        for number in range(10)
    ]
    (ours.directory / "policy.json").write_text(json.dumps({"rules": rules, "segments": segments}))


def switch(ours: Deployment, side: str) -> None:
    policy(ours, "activate" if side == "with" else "rollback")
    time.sleep(SETTLED_S)


def policy(ours: Deployment, action: str) -> None:
    file = [str(ours.directory / "policy.json")] if action == "activate" else []
    try:
        run([sys.executable, "manage.py", "policy", action, *file, "--schema", SCHEMA], ours.environment)
    except RuntimeError as error:  # nothing is live before the first
        if "no live policy" not in str(error):
            raise


def swaps(ours: Deployment, seconds: int) -> int:
    """How many calls fail while the policy goes live and is rolled back, again and again."""
    failed: list[int] = []

    def load() -> None:
        seen = as_fast_as_possible(
            f"{ours.url}/predict",
            ours.handbook_rows,
            connections=CONNECTIONS,
            seconds=2 * seconds,
            authorization=ours.authorization,
        )
        failed.append(seen.failed)

    busy = Thread(target=load)
    busy.start()
    while busy.is_alive():
        for action in ("activate", "rollback"):
            policy(ours, action)
    busy.join()
    return failed[0]


if __name__ == "__main__":
    main()
