"""Labels in bulk on PostgreSQL: `python -m benchmarks.labels`.

Labels of a client come by `POST /api/v1/labels/batch`, from the body's bytes to those of the answer, and as a file of
CSV: decoded, checked, their transactions found and locked, repeats and earlier labels looked up, and stored. Beside it
PostgreSQL's COPY writes the same rows into the same table with its indexes, which is a bound on what could be reached.
Seconds of the processors are told apart for this process and for the server's process that works for it, as other work
on the machine changes them little. They are read from /proc, so that this runs on Linux.
"""

import gc
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import msgspec

from benchmarks.stand import measure_on_postgresql, table

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
    if options.labels % options.batch:
        parser.error("--labels has to be a multiple of --batch.")
    measure_on_postgresql(parser, "benchmarks.labels", list(vars(options).values()))


def measure(count: int, size: int, rounds: int) -> None:
    import django

    django.setup()
    # As in `fraudsite/asgi.py`: otherwise the collector walks all of Django again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    from django.db import connection

    from fraudsite.testing import api_of
    from scoring.models import Client

    client = Client.objects.create(name="benchmark")
    api = api_of(client)
    with connection.cursor() as cursor:
        cursor.execute(FILL, [client.pk, count])
        cursor.execute("ANALYZE scoring_transaction")
    rows = []
    for _ in range(rounds):
        for name, way in (("batches", _batches), ("file", _file)):
            ours = way(api, client, count, size)
            copy = _copy()
            rows.append(
                [name]
                + [f"{count / seconds:,.0f}" for seconds in (*ours, ours.process + ours.database, *copy)]
                + [f"{copy.wall / ours.wall:.2f} ×"]
            )
    heads = ["", "labels per s", "per CPU s of this process", "of the database", "of both"]
    heads += ["COPY, rows per s", "per CPU s of its process", "of the database", "Fraudsite / COPY"]
    print(table(heads, rows))


class Seconds(NamedTuple):
    wall: float
    process: float
    database: float


@contextmanager
def _measured() -> Iterator[list[Seconds]]:
    """Measures what the block takes. The list has it afterwards."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        server = Path(f"/proc/{cursor.fetchone()[0]}/stat")
    measured: list[Seconds] = []
    began = perf_counter(), process_time(), _cpu_s(server)
    yield measured
    measured.append(Seconds(perf_counter() - began[0], process_time() - began[1], _cpu_s(server) - began[2]))


def _cpu_s(server: Path) -> float:
    user, system = server.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _bodies(count: int) -> list[dict[str, Any]]:
    common = {"kind": "chargeback_lost", "event_time": "2026-01-31T12:00:00Z", "amount": 12.5}
    return [common | {"transaction_id": f"order-{n}", "reference": f"case-{n}"} for n in range(1, count + 1)]


def _batches(api: Any, client: Any, count: int, size: int) -> Seconds:
    bodies = _bodies(count)
    contents = [msgspec.json.encode({"labels": bodies[start : start + size]}) for start in range(0, count, size)]
    how = {"content_type": "application/json", "SERVER_NAME": "localhost"}
    with _measured() as measured:
        answers = [api.post("/api/v1/labels/batch", each, **how) for each in contents]
    assert all(answer.content.count(b'"status":201') == size for answer in answers), answers[0].content[:1_000]
    return measured[0]


def _file(api: Any, client: Any, count: int, size: int) -> Seconds:
    from scoring.reviews import label_files

    bodies = _bodies(count)
    lines = [",".join(bodies[0])] + [",".join(map(str, body.values())) for body in bodies]
    with _measured() as measured:
        report = label_files.load(BytesIO("\n".join(lines).encode()), client.pk)
    assert report.stored == count, report.summary
    return measured[0]


def _copy() -> Seconds:
    """COPY writes the labels that are stored into the table, emptied before."""
    from django.db import connection

    with connection.cursor() as cursor:
        with cursor.copy("COPY scoring_label TO STDOUT (FORMAT binary)") as out:
            content = b"".join(bytes(part) for part in out)
        cursor.execute("TRUNCATE scoring_label")
        with _measured() as measured, cursor.copy("COPY scoring_label FROM STDIN (FORMAT binary)") as into:
            into.write(content)
        cursor.execute("TRUNCATE scoring_label")
    return measured[0]


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(*map(int, sys.argv[2:]))
    else:
        main()
