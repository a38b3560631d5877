"""Files of transactions in each format, and what workers do with them, here and now."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudsite.testing import seed_payload
from scoring.files import chunks, reading, tasks
from scoring.files.models import BatchFile, State

CSV, JSONL, PARQUET = "text/csv", "application/x-ndjson", "application/vnd.apache.parquet"


def csv_of(rows, **how):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), **how)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def jsonl_of(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet_of(rows):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def zst(content):
    return pa.compress(content, "zstd", asbytes=True)


def orders(count, **changes):
    return [seed_payload(transaction_id=f"order-{n}", Amount=float(n)) | changes for n in range(count)]


@pytest.fixture
def send_file(acme_api):
    """Send a file. Keyword arguments are parameters of the address."""

    def send_file(body, content_type=CSV, headers=None, api=acme_api, mode="traffic", **parameters):
        query = "&".join(f"{name}={value}" for name, value in {"mode": mode, **parameters}.items() if value)
        return api.generic("POST", f"/api/v1/batches?{query}", body, content_type=content_type, headers=headers or {})

    return send_file


@pytest.fixture
def work(champion, monkeypatch):
    """Do what workers do, here and now, until nothing is left. Messages are not sent."""
    monkeypatch.setattr(tasks, "_send", lambda *args, **options: None)
    monkeypatch.setattr(tasks.score_chunk, "delay", lambda *args: None)

    def work():
        for file in BatchFile.objects.filter(state=State.WAITING):
            reading.read(file)
        for file in BatchFile.objects.filter(state=State.SCORING):
            while chunks.work(file):
                pass

    return work


@pytest.fixture
def scored(send_file, work, acme_api):
    """Send a file and have it scored. Returns what its page says."""

    def scored(*args, **options):
        response = send_file(*args, **options)
        assert response.status_code == 202, response.content
        work()
        return acme_api.get(response["Location"]).json()

    return scored


def result(api, file, form="jsonl", what="result"):
    response = api.get(f"/api/v1/batches/{file['id']}/{what}?format={form}")
    assert response.status_code == 200, response.content
    return response.getvalue()


def lines(content):
    return [json.loads(line) for line in content.splitlines()]
