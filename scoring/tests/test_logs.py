"""Each line of the log, as JSON, says what it is about, and none holds what nobody may find there."""

import io
import json
import logging
import subprocess
import sys
import time
from contextvars import Context

import httpx
import msgspec
import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from fraudsite.testing import PROCESS_START_S, api_of, free_port, seed_payload, submission, worker_environment
from scoring import tasks
from scoring.api import views
from scoring.messages import replies
from scoring.models import Transaction
from scoring.telemetry.logs import LEFT_OUT, JsonLines
from scoring.telemetry.release import release
from scoring.worker import predictor
from scoring.worker.predictor import Predictor

FIELDS = {
    *("time", "level", "logger", "message", "exception", "version", "process"),
    *("request_id", "trace_id", "transaction_id", "batch", "request_ids"),
}
TRACE = "0af7651916cd43dd8448eb211c80319c"
CARD = "4111111111111111"


def handler():
    [found] = [one for one in logging.getLogger().handlers if one.name == "console"]
    return found


@pytest.fixture
def text_log(monkeypatch):
    """What the product's own handler writes."""
    written = io.StringIO()
    monkeypatch.setattr(handler(), "stream", written)
    return written


@pytest.fixture
def log(text_log, monkeypatch):
    """The same with LOG_FORMAT=json."""
    monkeypatch.setattr(handler(), "formatter", JsonLines())
    return text_log


def lines(log):
    found = [json.loads(line) for line in log.getvalue().splitlines()]
    assert all(line.keys() == FIELDS for line in found)
    assert {line["version"] for line in found} <= {release()}
    return found


def line_of(log, words):
    [line] = [line for line in lines(log) if words in line["message"]]
    return line


def post(http, body=None, **headers):
    return http.post("/predict", json.dumps(body or seed_payload()), content_type="application/json", headers=headers)


@pytest.mark.django_db
def test_a_line_of_a_call_has_its_request_its_trace_and_its_transaction(acme_api, log, monkeypatch):
    async def fail(submission):
        raise RuntimeError(f"no place for {submission.id}")

    monkeypatch.setattr(views, "ask", fail)
    acme_api.raise_request_exception = False
    traceparent = f"00-{TRACE}-b7ad6b7169203331-01"
    assert post(acme_api, **{"X-Request-ID": "call-1", "traceparent": traceparent}).status_code == 500
    line = line_of(log, "Internal Server Error")
    assert (line["request_id"], line["trace_id"], line["level"]) == ("call-1", TRACE, "ERROR")
    assert line["exception"].endswith(f"no place for {line['transaction_id']}")
    assert (line["batch"], line["request_ids"]) == (None, None)


@pytest.mark.django_db
def test_the_next_call_of_a_thread_says_nothing_of_the_transaction_before(acme_api, log, monkeypatch):
    async def fail(_):
        raise RuntimeError

    monkeypatch.setattr(views, "ask", fail)
    acme_api.raise_request_exception = False
    post(acme_api)
    acme_api.get("/api/v1/transactions", headers={"Host": "evil.example"})
    assert line_of(log, "evil.example")["transaction_id"] is None


@pytest.mark.django_db
def test_a_line_about_a_batch_names_it_and_its_requests(redis_server, acme, log, monkeypatch):
    monkeypatch.setattr(predictor, "_loaded", {})
    named = [msgspec.structs.replace(submission(acme.pk, seed_payload()), request_id=f"call-{n}") for n in (2, 3)]
    Context().run(tasks.score_batch, "unread", "batch-1", msgspec.msgpack.encode(named))
    replies.connection().delete("unread")
    line = line_of(log, "were not scored")
    assert (line["batch"], line["request_ids"]) == ("batch-1", ["call-2", "call-3"])
    assert (line["request_id"], line["transaction_id"]) == (None, None)


@pytest.mark.django_db
def test_a_line_about_one_transaction_of_a_batch_has_its_id_and_that_of_its_request(
    redis_server, champion, acme, log, monkeypatch
):
    model = Predictor(champion)
    score = model.scorer.score

    def fail_on_large(features):
        if features.max() > 190:
            raise ValueError("too large")
        return score(features)

    monkeypatch.setattr(model.scorer, "score", fail_on_large)
    monkeypatch.setattr(predictor, "_loaded", {"ulb": model})
    fine, large = (
        msgspec.structs.replace(submission(acme.pk, seed_payload(V1=value, Time=100.0)), request_id=name)
        for name, value in (("call-4", 1.0), ("call-5", 195.0))
    )
    Context().run(tasks.score_batch, "unread", "batch-2", msgspec.msgpack.encode([fine, large]))
    replies.connection().delete("unread")
    line = line_of(log, "cannot score a transaction")
    assert (line["batch"], line["transaction_id"], line["request_id"]) == ("batch-2", large.id, "call-5")


@pytest.mark.django_db
def test_a_transaction_that_is_scored_later_is_named(acme_api, log, monkeypatch):
    monkeypatch.setattr(predictor, "_loaded", {})
    monkeypatch.setattr(tasks.score_pending, "apply_async", lambda *_, **__: None)
    key = post(acme_api, Prefer="respond-async").json()["id"]

    def fail(**_):
        raise RuntimeError("out of order")

    monkeypatch.setattr(tasks.predictor, "current", lambda _: type("Model", (), {"schema": tasks}))
    monkeypatch.setattr(tasks, "name", "ulb", raising=False)
    monkeypatch.setattr(tasks.pending, "score", fail)
    Context().run(tasks.score_pending, [key])
    assert line_of(log, "pending transactions of ulb were not scored")["transaction_id"] == key


@pytest.mark.parametrize("format_", ["text", "json"])
@pytest.mark.django_db
def test_no_line_holds_a_card_number_even_if_an_error_does(acme, format_, request, monkeypatch):
    log = request.getfixturevalue("log" if format_ == "json" else "text_log")

    def fail(wrapped, **_):
        raise RuntimeError(f"cannot read {wrapped.body!r}")

    monkeypatch.setattr(views, "read_object", fail)
    http = api_of(acme)
    http.raise_request_exception = False
    post(http, {"card": CARD, "holder": "Ada"})
    logging.getLogger("scoring").warning("somebody wrote %s here", " ".join(CARD[n : n + 4] for n in range(0, 16, 4)))
    assert LEFT_OUT in log.getvalue()
    assert CARD not in log.getvalue()
    assert "4111 1111" not in log.getvalue()
    assert "Internal Server Error" in log.getvalue()


@pytest.mark.django_db
def test_no_line_has_the_values_of_a_row_that_the_database_refuses(acme, log, text_log):
    row = {"client": acme, "schema": "ulb", "amount": 1.0, "fields": {"V1": 0.5}, "body_sha256": "0" * 64}
    row |= {"event_time": timezone.now(), "received_at": timezone.now()}
    row |= {"transaction_id": (name := "anna@example.com")}
    Transaction.objects.create(**row)
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        Transaction.objects.create(**row)
    if connection.vendor == "postgresql":
        assert name in str(refused.value)  # which is why it has to be left out
    logging.getLogger("scoring").error("A row was refused: %s", refused.value, exc_info=refused.value)
    found = line_of(log, "A row was refused")
    assert "IntegrityError" in found["exception"]
    assert name not in log.getvalue()


def test_each_line_of_a_web_server_is_an_object(redis_server, transactional_db):
    port = free_port()
    environment = worker_environment() | {"LOG_FORMAT": "json", "FRAUDSITE_RELEASE": "4f2c1d9"}
    command = [sys.executable, "-m", "fraudsite.web", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        give_up = time.monotonic() + PROCESS_START_S
        while True:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/admin/", headers={"Host": "evil.example"}, timeout=10)
                break
            except httpx.ConnectError:
                assert time.monotonic() < give_up
                time.sleep(0.1)
    finally:
        process.terminate()
        written, _ = process.communicate(timeout=PROCESS_START_S)
    found = [json.loads(line) for line in written.splitlines()]
    assert {line["version"] for line in found} == {"4f2c1d9"}
    [refused] = [line for line in found if "evil.example" in line["message"]]
    assert refused["request_id"] == answer.headers["X-Request-ID"]
