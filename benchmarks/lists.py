"""Lists of a million entries in memory: `python -m benchmarks.lists`.

Prints the time that lists add to a decision, found and not found, and the memory of the entries. With `--import`
also how long their import into an empty SQLite database takes, and until a worker has them.
"""

import gc
import os
import sys
import tempfile
import time
from argparse import ArgumentParser
from math import inf
from pathlib import Path
from statistics import median

from benchmarks.stand import table
from scoring.decisions import Decision
from scoring.policies.expressions import Case
from scoring.policies.lists import HeldList, HeldLists
from training.core.schema import Schema, load_schema
from training.core.schema.tokens import token_of
from training.core.schema.values import Value

CALLS = 100_000


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000, help="of each list")
    parser.add_argument("--lists", type=int, default=1, help="all about the card of `payments`")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement")
    parser.add_argument("--import", action="store_true", dest="imports", help="also import them from a file")
    options = parser.parse_args()
    schema = load_schema("payments")
    card = schema.entity_names.index("card")
    gc.disable()
    lists = [
        HeldList(f"list_{i}", Decision.BLOCK, True, card, members={_token(i, n): inf for n in range(options.entries)})
        for i in range(options.lists)
    ]
    held_mb = sum(sys.getsizeof(each.members) + sum(map(sys.getsizeof, each.members)) for each in lists) / 1e6
    held = HeldLists(schema, lists)
    rows = [
        [name, ", ".join(f"{_us_a_call(held, cases):.2f} µs" for _ in range(options.rounds))]
        for name, cases in (
            ("a transaction that is on the first list", _cases(schema, card, 0, options.entries)),
            ("one that is on none", _cases(schema, card, -1, options.entries)),
        )
    ]
    rows.append(["memory", f"{held_mb:,.0f} MB"])
    if options.imports:
        rows += _imported(options.entries)
    print(table([f"{options.lists} x {options.entries:,} entries", ""], rows))


def _token(list_number: int, number: int) -> str:
    return token_of("a key", "payments", "card", f"{list_number}-{number}")


def _cases(schema: Schema, card: int, list_number: int, entries: int) -> list[Case]:
    """Transactions whose cards are spread over the entries, so that no cache of the processor helps."""
    values: list[Value] = [1.0 if name == schema.amount else None for name in schema.feature_names]
    cases = []
    for number in range(1_000):
        tokens = [""] * len(schema.entities)
        tokens[card] = _token(list_number, number * (entries // 1_000))
        cases.append(Case(values, tokens, time.time()))
    return cases


def _us_a_call(held: HeldLists, cases: list[Case]) -> float:
    """What a policy asks of lists for one transaction, in microseconds."""
    took = []
    for _ in range(CALLS // len(cases)):
        began = time.perf_counter()
        for case in cases:
            held.hits(case)
            set(held.on(case))
        took.append((time.perf_counter() - began) / len(cases))
    return median(took) * 1e6


def _imported(entries: int) -> list[list[str]]:
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {"VAR_DIR": directory, "DATABASE_URL": f"sqlite:///{directory}/lists.sqlite3"}
        os.environ["DJANGO_SETTINGS_MODULE"] = "fraudsite.settings"
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        from scoring.lists import changes, files
        from scoring.lists.changes import Addition
        from scoring.worker import lists

        row = changes.create(schema="payments", name="stolen", about="card", action="block", by="a benchmark")
        path = Path(directory) / "entries.csv"
        path.write_text("value\n" + "".join(f"card-{number}\n" for number in range(entries)))
        began = time.perf_counter()
        with path.open("rb") as file:
            files.load(row, file, by="a benchmark")
        stored = time.perf_counter()
        schema = load_schema("payments")
        held = lists.current(schema, None)
        read = time.perf_counter()
        changes.add_one(row, Addition(_token(0, 0)), by="a benchmark")
        added = time.perf_counter()
        lists.current(schema, held)
        followed = time.perf_counter()
    return [
        ["import of a file of as many lines", f"{stored - began:.1f} s"],
        ["a new worker reads them", f"{read - stored:.1f} s"],
        ["one more is added", f"{(added - read) * 1e3:.1f} ms"],
        ["a worker takes it up", f"{(followed - added) * 1e3:.1f} ms"],
    ]


if __name__ == "__main__":
    main()
