"""predict/batch with 1,000 rows beside COPY of the same rows into the same tables: `python -m benchmarks.batch`.

The peer is a bare script that has the rows and their scores ready in memory and only copies them, 1,000 per database
transaction. Prints rows per second of both, in turn, and the ratio of the medians.
"""

import json
import time
import uuid
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from statistics import median

import httpx
import psycopg

from benchmarks.stand import table
from fraudsite.tests.deployment import Deployment, deployment

ROWS = 1_000
TRANSACTION = "id, client_id, transaction_id, schema, amount, fields, body_sha256, event_time, received_at"
PREDICTION = (
    "transaction_id, model_version_id, fraud_score, decision, threshold, reasons, latency_ms, queue_ms, features_ms, "
    "model_ms, created_at"
)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=30, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="each side in turn so many times")
    parser.add_argument("--callers", type=int, default=2, help="calls under way at once")
    options = parser.parse_args()
    with deployment("postgresql") as ours:
        bodies = [json.loads(line) for line in ours.rows.read_text().splitlines()[:ROWS]]
        post(ours, bodies, calls=4, callers=options.callers)  # a warm-up
        seen: dict[str, list[float]] = {"predict/batch": [], "COPY": []}
        for _ in range(options.rounds):
            seen["predict/batch"].append(post(ours, bodies, calls=options.calls, callers=options.callers))
            seen["COPY"].append(copy(ours, bodies, batches=options.calls))
    rows = [[name, ", ".join(f"{value:,.0f}" for value in values)] for name, values in seen.items()]
    print(table(["", "rows per s"], rows))
    print(f"\npredict/batch / COPY: {median(seen['predict/batch']) / median(seen['COPY']):.2f}×")


def post(ours: Deployment, bodies: list[dict[str, float]], *, calls: int, callers: int) -> float:
    """Returns scored and stored rows per second."""
    content = json.dumps({"transactions": bodies}).encode()
    headers = {"Authorization": ours.authorization, "Content-Type": "application/json"}
    with httpx.Client(base_url=ours.url, headers=headers, timeout=60) as client, ThreadPoolExecutor(callers) as pool:
        began = time.perf_counter()
        answers = list(pool.map(lambda _: client.post("/api/v1/predict/batch", content=content), range(calls)))
        took_s = time.perf_counter() - began
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert all(result["status"] == 200 for result in answer.json()["results"])
    return calls * len(bodies) / took_s


def copy(ours: Deployment, bodies: list[dict[str, float]], *, batches: int) -> float:
    """Returns copied rows per second."""
    assert ours.cluster is not None
    documents = [json.dumps(body) for body in bodies]
    with psycopg.connect(ours.cluster.url) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        for _ in range(batches):
            now = datetime.now(UTC)
            keys = [uuid.uuid4() for _ in documents]
            with cursor.copy(f"COPY scoring_transaction ({TRANSACTION}) FROM STDIN") as target:
                for key, document in zip(keys, documents, strict=True):
                    target.write_row((key, 1, None, "ulb", 1.0, document, "0" * 64, now, now))
            with cursor.copy(f"COPY scoring_prediction ({PREDICTION}) FROM STDIN") as target:
                for key in keys:
                    target.write_row((key, "copied", 0.001, "approve", 0.5, "[]", 1.0, 1.0, 1.0, 1.0, now))
            connection.commit()
        return batches * len(documents) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
