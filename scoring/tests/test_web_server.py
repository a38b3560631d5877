"""What only a real web server shows: bodies of unannounced length, and traffic from the simulator."""

import json
import re
import socket
import time

import httpx
import pytest
from django.core.management import call_command
from django.db import connection, transaction

from fraudsite.testing import seed_payload, web_server, worker_environment
from scoring.clients import keys
from scoring.files.models import BatchFile
from scoring.models import Prediction, Review, Transaction
from scoring.tests.files import CSV, csv_of, orders

LIST = "/api/v1/predict/batch"


def post(site, acme, content, path="/predict"):
    _, key = keys.create(client=acme)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return httpx.post(f"{site}{path}", content=content, headers=headers, timeout=30)


@pytest.mark.parametrize(("path", "body"), [("/predict", seed_payload()), (LIST, {"transactions": [seed_payload()]})])
def test_it_takes_a_chunked_body(site, acme, path, body):
    text = json.dumps(body).encode()
    response = post(site, acme, iter([text[:100], text[100:]]), path)
    assert response.status_code == 200, response.text
    assert Prediction.objects.count() == 1


@pytest.mark.parametrize(
    ("path", "limit"), [("/predict", "PREDICT_BODY_LIMIT_BYTES"), (LIST, "BATCH_BODY_LIMIT_BYTES")]
)
def test_it_refuses_a_chunked_body_over_the_limit(site, acme, settings, path, limit):
    response = post(site, acme, (b" " * 4096 for _ in range(getattr(settings, limit) // 4096 + 1)), path)
    assert response.status_code == 413
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(
    ("path", "media", "body"),
    [
        ("/predict", "application/json", json.dumps(seed_payload()).encode()),
        (LIST, "application/json", json.dumps({"transactions": [seed_payload()]}).encode()),
        ("/api/v1/batches?mode=traffic", CSV, csv_of(orders(2))),
    ],
)
def test_a_body_that_is_cut_off_is_refused_and_not_taken_for_the_whole(
    site, acme, champion, path, media, body, chunked
):
    _, key = keys.create(client=acme)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body) + 1}"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Type: {media}\r\n{length}"
    )
    sent = b"%x\r\n%b\r\n" % (len(body), body) if chunked else body
    host, port = site.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"application/problem+json" in answer
    assert b"The body was cut off" in answer
    assert not BatchFile.objects.exists()
    assert not Transaction.objects.exists()


def test_it_refuses_an_empty_body(site, acme):
    assert post(site, acme, b"").status_code == 400


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_predict_calls_say_the_same_of_safety_as_other_calls(worker, acme, scheme):
    _, key = keys.create(client=acme)
    headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "call-1", "X-Forwarded-Proto": scheme}
    with (
        web_server(worker_environment() | {"HTTPS": "true", "BEHIND_PROXY": "true"}) as url,
        httpx.Client(base_url=url, headers=headers, timeout=30) as http,
    ):
        predict = http.post("/predict", json=seed_payload())
        other = http.post(LIST, json={"transactions": [seed_payload()]})
        assert predict.status_code == other.status_code == (200 if scheme == "https" else 301)
        assert safety_of(predict) == safety_of(other)
        assert predict.headers["X-Request-ID"] == "call-1"
        slashed = [http.post(f"{path}/", json={}).status_code for path in ("/predict", "/api/v1/predict", LIST)]
        assert set(slashed) == {400 if scheme == "https" else 301}
        assert ("Strict-Transport-Security" in predict.headers) == (scheme == "https")
        del http.headers["X-Forwarded-Proto"]
        told_by_client = {"X_Forwarded_Proto": "https"}
        assert http.post("/predict", json=seed_payload(), headers=told_by_client).status_code == 301
        assert http.post(LIST, json={}, headers=told_by_client).status_code == 301


def safety_of(response):
    """All headers but those that tell of this answer alone."""
    ours = {"content-length", "date", "location", "server", "transfer-encoding"}
    ours |= {"ratelimit", "ratelimit-policy", "deprecation", "link"}
    return {name: value for name, value in response.headers.items() if name not in ours}


@pytest.mark.alone
def test_a_call_that_waits_for_the_database_is_answered_in_time(site, acme, settings):
    _, key = keys.create(client=acme)
    headers = {"Authorization": f"Bearer {key}", "Prefer": "respond-async"}
    with httpx.Client(base_url=site, headers=headers, timeout=30) as http:
        assert http.post("/predict", json=seed_payload()).status_code == 202
        with transaction.atomic():  # on SQLite, that is a lock on everything already
            if connection.vendor == "postgresql":
                connection.cursor().execute("LOCK TABLE scoring_transaction IN ACCESS EXCLUSIVE MODE")
            else:
                Transaction.objects.filter(transaction_id="nobody").delete()
            began = time.monotonic()
            response = http.post("/predict", json=seed_payload(transaction_id="order-1"))
            assert time.monotonic() - began < settings.PREDICT_DEADLINE_MS / 1000 + 1
            assert response.status_code == 503
            assert response.json()["title"] == "Database unavailable"
        # It is stored as soon as it can be, here before this test ends, or else amid the next one.
        give_up = time.monotonic() + settings.PREDICT_DEADLINE_MS / 1000 + 5
        while not Transaction.objects.filter(transaction_id="order-1").exists() and time.monotonic() < give_up:
            time.sleep(0.05)
        # What became of it, a repeat finds out.
        assert http.post("/predict", json=seed_payload(transaction_id="order-1")).status_code == 202
    assert Transaction.objects.filter(transaction_id="order-1").count() == 1


@pytest.mark.alone
def test_the_simulator_sends_test_rows_and_knows_what_was_caught(site, acme, capsys):
    _, key = keys.create(client=acme)
    call_command("simulate", url=site, api_key=key, rate=200.0, count=60, fraud_rate=0.5, seed=7)
    summary = capsys.readouterr().out.splitlines()[-1]
    assert Transaction.objects.count() == Prediction.objects.count() == 60
    assert summary.startswith("60 answered in ")
    caught, frauds, false_alerts, legitimate = map(
        int, re.search(r"fraud (\d+)/(\d+) caught .* false alerts (\d+)/(\d+)", summary).groups()
    )
    assert frauds + legitimate == 60
    assert 15 < frauds < 45
    assert caught + false_alerts == Review.objects.count()
    assert caught > 0.8 * frauds
    assert summary.endswith("failed: none")
