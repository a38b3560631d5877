"""A backtest of 20 rules on stored transactions: `python -m benchmarks.backtest`.

Beside it the same rules in Polars, on the same rows read from the same PostgreSQL: all columns at once, without absent
values, evidence or examples, and so a bound on what could be reached. Both use one core, and count what each rule
matches; the counts have to be the same.
"""

import gc
import json
import os
import sys
from argparse import ArgumentParser
from datetime import datetime
from time import perf_counter, process_time
from typing import Any

from benchmarks.growth import busy, fill
from benchmarks.stand import table
from fraudsite.tests.deployment import deployment, run

# Ten values of the schema ulb, two of them in each rule; few transactions match, as is usual of rules.
RULES = [
    (f"rule_{number}", f"V{number % 10 + 1} > {2.5 + 0.05 * number:g} && V{(number + 3) % 10 + 1} < {0.1 * number:g}")
    for number in range(20)
]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with deployment("postgresql") as ours:
        busy(ours, 5)
        fill(ours, options.stored)
        lines = run([sys.executable, "-m", "benchmarks.backtest", "measure", str(options.rounds)], ours.environment)
    results = [json.loads(line) for line in lines.splitlines()]
    rows = [
        [result["name"], f"{result['rows']:,}", f"{result['wall_s']:.2f}", f"{result['cpu_s']:.2f}",
         f"{result['rows'] / result['cpu_s']:,.0f}"]
        for result in results
    ]  # fmt: skip
    print(table(["", "transactions", "s", "CPU s of this process", "transactions per CPU s"], rows))
    ours_best, peer_best = (
        min(result["wall_s"] for result in results if result["name"] == name) for name in ("Fraudsite", "Polars")
    )
    print(f"\nFraudsite / Polars: {peer_best / ours_best:.2f}× as fast")


def measure(rounds: int) -> None:
    import django

    django.setup()
    from scoring.policies import backtesting, stored  # noqa: F401  # loaded before they are measured

    gc.collect()
    gc.freeze()  # as workers do
    for _ in range(rounds):
        counted = [_timed("Fraudsite", _backtest), _timed("Polars", _polars)]
        assert counted[0] == counted[1], counted


def _timed(name: str, work: Any) -> dict[str, int]:
    wall, cpu = perf_counter(), process_time()
    rows, matched = work()
    result = {"name": name, "rows": rows, "wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu}
    print(json.dumps(result), flush=True)
    return matched


def _period() -> dict[str, datetime]:
    from datetime import UTC

    return {"since": datetime(2000, 1, 1, tzinfo=UTC), "until": datetime(2100, 1, 1, tzinfo=UTC)}


def _backtest() -> tuple[int, dict[str, int]]:
    from scoring.decisions import Decision, Thresholds
    from scoring.policies.backtesting import Backtester
    from scoring.policies.document import Document, Rule, State
    from scoring.policies.engine import Policy
    from scoring.policies.stored import Reader
    from training.core.schema import load_schema

    rules = [Rule(name=name, when=when, action=Decision.REVIEW, state=State.ACTIVE) for name, when in RULES]
    schema = load_schema("ulb")
    tester = Backtester(Policy(schema, Thresholds(0.5), Document(rules=rules)))
    for page in Reader(schema, **_period(), used=tester.used).pages():
        tester.add(page)
    result = tester.result()
    return result.transactions, {rule.rule: rule.matched.count for rule in result.rules}


def _polars() -> tuple[int, dict[str, int]]:
    import polars
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.fields::text FROM scoring_prediction p JOIN scoring_transaction t ON t.id = p.transaction_id"
        )
        texts = [row[0] for row in cursor.fetchall()]
    values = polars.Struct({f"V{number}": polars.Float64 for number in range(1, 11)})
    frame = polars.DataFrame({"fields": texts}).select(polars.col("fields").str.json_decode(values)).unnest("fields")
    matched = frame.select(**{name: polars.sql_expr(when.replace("&&", "AND")).sum() for name, when in RULES})
    return len(texts), {name: int(count) for name, count in matched.row(0, named=True).items()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        os.environ.setdefault("POLARS_MAX_THREADS", "1")
        measure(int(sys.argv[2]))
    else:
        main()
