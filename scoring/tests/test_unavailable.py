"""What a client hears when something behind the endpoint is away: in time, in one form, and with nothing half-done."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from fraudsite.testing import PROCESS_START_S, await_follower, seed_payload, suspended
from scoring import gateway
from scoring.api import authentication
from scoring.messages import replies
from scoring.models import Transaction
from training.models import Stage

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def deadline(settings):
    settings.PREDICT_DEADLINE_MS = 1_000


def predict(api, **changes):
    try:
        return api.post("/predict", data=json.dumps(seed_payload(**changes)), content_type="application/json")
    finally:
        connections.close_all()


def refused(response, status):
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    assert int(response["Retry-After"]) >= 1
    return response.json()


def test_it_answers_503_in_time_while_the_worker_hangs_and_scores_again_afterwards(worker, acme_api, settings):
    with suspended(worker.pid):
        began = time.monotonic()
        refused(predict(acme_api, transaction_id="order-1"), 503)
        assert time.monotonic() - began < settings.PREDICT_DEADLINE_MS / 1000 + 0.5
    # What nobody waits for any more is dropped, not scored late.
    assert predict(acme_api, transaction_id="order-2").status_code == 200
    assert [row.transaction_id for row in Transaction.objects.all()] == ["order-2"]
    assert predict(acme_api, transaction_id="order-1").status_code == 200


def test_it_answers_503_in_time_while_redis_hangs_and_scores_again_afterwards(worker, acme_api, settings):
    with suspended(replies.connection().info("server")["process_id"]):
        began = time.monotonic()
        refused(predict(acme_api), 503)
        assert time.monotonic() - began < settings.PREDICT_DEADLINE_MS / 1000 + 0.5
    give_up = time.monotonic() + PROCESS_START_S
    while predict(acme_api, transaction_id="order-1").status_code != 200:
        assert time.monotonic() < give_up
        time.sleep(0.5)
    assert Transaction.objects.filter(transaction_id="order-1").count() == 1


def test_it_answers_503_while_there_is_no_champion_and_says_so(worker, champion, acme_api, settings):
    await_follower(worker, "ulb", champion.pk)
    champion.stage = Stage.RETIRED
    champion.save()
    await_follower(worker, "ulb", None)
    response = predict(acme_api, transaction_id="order-1")
    assert response.status_code == 503
    assert response["Content-Type"] == "application/problem+json"
    assert "Retry-After" not in response
    problem = response.json()
    assert problem["type"] == "/problems/schema-without-a-champion"
    assert "champion" in problem["detail"]
    assert "manage.py" not in response.content.decode()
    assert "manage.py train" in (settings.VAR_DIR / "worker.log").read_text()
    assert not Transaction.objects.exists()
    champion.stage = Stage.CHAMPION
    champion.save()
    await_follower(worker, "ulb", champion.pk)
    assert predict(acme_api, transaction_id="order-1").status_code == 200


def test_a_key_that_grows_too_old_while_a_call_is_let_in_is_good_for_that_call(acme_api, monkeypatch):
    class Forgetful(authentication.KeyRing):
        def recall(self, digest):
            known = super().recall(digest)
            self._read_at = -float("inf")
            return known

    monkeypatch.setattr(authentication, "ring", Forgetful())
    authentication.ring._read()
    assert acme_api.post("/predict", data="{}", content_type="application/json").status_code == 400


def test_it_answers_429_when_more_requests_wait_than_it_holds(worker, acme_api, settings, monkeypatch):
    narrow = gateway.Gateway("realtime", line_limit=1, batch_limit=1, batches_under_way=1, patience_ms=1000)
    monkeypatch.setattr(gateway, "realtime", lambda: narrow)
    with suspended(worker.pid), ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: predict(acme_api), range(8)))
    narrow.close()
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {429, 503}
    refused(responses[statuses.index(429)], 429)


@pytest.mark.parametrize("broken", ["worker", "broker"])
def test_it_is_not_ready_while_a_part_hangs_and_names_it(worker, client, settings, broken):
    settings.READY_TIMEOUT_MS = 500
    process_id = worker.pid if broken == "worker" else replies.connection().info("server")["process_id"]
    with suspended(process_id):
        response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["database"] == "ok"
    assert response.json()["checks"][broken] != "ok"
