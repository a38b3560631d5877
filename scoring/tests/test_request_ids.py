"""A request's id is on every log line of the web and of the worker that handled it, as the log is really written."""

import io
import json
import logging
import time
from contextvars import Context

import msgspec
import pytest
from django.conf import settings as django_settings
from kombu.exceptions import OperationalError

from fraudsite.testing import PROCESS_START_S, api_of, await_follower, seed_payload, submission
from scoring import tasks
from scoring.api import views as api
from scoring.messages import replies, request_ids, sending
from scoring.models import Pending
from scoring.worker import batches, predictor
from scoring.worker.predictor import Predictor
from training.models import ModelVersion, Stage

LIST = "/api/v1/predict/batch"


@pytest.fixture
def log(monkeypatch):
    """What the product's own handler writes."""
    written = io.StringIO()
    [handler] = [one for one in logging.getLogger().handlers if one.name == "console"]
    monkeypatch.setattr(handler, "stream", written)
    return written


def lines(log, *words):
    return [line for line in log.getvalue().splitlines() if all(word in line for word in words)]


def post(http, body, request_id, path="/predict", **headers):
    headers |= {"X-Request-ID": request_id}
    return http.post(path, data=json.dumps(body), content_type="application/json", headers=headers)


def of_request(client, request_id, **changes):
    return msgspec.structs.replace(submission(client.pk, seed_payload(**changes)), request_id=request_id)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/predict", LIST])
def test_a_fault_in_a_call_is_logged_with_its_id(acme, log, monkeypatch, path):
    def fail(*_, **__):
        raise RuntimeError("out of order")

    monkeypatch.setattr(api, "read_object", fail)
    http = api_of(acme)
    http.raise_request_exception = False
    assert post(http, {}, "call-1", path).status_code == 500
    assert lines(log, "[call-1]", path)


@pytest.mark.django_db
def test_a_fault_of_a_page_is_logged_with_the_id_that_the_answer_has(client, log):
    response = client.get("/admin/", headers={"Host": "evil.example"})
    assert lines(log, f"[{response['X-Request-ID']}]", "evil.example")


@pytest.mark.django_db
def test_a_batch_that_cannot_be_sent_is_logged_with_the_ids_of_its_requests(redis_server, acme_api, log, monkeypatch):
    def fail(*_, **__):
        raise OperationalError("away")

    monkeypatch.setattr(sending.Sender, "send", fail)
    assert post(acme_api, seed_payload(), "call-2").status_code == 503
    assert lines(log, "[call-2]", "could not be sent")


@pytest.mark.django_db
def test_what_is_scored_later_keeps_its_id(acme_api, log, monkeypatch):
    def fail(*_, **__):
        raise OSError("away")

    monkeypatch.setattr(predictor, "_loaded", {})
    monkeypatch.setattr(tasks.score_pending, "apply_async", fail)
    accepted = post(acme_api, seed_payload(), "call-3", Prefer="respond-async")
    give_up = time.monotonic() + PROCESS_START_S
    while not lines(log, "[call-3]", "reconciler"):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert Pending.objects.get().request_id == "call-3"
    Context().run(tasks.score_pending, [accepted.json()["id"]])
    assert lines(log, "[call-3]", "were not scored")


@pytest.mark.django_db
def test_a_line_about_a_batch_has_the_ids_of_all_its_requests_once(redis_server, acme, log, monkeypatch):
    monkeypatch.setattr(predictor, "_loaded", {})
    batch = [of_request(acme, name) for name in ("call-4", "call-5", "call-4", "")]
    batch.append(of_request(acme, "call-6", schema="ulb"))
    Context().run(tasks.score_batch, "unread", "batch-1", msgspec.msgpack.encode(batch))
    replies.connection().delete("unread")
    [line] = lines(log, "were not scored")
    assert "[call-4 call-5 call-6]" in line


@pytest.mark.django_db
def test_a_line_about_one_transaction_has_the_id_of_its_request_alone(champion, acme, log, monkeypatch):
    model = Predictor(champion)
    score = model.scorer.score

    def fail_on_large(features):
        if features.max() > 190:
            raise ValueError("too large")
        return score(features)

    monkeypatch.setattr(model.scorer, "score", fail_on_large)
    batch = [of_request(acme, "call-7", V1=1.0, Time=100.0), of_request(acme, "call-8", V1=195.0, Time=100.0)]
    batches.score_batch(submissions=batch, predictor=model, started_at=time.time())
    [line] = lines(log, "cannot score a transaction")
    assert "[call-8]" in line


def test_the_workers_log_has_the_id_of_every_call(worker, champion, acme_api):
    await_follower(worker, "ulb", champion.pk)
    ModelVersion.objects.filter(pk=champion.pk).update(stage=Stage.RETIRED)
    await_follower(worker, "ulb", None)
    post(acme_api, seed_payload(), "call-9")
    post(acme_api, {"transactions": [seed_payload()] * 2}, "call-10", LIST)
    post(acme_api, seed_payload(), "call-11", Prefer="respond-async")
    give_up = time.monotonic() + PROCESS_START_S
    while not all(f"[call-{n}]" in (django_settings.VAR_DIR / "worker.log").read_text() for n in (9, 10, 11)):
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_a_task_works_for_the_request_that_sent_it(redis_server):
    with request_ids.working_for(["call-12"]):
        tasks.score_pending.apply_async(([],), queue="unread")
    message = json.loads(str(replies.connection().lpop("unread"), "utf-8"))  # type: ignore[arg-type]
    assert message["headers"]["request_ids"] == ["call-12"]


def test_a_line_that_is_of_no_request_says_so(log):
    request_ids.begin(())
    logging.getLogger("scoring").warning("nobody asked")
    assert lines(log, "[-] nobody asked")
