"""The predict call with two million stored predictions beside empty tables: `python -m benchmarks.growth`.

And the resident memory of the worker after 200,000 calls beside that after 20,000.
"""

from argparse import ArgumentParser
from statistics import median

import psycopg

from benchmarks.stand import as_fast_as_possible, rss_mb, table
from fraudsite.tests.deployment import Deployment, deployment

CONNECTIONS = 64
# Copies of what is stored, with ids in the order of their times, as ours are.
COPY_OF_A_TRANSACTION = """
INSERT INTO scoring_transaction
    (id, client_id, transaction_id, schema, amount, fields, body_sha256, event_time, received_at)
SELECT (lpad(to_hex((extract(epoch FROM received_at - shift) * 1000)::bigint), 12, '0')
        || substr(md5(random()::text), 1, 20))::uuid,
    client_id, NULL, schema, amount, fields, body_sha256, event_time - shift, received_at - shift
FROM (SELECT * FROM scoring_transaction ORDER BY id LIMIT %s) AS original,
    (SELECT number * interval '10 minutes' AS shift FROM generate_series(1, %s) AS number) AS shifts
"""
PREDICTIONS_OF_THEM = """
INSERT INTO scoring_prediction
    (transaction_id, model_version_id, fraud_score, decision, threshold, reasons, latency_ms, queue_ms, features_ms,
     model_ms, created_at)
SELECT t.id, (SELECT version FROM training_modelversion WHERE stage = 'champion'), 0.001, 'approve', 0.5, '[]', 5,
    1, 1, 1, t.received_at
FROM scoring_transaction t LEFT JOIN scoring_prediction p ON p.transaction_id = t.id WHERE p.transaction_id IS NULL
"""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=2_000_000)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with deployment("postgresql") as ours, deployment("postgresql") as young:
        sent = 0
        memory: dict[int, float] = {}
        for milestone in (20_000, 200_000):
            while sent < milestone:
                sent += int(busy(ours, options.seconds) * options.seconds)
            memory[milestone] = rss_mb(ours.processes["worker0"].pid)
        fill(ours, options.stored)
        busy(young, options.seconds)  # a warm-up
        empty, full = [], []
        for _ in range(options.rounds):
            empty.append(busy(young, options.seconds))
            full.append(busy(ours, options.seconds))
    rows = [
        [name, ", ".join(f"{load:,.0f}" for load in loads)]
        for name, loads in (("few rows", empty), (f"{options.stored:,} rows", full))
    ]
    print(table(["", "requests per s"], rows))
    print(f"\nfull / empty: {median(full) / median(empty):.2f}×")
    print(
        f"\nWorker's memory: {memory[20_000]:,.0f} MB after 20,000 calls, {memory[200_000]:,.0f} MB after 200,000: "
        f"{memory[200_000] / memory[20_000]:.3f}×"
    )


def busy(ours: Deployment, seconds: int, *, ids: str = "") -> float:
    load = as_fast_as_possible(
        f"{ours.url}/predict",
        ours.rows,
        connections=CONNECTIONS,
        seconds=seconds,
        authorization=ours.authorization,
        ids=ids,
    )
    assert not load.failed
    return load.per_s


def fill(ours: Deployment, stored: int) -> None:
    assert ours.cluster is not None
    with psycopg.connect(ours.cluster.url, autocommit=True) as connection:
        [(present,)] = connection.execute("SELECT count(*) FROM scoring_transaction").fetchall()
        originals = min(present, 20_000)
        copies = -(-(stored - present) // originals)
        connection.execute(COPY_OF_A_TRANSACTION, (originals, copies))
        connection.execute(PREDICTIONS_OF_THEM)
        connection.execute("ANALYZE")
        connection.execute("CHECKPOINT")


if __name__ == "__main__":
    main()
