"""The Python client against a real web server and worker, and against servers that misbehave."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

import fraudsite_client
from fraudsite.testing import PROCESS_START_S, fraudulent_payload, seed_payload
from fraudsite_client import (
    AsyncFraudsite,
    Conflict,
    Fraudsite,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    NotReached,
    NotUnderstood,
    Patience,
    Pending,
    Prediction,
    TooManyRequests,
    Unavailable,
)
from scoring.clients import keys
from scoring.models import Label, Transaction

MODELS = settings.BASE_DIR / "clients" / "python" / "src" / "fraudsite_client" / "models.py"
PROBLEM = {"type": "about:blank", "title": "", "detail": "", "instance": "/", "request_id": "1", "errors": []}
QUICK = Patience(deadline_s=5, timeout_s=2, first_pause_s=0.01)


@pytest.fixture
def key(acme):
    return keys.create(client=acme)[1]


@pytest.fixture
def fraudsite(site, key):
    with Fraudsite(site, key) as client:
        yield client


@contextmanager
def answering(*answers):
    """A server that gives these answers in turn, the last one for ever: a status, headers and a body, or None for a
    connection that is closed. Yields its address, and the times and bodies of the requests that came."""
    asked: list[tuple[float, dict]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            asked.append((time.monotonic(), json.loads(self.rfile.read(length))))
            answer = answers[min(len(asked), len(answers)) - 1]
            if answer is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def refusal(status, **headers):
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, PROBLEM | {"status": status}


@contextmanager
def losing_the_first_answer(site):
    """A proxy that passes requests on to the site, and loses the first answer. Yields its address."""
    host, _, port = site.removeprefix("http://").partition(":")
    listening = socket.create_server(("127.0.0.1", 0))
    lost = threading.Event()

    def serve():
        while True:
            try:
                caller, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=pass_on, args=(caller,), daemon=True).start()

    def pass_on(caller):
        with caller, socket.create_connection((host, int(port))) as server:
            # A thread of its own, as an answer may come in several pieces.
            threading.Thread(target=pipe, args=(caller, server), daemon=True).start()
            while piece := server.recv(1 << 20):
                if not lost.is_set():
                    lost.set()
                    break
                caller.sendall(piece)
            for each in (caller, server):  # closing alone would wait for the other thread
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def pipe(source, target):
        with suppress(OSError):
            while piece := source.recv(1 << 20):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.close()


def test_it_scores_a_transaction_and_reads_the_answer_again(fraudsite, champion):
    answer = fraudsite.predict(fraudulent_payload(transaction_id="order-1"))
    assert (answer.transaction_id, answer.decision, answer.alert) == ("order-1", "block", True)
    assert answer.reasons[0].contribution > 0
    assert answer.model_version == champion.pk
    assert fraudsite.prediction(answer.id) == answer


def test_a_transaction_without_an_id_gets_one_that_is_no_card_number(fraudsite):
    assert fraudsite.predict(seed_payload()).transaction_id.startswith("py-")


def test_a_repeat_has_the_same_answer(fraudsite, champion):
    payload = seed_payload(transaction_id="order-1", event_time=timezone.now() - timedelta(minutes=1))
    assert fraudsite.predict(payload) == fraudsite.predict(payload)
    assert Transaction.objects.count() == 1


def test_a_lost_answer_is_asked_for_again_and_the_transaction_is_stored_once(site, key, champion):
    with losing_the_first_answer(site) as address, Fraudsite(address, key, patience=QUICK) as fraudsite:
        answer = fraudsite.predict(seed_payload())
    assert isinstance(answer, Prediction)
    assert Transaction.objects.count() == 1


def test_it_explains_a_score(fraudsite, champion):
    answer = fraudsite.predict(fraudulent_payload())
    explanation = fraudsite.explanation(answer.id)
    assert explanation.fraud_score == answer.fraud_score
    assert explanation.contributions[0].feature == answer.reasons[0].feature


def test_it_stores_a_transaction_now_and_has_the_score_later(fraudsite, champion):
    pending = fraudsite.predict_later(seed_payload())
    assert isinstance(pending, Pending)
    give_up = time.monotonic() + PROCESS_START_S
    while isinstance(found := fraudsite.prediction(pending.id), Pending) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert isinstance(found, Prediction)


def test_it_scores_any_number_and_gives_the_results_in_order(fraudsite, champion):
    rows = [seed_payload(transaction_id=f"row-{number}") for number in range(5)]
    rows[3]["V1"] = "a lot"
    results = list(fraudsite.predict_many(rows, rows=2))
    assert [result.status for result in results] == [200, 200, 200, 400, 200]
    assert [result.prediction.transaction_id for result in results if result.prediction] == [
        *(f"row-{number}" for number in (0, 1, 2, 4)),
    ]
    assert results[3].problem.errors[0].pointer == "/V1"


def test_a_list_that_the_server_finds_too_long_is_halved(fraudsite, champion):
    rows = [seed_payload() for _ in range(settings.BATCH_LIMIT + 1)]
    results = list(fraudsite.predict_many(rows, rows=len(rows)))
    assert {result.status for result in results} == {200}
    assert Transaction.objects.count() == len(rows)


def test_rows_that_the_server_had_time_for_are_not_lost_when_the_others_fail():
    problem = PROBLEM | {"status": 503}
    some: Any = 200, {}, {"results": [{"status": 503, "problem": problem}, {"status": 409, "problem": problem}]}
    with answering(some, refusal(503, Retry_After="60")) as (address, asked), Fraudsite(address, "key") as fraudsite:
        results = list(fraudsite.predict_many([{}, {}], patience=QUICK))
    assert [result.status for result in results] == [503, 409]
    assert [len(body["transactions"]) for _, body in asked] == [2, 1]


@pytest.mark.parametrize("given", [{"amount": 12.5}, "amount", [["amount", 12.5]]])
def test_what_is_no_list_of_transactions_or_labels_is_told_before_anything_is_sent(given: Any) -> None:
    with Fraudsite("http://127.0.0.1:1", "key") as fraudsite:
        for send in (fraudsite.predict_many, fraudsite.label_many):
            with pytest.raises(TypeError, match=r"Give values by name, such as .* and not a (str|list)"):
                list(send(given))
        one: Any = [given]
        with pytest.raises(TypeError, match="not a list"):
            fraudsite.predict(one)


def scored(*statuses: int) -> Any:
    problem = PROBLEM | {"status": 409}
    return 200, {}, {"results": [{"status": status, "problem": problem} for status in statuses]}


def test_the_results_of_one_half_of_a_list_are_not_lost_when_the_other_half_fails():
    calls = refusal(413), scored(409, 409), refusal(401)
    with answering(*calls) as (address, asked), Fraudsite(address, "key") as fraudsite:
        results = fraudsite.predict_many([{}] * 4, patience=QUICK)
        assert [next(results).status, next(results).status] == [409, 409]
        with pytest.raises(NotAuthenticated):
            next(results)
    assert [len(body["transactions"]) for _, body in asked] == [4, 2, 2]


def test_halves_come_in_order_for_asyncio_too():
    calls = refusal(413), refusal(413), scored(401), scored(402), scored(403, 404)

    async def ask(address: str) -> list[int]:
        async with AsyncFraudsite(address, "key") as fraudsite:
            return [result.status async for result in fraudsite.predict_many([{}] * 4, patience=QUICK)]

    with answering(*calls) as (address, asked):
        assert asyncio.run(ask(address)) == [401, 402, 403, 404]
    assert [len(body["transactions"]) for _, body in asked] == [4, 2, 1, 1, 2]


@pytest.mark.parametrize("rows", [0, -1])
def test_lists_in_calls_of_no_rows_are_refused_and_not_dropped(rows):
    with Fraudsite("http://127.0.0.1:1", "key") as fraudsite:
        with pytest.raises(ValueError, match="rows must be 1 or more"):
            list(fraudsite.predict_many([seed_payload()], rows=rows))
        with pytest.raises(ValueError, match="rows must be 1 or more"):
            list(fraudsite.label_many([{"id": "x"}], rows=rows))


@pytest.mark.parametrize("call", ["prediction", "explanation", "file", "delete_file", "webhook", "remove_webhook"])
def test_an_empty_id_is_refused_as_its_address_would_be_that_of_all(call):
    with Fraudsite("http://127.0.0.1:1", "key") as fraudsite, pytest.raises(ValueError, match="empty"):
        getattr(fraudsite, call)("")


def test_values_that_python_has_and_json_has_not_are_sent_as_what_they_mean():
    with answering(refusal(400)) as (address, asked), Fraudsite(address, "key") as fraudsite:
        values = {"amount": Decimal("12.30"), "birth_date": date(1985, 4, 12), "transaction_id": UUID(int=1)}
        with pytest.raises(InvalidRequest):
            fraudsite.predict(values)
        with pytest.raises(InvalidRequest):
            fraudsite.label(id=UUID(int=2), amount=Decimal("1.5"))
    sent, label = (body for _, body in asked)
    told = {"amount": 12.3, "birth_date": "1985-04-12", "transaction_id": "00000000-0000-0000-0000-000000000001"}
    assert sent == told | {"deadline_ms": sent["deadline_ms"]}
    assert label == {"id": "00000000-0000-0000-0000-000000000002", "amount": 1.5}


def test_it_labels_and_lists_what_it_sent(fraudsite, champion):
    answer = fraudsite.predict(seed_payload(transaction_id="order-1"))
    receipt = fraudsite.label(transaction_id="order-1", kind="fraud", event_time=timezone.now(), reference="case-1")
    assert (receipt.status, receipt.id) == ("stored", answer.id)
    again, unknown = fraudsite.label_many(
        [
            {"id": answer.id, "kind": "legitimate", "event_time": timezone.now()},
            {"id": answer.id, "kind": "a surprise", "event_time": timezone.now()},
        ]
    )
    assert (again.status, unknown.status) == (201, 400)
    assert Label.objects.count() == 2
    assert [row["kind"] for row in fraudsite.labels()] == ["legitimate", "fraud"]


def test_a_filter_may_have_several_values(fraudsite):
    assert list(fraudsite.transactions(decision=["approve", "block"], state=("scored",))) == []


def test_it_reads_listings_page_by_page(fraudsite, champion):
    for number in range(5):
        fraudsite.predict(seed_payload(transaction_id=f"row-{number}"))
    rows = list(fraudsite.transactions(limit=2, fields=["transaction_id"]))
    assert [row["transaction_id"] for row in rows] == [f"row-{number}" for number in (4, 3, 2, 1, 0)]
    assert len(list(fraudsite.predictions(limit=2, decision="block"))) == 0
    assert list(fraudsite.reviews()) == []


def test_many_calls_wait_at_the_same_time(site, key, champion):
    async def work():
        async with AsyncFraudsite(site, key) as fraudsite:
            assert await fraudsite.is_ready()
            answers = await asyncio.gather(*(fraudsite.predict(seed_payload()) for _ in range(20)))
            results = [result async for result in fraudsite.predict_many([seed_payload()] * 3, rows=2)]
            listed = [row async for row in fraudsite.transactions(limit=10)]
            return answers, results, listed

    answers, results, listed = asyncio.run(work())
    assert len({answer.id for answer in answers}) == 20
    assert [result.status for result in results] == [200] * 3
    assert len(listed) == 23


def test_a_refusal_names_the_field(fraudsite):
    with pytest.raises(InvalidRequest, match="/V1: ") as caught:
        fraudsite.predict(seed_payload(V1="a lot"))
    assert [error.code for error in caught.value.problem.errors] == ["not_a_number"]


def test_each_refusal_has_a_class(site, fraudsite, champion):
    fraudsite.predict(seed_payload(transaction_id="order-1"))
    with pytest.raises(Conflict):
        fraudsite.predict(seed_payload(transaction_id="order-1", Amount=9.0))
    with pytest.raises(NotFound):
        fraudsite.prediction("01a225d6-afd5-7298-bc8d-57d510138869")
    with Fraudsite(site, "fs_unknown") as stranger, pytest.raises(NotAuthenticated):
        stranger.predict(seed_payload())


def test_a_schema_without_a_champion_is_not_asked_for_again():
    problem = PROBLEM | {"status": 503, "type": "/problems/schema-without-a-champion"}
    with answering((503, {}, problem)) as (address, asked), pytest.raises(Unavailable):
        Fraudsite(address, "key").predict({})
    assert len(asked) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_it_comes_again_when_the_server_asks_for_it(status):
    done: tuple = 200, {}, {"status": "stored", "id": None, "until": None}
    with answering(refusal(status, Retry_After="1"), done) as (address, asked):
        receipt = Fraudsite(address, "key").label(id="1", kind="fraud", event_time="2026-01-31T12:00:00Z")
    assert receipt.status == "stored"
    (first, body), (second, same_body) = asked
    assert second - first >= 1
    assert body == same_body


def test_pauses_grow_at_random_where_the_server_asks_for_none():
    patience = Patience(deadline_s=20, attempts=6, first_pause_s=0.1, longest_pause_s=0.4)
    with answering(None) as (address, asked), pytest.raises(NotReached):
        Fraudsite(address, "key", patience=patience).predict({})
    gaps = [after - before for (before, _), (after, _) in pairwise(asked)]
    assert len(gaps) == 5
    assert all(gap < bound + 1 for gap, bound in zip(gaps, (0.1, 0.2, 0.4, 0.4, 0.4), strict=True))
    assert len(set(gaps)) == 5


def test_no_call_outlives_its_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(NotReached):
            Fraudsite(address, "key", patience=Patience(deadline_s=0.5)).predict({})
    assert 0.4 < time.monotonic() - began < 3


def test_the_server_is_told_how_long_the_caller_waits():
    with answering(refusal(500)) as (address, asked), pytest.raises(fraudsite_client.Refused):
        Fraudsite(address, "key", patience=Patience(deadline_s=2, timeout_s=1)).predict({})
    assert 900 < asked[0][1]["deadline_ms"] <= 1000


def test_a_wait_that_goes_beyond_the_deadline_is_told_at_once():
    with answering(refusal(429, Retry_After="60")) as (address, asked), pytest.raises(TooManyRequests) as caught:
        Fraudsite(address, "key").predict({})
    assert caught.value.retry_after_s == 60
    assert len(asked) == 1


@pytest.mark.parametrize("body", [b"<html>502</html>", b"", b"\xff"])
def test_a_page_of_a_proxy_is_no_answer(body):
    with answering((200, {}, body)) as (address, _), pytest.raises(NotUnderstood):
        Fraudsite(address, "key").predict({})


def test_times_without_a_zone_are_refused_before_anything_is_sent():
    with Fraudsite("http://127.0.0.1:1", "key") as fraudsite, pytest.raises(ValueError, match="time zone"):
        fraudsite.predict(seed_payload(event_time=timezone.now().replace(tzinfo=None)))


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "clé"])
def test_a_key_that_no_header_can_have_is_refused(key):
    with pytest.raises(ValueError, match="API key"):
        Fraudsite("http://127.0.0.1:1", key)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "//localhost", "/api"])
def test_an_address_that_nobody_can_call_is_refused(url):
    with pytest.raises(ValueError, match="http://"):
        Fraudsite(url, "key")


def test_key_and_address_are_taken_from_the_environment(site, key, champion, monkeypatch):
    monkeypatch.setenv("FRAUDSITE_URL", site)
    monkeypatch.setenv("FRAUDSITE_API_KEY", key)
    with Fraudsite() as fraudsite:
        assert fraudsite.is_ready()


def test_answers_of_a_later_release_are_understood():
    answer = {"status": "postponed", "id": None, "until": None, "new": 1}
    with answering((200, {}, answer)) as (address, _):
        assert Fraudsite(address, "key").label(id="1", kind="fraud").status == "postponed"


def test_it_needs_neither_django_nor_what_trains():
    program = (
        "import sys, fraudsite_client; "
        "print(*{'django', 'numpy', 'celery', 'tensorflow', 'scoring'}.intersection(sys.modules))"
    )
    environment = {"PYTHONPATH": str(Path(fraudsite_client.__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True)
    assert ended.stdout.strip() == ""


def test_its_models_are_those_of_the_openapi_document(tmp_path, db):
    document = tmp_path / "document.json"
    call_command("spectacular", format="openapi-json", file=str(document))
    maker = settings.BASE_DIR / "clients" / "python" / "make_models.py"
    with document.open() as given:
        made = subprocess.run([sys.executable, str(maker)], stdin=given, capture_output=True, check=True, text=True)
    assert made.stdout == MODELS.read_text(), f"manage.py spectacular … | python {maker.name} > {MODELS.name}"


def test_the_example_of_its_page_works(site, key, champion, monkeypatch, capsys):
    page = (settings.BASE_DIR / "clients" / "python" / "README.md").read_text()
    example = page.split("```python\n")[1].split("```")[0]
    monkeypatch.setenv("FRAUDSITE_URL", site)
    monkeypatch.setenv("FRAUDSITE_API_KEY", key)
    exec(example, {"transaction": fraudulent_payload()})  # noqa: S102
    assert capsys.readouterr().out.startswith("block 0.")


def test_it_is_a_package_of_its_own(tmp_path):
    source = str(settings.BASE_DIR / "clients" / "python")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), source]
    subprocess.run(command, check=True)
    [wheel] = tmp_path.glob("fraudsite_client-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"fraudsite_client/models.py", "fraudsite_client/py.typed"} <= set(names)
