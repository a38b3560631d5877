"""OpenTelemetry: what a request does is found in one trace, from the web process by the worker to the statement."""

import gzip
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import Context
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import msgspec
import pytest
from django.conf import settings as django_settings

from fraudsite.testing import (
    PROCESS_START_S,
    fraudulent_payload,
    free_port,
    seed_payload,
    submission,
    web_server,
    worker_environment,
)
from scoring import tasks
from scoring.clients import keys
from scoring.messages import replies, traces
from scoring.models import WebhookDelivery
from scoring.telemetry import tracing
from scoring.tests.files import csv_of, orders, scored, send_file, work  # noqa: F401  # fixtures
from scoring.tests.receivers import subscribe
from scoring.tests.test_streams import add, consume, stream  # noqa: F401  # fixtures
from scoring.worker import batches, predictor
from scoring.worker.predictor import Predictor

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
WAIT_S = PROCESS_START_S


class Collector:
    """The spans that came by OTLP over HTTP, each with the service that sent it."""

    def __init__(self):
        self.spans, self.raw, self.url = [], [], ""

    def take(self, path, body):
        assert path == "/v1/traces"
        self.raw.append(body.decode())
        for of_resource in json.loads(body)["resourceSpans"]:
            about = attributes_of(of_resource["resource"])
            for scope in of_resource["scopeSpans"]:
                self.spans += [span | {"service": about["service.name"]} for span in scope["spans"]]

    def await_spans(self, trace, *names):
        """The spans of a trace, once those with these names are among them."""
        give_up = time.monotonic() + WAIT_S
        while True:
            found = [span for span in list(self.spans) if span["traceId"].lower() == trace]
            if set(names) <= {span["name"] for span in found}:
                return found
            assert time.monotonic() < give_up, [(span["service"], span["name"]) for span in self.spans]
            time.sleep(0.05)


def attributes_of(thing):
    return {each["key"]: next(iter(each["value"].values())) for each in thing.get("attributes", ())}


@contextmanager
def collecting(port):
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    collector.url = f"http://127.0.0.1:{port}/"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def recording(settings, monkeypatch):
    """This process records all that is drawn, and sends it to the collector that is given."""
    settings.OTEL_EXPORTER_OTLP_ENDPOINT = f"http://127.0.0.1:{(port := free_port())}/"
    settings.TRACES_SHARE = 1.0
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with collecting(port) as collector:
        tracing.start("tests")
        yield collector
        tracing.stop()


def named(spans, name):
    [span] = [span for span in spans if span["name"] == name]
    return span


def ancestors(spans, span):
    by_id = {each["spanId"]: each for each in spans}
    while span := by_id.get(span["parentSpanId"]):
        yield span["name"]


def post(http, trace, **headers):
    headers |= {"traceparent": f"00-{trace}-{PARENT}-00"}
    return http.post("/predict", json=seed_payload(transaction_id=f"order-{trace[-4:]}"), headers=headers)


def test_the_trace_of_a_call_has_the_spans_of_web_worker_and_statement(worker, acme):
    _, key = keys.create(client=acme)
    environment = worker_environment() | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{worker.collector_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "TRACES_SHARE": "1",
    }
    headers = {"Authorization": f"Bearer {key}"}
    with (
        collecting(worker.collector_port) as collector,
        web_server(environment) as url,
        httpx.Client(base_url=url, headers=headers, timeout=30) as http,
    ):
        # The second call is an ordinary one, which goes a shorter way.
        for trace in (TRACE, TRACE[::-1]):
            answer = post(http, trace)
            assert answer.status_code == 200, answer.text
            spans = collector.await_spans(trace, "POST /predict", "score batch", "model")
            web, batch = named(spans, "POST /predict"), named(spans, "score batch")
            assert (web["service"], batch["service"]) == ("fraudsite-web", "fraudsite-worker")
            assert (web["parentSpanId"].lower(), batch["parentSpanId"]) == (PARENT, web["spanId"])
            assert answer.headers["traceresponse"].split("-")[2] == web["spanId"].lower()
            assert str(attributes_of(web)["http.response.status_code"]) == "200"
            statements = [span for span in spans if "db.query.text" in attributes_of(span)]
            assert any("INSERT" in attributes_of(span)["db.query.text"] for span in statements)
            for span in (*statements, named(spans, "model")):
                assert "score batch" in ancestors(spans, span)
        trace = "1" * 32
        assert post(http, trace, Prefer="respond-async").status_code == 202
        spans = collector.await_spans(trace, "POST /predict", "scoring.tasks.score_pending")
        task = named(spans, "scoring.tasks.score_pending")
        assert (task["service"], task["parentSpanId"]) == ("fraudsite-worker", named(spans, "POST /predict")["spanId"])
        assert any("scoring.tasks.score_pending" in ancestors(spans, span) for span in spans)
    everything = "".join(collector.raw)
    assert "order-" not in everything
    assert key not in everything


@pytest.mark.django_db
def test_a_batch_links_the_requests_that_it_carries(redis_server, champion, acme, recording, monkeypatch):
    monkeypatch.setattr(predictor, "_loaded", {"ulb": Predictor(champion)})
    first, second, unrecorded = (submission(acme.pk, seed_payload(V1=number / 10)) for number in range(3))
    first, second = (
        msgspec.structs.replace(each, span=f"00-{trace * 32}-{PARENT}-01")
        for each, trace in ((first, "a"), (second, "b"))
    )
    Context().run(tasks.score_batch, "unread", "batch-1", msgspec.msgpack.encode([unrecorded, first, second]))
    replies.connection().delete("unread")
    [batch] = [span for span in recording.await_spans("a" * 32, "score batch") if span["name"] == "score batch"]
    [theirs] = recording.await_spans("b" * 32, "score batch")
    assert [link["traceId"].lower() for link in batch["links"]] == ["b" * 32]
    assert [link["spanId"] for link in theirs["links"]] == [batch["spanId"]]
    for span in (batch, theirs):
        told = attributes_of(span)
        assert (told["fraudsite.batch"], str(told["messaging.batch.message_count"])) == ("batch-1", "3")


def test_an_entry_of_a_stream_is_in_its_producers_trace_with_the_batch_that_scores_it(add, consume, recording):  # noqa: F811
    add(seed_payload(), traceparent=f"00-{'d' * 32}-{PARENT}-01")
    consume()
    spans = recording.await_spans("d" * 32, "receive payments", "score batch", "model")
    received = named(spans, "receive payments")
    assert received["parentSpanId"].lower() == PARENT
    assert named(spans, "score batch")["parentSpanId"] == received["spanId"]
    assert list(ancestors(spans, named(spans, "model"))) == ["score batch", "receive payments"]


def test_a_chunk_of_a_file_is_a_trace_of_its_own_and_each_names_the_file(scored, recording, settings):  # noqa: F811
    settings.BATCH_FILE_CHUNK = 2
    key = scored(csv_of(orders(3)))["id"]
    tracing.stop()
    found = [span for span in recording.spans if span["name"] == "score chunk"]
    assert [(attributes_of(span)["file"], str(attributes_of(span)["rows"])) for span in found] == [
        (key, "2"),
        (key, "1"),
    ]
    assert len({span["traceId"] for span in found}) == 2
    scored_in = [span["traceId"] for span in recording.spans if span["name"] == "model"]
    assert scored_in == [span["traceId"] for span in found]


@pytest.mark.django_db
def test_an_alert_of_a_batch_is_told_in_the_trace_of_its_own_request(champion, acme, recording):
    subscribe(acme, "http://127.0.0.1:9/hook")
    recorded, other = (submission(acme.pk, fraudulent_payload(Amount=amount)) for amount in (1.0, 2.0))
    recorded = msgspec.structs.replace(recorded, span=f"00-{'e' * 32}-{PARENT}-01")
    with tracing.batch([recorded, other], "batch-1"):
        batches.score_batch(submissions=[recorded, other], predictor=Predictor(champion), started_at=0.0)
    spans = dict(WebhookDelivery.objects.values_list("object", "span"))
    assert spans == {recorded.id: recorded.span, other.id: ""}


@pytest.mark.django_db
def test_a_page_is_recorded_with_its_statements_and_without_what_was_searched(client, ada, recording):
    client.force_login(ada)
    page, trace = "/admin/scoring/transaction/", "c" * 32
    assert client.get(page, {"q": "anna"}, headers={"traceparent": f"00-{trace}-{PARENT}-01"}).status_code == 200
    spans = recording.await_spans(trace, "GET /admin/scoring/transaction/", "SELECT")
    assert all(
        "GET /admin/scoring/transaction/" in ancestors(spans, span) for span in spans if span["name"] == "SELECT"
    )
    assert "anna" not in "".join(recording.raw)


def test_a_job_of_beat_begins_a_trace_and_another_task_none(recording):
    for name, is_job in (("a job", True), ("another task", False)):
        with tracing.task(name, "", is_job=is_job):
            pass
    tracing.stop()  # which sends what is recorded
    [span] = recording.spans
    assert (span["name"], span.get("parentSpanId", "")) == ("a job", "")


def test_the_share_is_drawn_by_the_traces_id_whatever_the_caller_says(settings, recording):
    settings.TRACES_SHARE = 0.25
    drawn = [f"{number:016x}{place << 56:016x}" for number in range(1, 3) for place in range(256)]
    for flags in ("00", "01"):
        recorded = [trace for trace in drawn if tracing._is_drawn(traces.Trace(trace, PARENT, flags))]
        assert recorded == [trace for trace in drawn if int(trace[16:18], 16) < 64]
    settings.TRACES_FOLLOW_CALLERS = True
    assert [tracing._is_drawn(traces.Trace(drawn[0], PARENT, flags)) for flags in ("00", "01", "03")] == [
        False,
        True,
        True,
    ]


def test_a_share_of_calls_without_a_trace_is_recorded(settings, recording):
    settings.TRACES_SHARE = 0.05
    recorded = 0
    for _ in range(2_000):
        with tracing.request("GET", "/", None) as span:
            recorded += span is not None
    assert 40 < recorded < 180  # four standard deviations around 100


def test_a_collector_that_does_not_answer_keeps_no_process_from_its_end(recording, monkeypatch):
    released, gave_up = threading.Event(), threading.Event()
    monkeypatch.setattr(tracing, "LAST_SPANS_S", 0.1)

    def silent(*_):
        if not released.wait(20):
            gave_up.set()

    monkeypatch.setattr(recording, "take", silent)
    with tracing.request("GET", "/", None):
        pass
    tracing.stop()
    assert not gave_up.is_set()
    released.set()


def test_while_it_is_off_nothing_of_opentelemetry_is_loaded(tmp_path):
    environment = worker_environment() | {"DJANGO_SETTINGS_MODULE": "fraudsite.settings", "VAR_DIR": str(tmp_path)}
    environment |= {"DATABASE_URL": f"sqlite:///{tmp_path / 'fresh.sqlite3'}"}
    script = (
        "import sys, fraudsite.asgi\n"
        "print([name for name, module in sys.modules.items() if name.startswith('opentelemetry') and module])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=django_settings.BASE_DIR, env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
