"""A request and its trace are found again: in the answer, in the logs, in the row, and in the admin's search."""

import io
import json
import logging
import time
from contextvars import Context
from uuid import UUID

import httpx
import msgspec
import pytest
from django.urls import reverse

from fraudsite.testing import seed_payload, submission
from scoring import tasks
from scoring.clients import keys
from scoring.messages import traces
from scoring.models import Transaction
from scoring.worker import batches, predictor
from scoring.worker.predictor import Predictor

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
MALFORMED = [
    *("", "x", TRACEPARENT.upper(), f"{TRACEPARENT}-01", f"ff{TRACEPARENT[2:]}", f" {TRACEPARENT} ", TRACEPARENT[:-1]),
    *(f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-{TRACE}-{'0' * 16}-01", f"{TRACEPARENT},{TRACEPARENT}", "é" * 55),
    *("0" * 10_000, TRACEPARENT.replace("-", "_")),
]


def post(http, path="/predict", body=None, **headers):
    """Store a transaction to be scored later, which needs no worker."""
    headers = {"Prefer": "respond-async"} | headers
    return http.post(path, data=json.dumps(body or seed_payload()), content_type="application/json", headers=headers)


def searched(client, user, term):
    client.force_login(user)
    response = client.get(reverse("admin:scoring_transaction_changelist"), {"q": term})
    return {row.pk for row in response.context["cl"].queryset}


@pytest.fixture
def unloaded(monkeypatch):
    """No model is loaded, and nothing is sent to a broker."""
    monkeypatch.setattr(predictor, "_loaded", {})
    monkeypatch.setattr(tasks.score_pending, "apply_async", lambda *_, **__: None)


@pytest.mark.django_db
@pytest.mark.usefixtures("unloaded")
class TestOneCall:
    def test_without_an_id_of_its_own_its_transaction_has_that_of_the_answer(self, acme_api, client, ada):
        answer = post(acme_api)
        row = Transaction.objects.get()
        assert answer["X-Request-ID"] == str(row.pk) == answer.json()["id"]
        assert (row.request_id, row.trace_id) == (None, None)
        assert searched(client, ada, answer["X-Request-ID"]) == {row.pk}

    def test_with_an_id_of_its_own_it_is_found_by_that(self, acme_api, client, ada):
        answer = post(acme_api, **{"X-Request-ID": "Checkout-7.1"})
        row = Transaction.objects.get()
        assert (row.request_id, answer["X-Request-ID"]) == ("Checkout-7.1", "Checkout-7.1")
        assert str(row.pk) != "Checkout-7.1"
        assert searched(client, ada, " Checkout-7.1 ") == {row.pk}

    def test_a_caller_cannot_choose_the_id_of_a_transaction(self, acme_api):
        wanted = "019a5f2b-7c3d-7e4f-8a9b-c0d1e2f3a4b5"
        assert post(acme_api, **{"X-Request-ID": wanted}).json()["id"] != wanted
        assert Transaction.objects.get().request_id == wanted

    def test_it_is_found_by_its_trace(self, acme_api, client, ada):
        answer = post(acme_api, traceparent=TRACEPARENT)
        row = Transaction.objects.get()
        assert row.trace_id == UUID(TRACE)
        version, trace, span, flags = answer["traceresponse"].split("-")
        assert (version, trace, len(span), flags) == ("00", TRACE, 16, "01")
        for term in (TRACE, TRACEPARENT, str(UUID(TRACE))):
            assert searched(client, ada, term) == {row.pk}
        client.force_login(ada)
        assert TRACE in client.get(reverse("admin:scoring_transaction_change", args=[row.pk])).content.decode()
        assert acme_api.get(f"/api/v1/transactions/{row.pk}").json()["trace_id"] == TRACE

    @pytest.mark.parametrize("header", MALFORMED)
    def test_a_malformed_traceparent_is_ignored(self, acme_api, header):
        answer = post(acme_api, traceparent=header.encode().decode("latin-1"))
        assert answer.status_code == 202
        assert "traceresponse" not in answer
        assert Transaction.objects.get().trace_id is None


def test_a_later_version_of_traceparent_is_read_as_far_as_it_is_known():
    assert traces.read(f"cc-{TRACE}-b7ad6b7169203331-09-what-the-future-brings") == (TRACE, "b7ad6b7169203331", "01")


@pytest.mark.django_db
def test_every_answer_of_the_api_and_of_pages_tells_its_trace(client, acme_api):
    for http, address in ((acme_api, "/api/v1/transactions"), (client, "/problems/"), (client, "/healthz")):
        assert TRACE in http.get(address, headers={"traceparent": TRACEPARENT})["traceresponse"]


@pytest.mark.django_db
def test_all_transactions_of_a_list_are_found_by_its_id(champion, acme, client, ada):
    batch = [
        msgspec.structs.replace(submission(acme.pk, seed_payload(V1=0.1 * n)), request_id="list-1", trace_id=TRACE)
        for n in range(3)
    ]
    batch.append(submission(acme.pk, seed_payload()))
    batches.score_batch(submissions=batch, predictor=Predictor(champion), started_at=time.time())
    expected = {UUID(one.id) for one in batch[:3]}
    assert searched(client, ada, "list-1") == searched(client, ada, TRACE) == expected
    assert Transaction.objects.get(pk=batch[3].id).request_id is None


@pytest.mark.django_db
def test_an_id_that_is_that_of_the_transaction_is_not_stored_twice(champion, acme):
    one = submission(acme.pk, seed_payload())
    one = msgspec.structs.replace(one, request_id=one.id)
    batches.score_batch(submissions=[one], predictor=Predictor(champion), started_at=time.time())
    assert Transaction.objects.get(pk=one.id).request_id is None


@pytest.mark.django_db
@pytest.mark.usefixtures("unloaded")
def test_the_logs_of_web_and_worker_have_the_trace_beside_the_id(acme_api, monkeypatch):
    written = io.StringIO()
    [handler] = [one for one in logging.getLogger().handlers if one.name == "console"]
    monkeypatch.setattr(handler, "stream", written)
    key = post(acme_api, **{"X-Request-ID": "call-1", "traceparent": TRACEPARENT}).json()["id"]
    Context().run(tasks.score_pending, [key])
    assert f"[call-1 {TRACE}]" in written.getvalue()


def test_ordinary_calls_keep_their_traces_apart(site, acme):
    _, key = keys.create(client=acme)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with httpx.Client(base_url=site, headers=headers, timeout=30) as http:
        for number in range(1, 6):
            trace = f"{number:032x}"
            answer = http.post(
                "/predict", json=seed_payload(), headers={"traceparent": f"00-{trace}-b7ad6b7169203331-00"}
            )
            assert answer.headers["traceresponse"].split("-")[1] == trace
            assert Transaction.objects.get(pk=answer.json()["id"]).trace_id == UUID(trace)
            assert answer.headers["X-Request-ID"] == answer.json()["id"]
        assert "traceresponse" not in http.post("/predict", json=seed_payload()).headers
