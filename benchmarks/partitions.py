"""The predict call with 50 million transactions in 12 partitions beside few rows, and the admin's lists and searches:
`python -m benchmarks.partitions`.

`--stored` says how many there are to be; a million takes about a gigabyte of the disk.
"""

import json
import subprocess
import sys
import time
from argparse import ArgumentParser
from statistics import median, quantiles
from typing import Any

import psycopg

from benchmarks.growth import busy
from benchmarks.stand import table
from fraudsite.tests.deployment import ROOT, Deployment, deployment

# The ids of clients, beside the partitions: `scoring.retention.partitions`, which needs settings to be imported.
KEYS = "scoring_transactionkey"
DAYS = 30
ORIGINALS = 20_000
AT_ONCE = 50
# What is copied is set aside once, as the tables grow beyond memory.
ORIGINAL = """
CREATE TEMP TABLE original AS
SELECT *, row_number() OVER (ORDER BY id) AS place FROM scoring_transaction ORDER BY id DESC LIMIT {rows}
"""
# Copies, spread over the partitions: ids in the order of their times, ids of the client's own, and their predictions.
COPIES = """
WITH copied AS (
    INSERT INTO scoring_transaction
        (id, client_id, transaction_id, schema, amount, fields, body_sha256, event_time, received_at)
    SELECT (lpad(to_hex((extract(epoch FROM received_at - shift) * 1000)::bigint), 12, '0')
            || '7' || substr(translate(gen_random_uuid()::text, '-', ''), 14))::uuid,
        client_id, 'copy-' || number || '-' || place, schema, amount, fields, body_sha256, event_time - shift,
        received_at - shift
    FROM original,
        (SELECT number, number * %(days)s::float8 / %(copies)s * interval '1 day' AS shift
         FROM generate_series(%(first)s::int, %(last)s::int) AS number) AS shifts
    RETURNING id, client_id, transaction_id, received_at
), named AS (INSERT INTO {keys} SELECT client_id, transaction_id FROM copied)
INSERT INTO scoring_prediction
    (transaction_id, model_version_id, fraud_score, decision, threshold, reasons, latency_ms, queue_ms, features_ms,
     model_ms, created_at)
SELECT id, (SELECT version FROM training_modelversion WHERE stage = 'champion'), 0.001, 'approve', 0.5, '[]', 5,
    1, 1, 1, received_at
FROM copied
"""
# But for the primary keys, indexes are dropped before millions of rows come and made of all of them afterwards.
INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = ANY(ARRAY['scoring_transaction', 'scoring_prediction', '{keys}']::regclass[]) AND NOT indisprimary
"""
# `replica` leaves out the trigger that writes the table of ids row by row.
FAST = """
SET session_replication_role = replica; SET synchronous_commit = off; SET work_mem = '256MB';
SET maintenance_work_mem = '1GB'
"""
PARTITION = """
import django; django.setup()
from datetime import timedelta
from django.utils import timezone
from scoring.retention import partitioning, partitions
list(partitioning.partition(timezone.now() - timedelta(days={days})))
partitions.make_ahead(timezone.now())
print(len(partitions.of("scoring_transaction")))
"""
# Run in a process of its own, as the settings of the deployment are read once.
PAGES = """
import django; django.setup()
import json, time
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from scoring.models import Transaction
http = Client(SERVER_NAME="localhost")
http.force_login(User.objects.create_superuser("benchmark"))
lists = {name: reverse(f"admin:scoring_{name}_changelist") for name in ("transaction", "prediction", "review")}
some = Transaction.objects.filter(transaction_id__startswith="copy-").first()
asked = {f"list of {name}s": (address, {}) for name, address in lists.items()} | {
    "search by the client's id": (lists["transaction"], {"q": some.transaction_id}),
    "search by our id": (lists["transaction"], {"q": str(some.pk)}),
    "search without a find": (lists["transaction"], {"q": "nothing-like-this"}),
    "a transaction": (reverse("admin:scoring_transaction_change", args=[some.pk]), {}),
}
found = {}
for name, (address, query) in asked.items():
    assert http.get(address, query).status_code == 200, name
    found[name] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        http.get(address, query)
        found[name].append((time.perf_counter() - began) * 1000)
print(json.dumps(found))
"""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=50_000_000)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with deployment("postgresql") as ours, deployment("postgresql") as young:
        made = inside(ours, PARTITION.format(days=DAYS * (options.partitions - 1)))
        print(f"{made.strip()} partitions, some of them to come", flush=True)
        named(ours, options.seconds)  # rows to copy, and a warm-up
        fill(ours, options.stored, options.partitions)
        named(young, options.seconds)  # a warm-up
        empty, full = [], []
        for _ in range(options.rounds):
            empty.append(named(young, options.seconds))
            full.append(named(ours, options.seconds))
        pages = json.loads(inside(ours, PAGES.replace("ROUNDS", "20")).splitlines()[-1])
    loads = (("few rows", empty), (f"{options.stored:,} rows in partitions", full))
    print(table(["", "requests per s"], [[name, ", ".join(f"{load:,.0f}" for load in each)] for name, each in loads]))
    print(f"\nfull / empty: {median(full) / median(empty):.2f}×\n")
    cuts = {name: quantiles(took_ms, n=20, method="inclusive") for name, took_ms in pages.items()}
    print(
        table(
            ["page", "p50 (ms)", "p95 (ms)"], [[name, f"{cut[9]:.0f}", f"{cut[18]:.0f}"] for name, cut in cuts.items()]
        )
    )


def named(ours: Deployment, seconds: int) -> float:
    """The calls per second, each with an id of the client's own: that it is new is what partitions make dearer."""
    return busy(ours, seconds, ids=f"call-{time.time_ns()}")


def inside(ours: Deployment, code: str) -> str:
    """What a program prints that has the deployment's settings."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=ours.environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def count(ours: Deployment) -> int:
    assert ours.cluster is not None
    with psycopg.connect(ours.cluster.url) as connection:
        [(number,)] = connection.execute("SELECT count(*) FROM scoring_transaction").fetchall()
    return int(number)


def fill(ours: Deployment, stored: int, partitions: int) -> None:
    assert ours.cluster is not None
    originals = min(count(ours), ORIGINALS)
    copies = -(-(stored - count(ours)) // originals)
    given = {"copies": copies, "days": DAYS * (partitions - 1)}
    began = time.monotonic()
    with psycopg.connect(ours.cluster.url, autocommit=True) as connection:
        autovacuum(connection, "off")
        connection.execute(FAST)
        connection.execute(ORIGINAL.format(rows=originals))
        indexes = connection.execute(INDEXES.format(keys=KEYS)).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        for first in range(1, copies + 1, AT_ONCE):
            last = min(first + AT_ONCE - 1, copies)
            connection.execute(COPIES.format(keys=KEYS), given | {"first": first, "last": last})
            print(f"{last / copies:4.0%} of the rows, {time.monotonic() - began:,.0f} s", flush=True)
        for name, definition in indexes:
            connection.execute(definition.replace(" ON ONLY ", " ON "))  # on the partitions, too
            print(f"index {name}, {time.monotonic() - began:,.0f} s", flush=True)
        connection.execute(f"VACUUM (ANALYZE) scoring_transaction, scoring_prediction, {KEYS}")
        autovacuum(connection, "on")
        connection.execute("CHECKPOINT")
        parts = connection.execute(
            "SELECT oid::regclass::text, reltuples::bigint FROM pg_class WHERE oid IN "
            "(SELECT inhrelid FROM pg_inherits WHERE inhparent = 'scoring_transaction'::regclass) ORDER BY 1"
        )
        print(*(f"{name}: about {number:,}" for name, number in parts.fetchall()), sep="\n", flush=True)
    print(f"filled in {time.monotonic() - began:,.0f} s", flush=True)


def autovacuum(connection: "psycopg.Connection[Any]", wanted: str) -> None:
    """Whether it is `on`. While tables are filled it would read them again and again."""
    connection.execute(f"ALTER SYSTEM SET autovacuum = {wanted}")
    connection.execute("SELECT pg_reload_conf()")


if __name__ == "__main__":
    main()
