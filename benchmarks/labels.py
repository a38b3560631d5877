"""Labels in bulk on PostgreSQL: `python -m benchmarks.labels`.

Batches of labels of a client take the way of `POST /api/v1/labels/batch` behind its HTTP server: checked, their
transactions found and locked, repeats and earlier labels looked up, and stored. Beside it PostgreSQL's COPY writes the
same rows into the same table with its indexes, which is a bound on what could be reached.
"""

import os
import subprocess
import sys
from argparse import ArgumentParser
from time import perf_counter, process_time
from typing import Any

from benchmarks.stand import ROOT, table
from fraudsite.tests import postgresql

FILL = """
INSERT INTO scoring_transaction
    (id, client_id, transaction_id, schema, amount, fields, body_sha256, event_time, received_at)
SELECT gen_random_uuid(), %s, 'order-' || n, 'ulb', 12.5, '{}', '', now(), now() FROM generate_series(1, %s) AS n
"""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    programs = postgresql.programs()
    if programs is None:
        parser.error("There is no PostgreSQL here.")
    with postgresql.cluster(programs) as cluster:
        environment = os.environ | {
            "DATABASE_URL": cluster.url,
            "DJANGO_SETTINGS_MODULE": "fraudsite.settings_for_tests",
        }
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], env=environment, cwd=ROOT, check=True)
        command = [sys.executable, "-m", "benchmarks.labels", "measure", *map(str, vars(options).values())]
        subprocess.run(command, env=environment, cwd=ROOT, check=True)


def measure(count: int, size: int, rounds: int) -> None:
    import django

    django.setup()
    from django.db import connection

    from scoring.models import Client

    client = Client.objects.create(name="benchmark")
    with connection.cursor() as cursor:
        cursor.execute(FILL, [client.pk, count])
        cursor.execute("ANALYZE scoring_transaction")
    rows = []
    for _ in range(rounds):
        ours_s, cpu_s = _ours(client.pk, count, size)
        copy_s = _copy()
        rows.append(
            [f"{count / ours_s:,.0f}", f"{count / cpu_s:,.0f}", f"{count / copy_s:,.0f}", f"{copy_s / ours_s:.2f} ×"]
        )
    print(table(["labels per s", "per CPU s of this process", "COPY, rows per s", "Fraudsite / COPY"], rows))


def _bodies(count: int) -> list[dict[str, Any]]:
    common = {"kind": "chargeback_lost", "event_time": "2026-01-31T12:00:00Z", "amount": 12.5}
    return [common | {"transaction_id": f"order-{n}", "reference": f"case-{n}"} for n in range(1, count + 1)]


def _ours(client_id: int, count: int, size: int) -> tuple[float, float]:
    """Seconds, and seconds of the processor."""
    from django.utils import timezone

    from scoring.reviews import incoming, receiving

    bodies, now = _bodies(count), timezone.now()
    wall, cpu = perf_counter(), process_time()
    for start in range(0, count, size):
        answers = receiving.receive(client_id, [incoming.read(body, now) for body in bodies[start : start + size]])
        assert not any(isinstance(answer, Exception) or answer.repeated for answer in answers)
    return perf_counter() - wall, process_time() - cpu


def _copy() -> float:
    """Seconds in which COPY writes the labels that are stored into the table, emptied before."""
    from django.db import connection

    with connection.cursor() as cursor:
        with cursor.copy("COPY scoring_label TO STDOUT (FORMAT binary)") as out:
            content = b"".join(bytes(part) for part in out)
        cursor.execute("TRUNCATE scoring_label")
        began = perf_counter()
        with cursor.copy("COPY scoring_label FROM STDIN (FORMAT binary)") as into:
            into.write(content)
        took = perf_counter() - began
        cursor.execute("TRUNCATE scoring_label")
    return took


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(*map(int, sys.argv[2:]))
    else:
        main()
