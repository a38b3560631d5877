"""Keys for tests: every outcome can be had, and nothing comes of it."""

import time

import pytest
import uuid_utils
from django.core.management import call_command
from django.test import Client as HttpClient
from django.urls import reverse

from fraudsite.testing import free_port, seed_payload
from scoring.clients import keys
from scoring.models import ApiKey, Prediction, Review, Transaction
from scoring.sandbox.outcomes import AMOUNTS, Outcome
from training.core.schema import load_schema

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("keys_of_the_test", "redis_server")]

DECISIONS = {
    Outcome.APPROVE: "approve",
    Outcome.CHALLENGE: "challenge",
    Outcome.REVIEW: "review",
    Outcome.BLOCK: "block",
    Outcome.DEGRADED: "review",
    Outcome.SLOW: "approve",
}
AMOUNT_OF = {outcome: amount for amount, outcome in AMOUNTS.items()}


def with_key(client, **wanted):
    _, key = keys.create(client=client, is_test=True, **wanted)
    return HttpClient(headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def order():
    """An id of a transaction that no other test has: clients of several tests have the same key in the database."""
    return f"order-{uuid_utils.uuid7()}"


@pytest.fixture
def rehearse(acme):
    http = with_key(acme)
    return lambda body, path="/api/v1/predict", **headers: http.post(path, body, "application/json", headers=headers)


def by_amount(outcome, **changes):
    return seed_payload(Amount=AMOUNT_OF[outcome], **changes)


def by_card(outcome, **changes):
    return {"schema": "handbook", "amount": 50.0, "customer": f"test-{outcome}", "terminal": "t-1"} | changes


@pytest.mark.parametrize("body_of", [by_amount, by_card])
@pytest.mark.parametrize("outcome", DECISIONS)
def test_a_value_chooses_the_answer(rehearse, outcome, body_of):
    answer = rehearse(body_of(outcome, deadline_ms=300)).json()
    assert (answer["decision"], answer["degraded"]) == (
        DECISIONS[outcome],
        "no_worker" if outcome is Outcome.DEGRADED else None,
    )
    assert answer["alert"] == (answer["decision"] in ("review", "block"))


def test_the_table_of_the_docs_is_the_one_that_holds():
    assert {f"{amount:.2f}": str(outcome) for amount, outcome in AMOUNTS.items()} == {
        "1.01": "approve",
        "1.02": "challenge",
        "1.03": "review",
        "1.04": "block",
        "1.05": "degraded",
        "1.06": "refused",
        "1.07": "refused-once",
        "1.08": "slow",
    }


@pytest.mark.parametrize("body_of", [by_amount, by_card])
def test_a_refusal_says_when_to_send_it_again(rehearse, body_of, order):
    for _ in range(2):
        response = rehearse(body_of(Outcome.REFUSED, transaction_id=order))
        assert (response.status_code, int(response["Retry-After"]) > 0) == (503, True)


def test_what_is_refused_once_succeeds_when_it_is_sent_again(rehearse, order):
    body = by_amount(Outcome.REFUSED_ONCE, transaction_id=order)
    assert [rehearse(body).status_code for _ in range(3)] == [503, 200, 200]


def test_a_slow_answer_comes_before_the_deadline(rehearse):
    began = time.monotonic()
    assert rehearse(by_amount(Outcome.SLOW, deadline_ms=500)).status_code == 200
    assert time.monotonic() - began > 0.35


def test_nothing_comes_of_it(rehearse):
    for outcome in (Outcome.BLOCK, Outcome.DEGRADED):
        assert rehearse(by_amount(outcome)).status_code == 200
    assert rehearse({"transactions": [by_card(Outcome.BLOCK)]}, "/api/v1/predict/batch").status_code == 200
    assert not Transaction.objects.exists()
    assert not Prediction.objects.exists()
    assert not Review.objects.exists()


def test_a_repeat_gets_the_same_bytes_and_other_content_a_conflict(rehearse, order):
    first, again = (rehearse(by_amount(Outcome.BLOCK, transaction_id=order)) for _ in range(2))
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")
    assert rehearse(by_amount(Outcome.REVIEW, transaction_id=order)).status_code == 409


def test_an_answer_can_be_read_again_by_its_client_alone(acme, globex):
    mine, theirs = with_key(acme), with_key(globex)
    answer = mine.post("/api/v1/predict", by_amount(Outcome.BLOCK), "application/json")
    address = reverse("prediction", args=[answer.json()["id"]])
    assert mine.get(address).content == answer.content
    assert theirs.get(address).status_code == 404


def test_clients_do_not_share_ids(acme, globex, order):
    for client, outcome in ((acme, Outcome.BLOCK), (globex, Outcome.APPROVE)):
        answer = with_key(client).post("/api/v1/predict", by_amount(outcome, transaction_id=order), "application/json")
        assert answer.json()["decision"] == outcome


def test_an_answer_may_be_fetched_later(rehearse, acme):
    response = rehearse(by_amount(Outcome.BLOCK), Prefer="respond-async")
    assert response.status_code == 202
    assert with_key(acme).get(response["Location"]).json()["decision"] == "block"


def test_each_row_of_a_list_has_its_outcome(rehearse):
    rows = [by_amount(Outcome.BLOCK), by_card(Outcome.REFUSED), seed_payload(V1="a lot"), by_card(Outcome.SLOW)]
    results = rehearse({"transactions": rows}, "/api/v1/predict/batch").json()["results"]
    assert [result["status"] for result in results] == [200, 503, 400, 200]
    assert results[0]["prediction"]["decision"] == "block"


def test_values_are_checked_as_always(rehearse):
    assert rehearse(by_amount(Outcome.BLOCK, V1="a lot")).status_code == 400
    assert rehearse(by_card(Outcome.BLOCK, note="4111 1111 1111 1111")).status_code == 422


def test_values_of_other_keys_choose_nothing(acme_api, worker, champion):
    answer = acme_api.post("/predict", by_amount(Outcome.BLOCK), "application/json").json()
    assert (answer["decision"], answer["model_version"]) == ("approve", champion.pk)


@pytest.mark.parametrize("name", ["transactions", "predictions", "reviews", "labels", "webhooks"])
def test_a_key_for_tests_reads_nothing_else(acme, name):
    response = with_key(acme).get(f"/api/v1/{name}")
    assert response.status_code == 403
    assert "Key for tests" in response.json()["title"]


def test_a_key_for_tests_labels_nothing(acme):
    body = {"transaction_id": "order-1", "kind": "fraud", "event_time": "2026-01-31T12:00:00Z"}
    assert with_key(acme).post("/api/v1/labels", body, "application/json").status_code == 403


def test_a_key_for_tests_is_known_by_its_beginning(acme):
    row, key = keys.create(client=acme, is_test=True)
    assert key.startswith("fs_test_")
    assert key.startswith(row.prefix)
    assert keys.rotate(key=row)[1].startswith("fs_test_")
    assert ApiKey.objects.filter(is_test=True).count() == 2


def test_redis_that_is_away_is_told(rehearse, settings, monkeypatch):
    import redis

    from scoring.messages import replies

    nobody = redis.Redis.from_url(f"redis://127.0.0.1:{free_port()}", **settings.REDIS_TIMEOUTS)
    monkeypatch.setattr(replies, "connection", lambda: nobody)
    response = rehearse(by_amount(Outcome.BLOCK))
    assert (response.status_code, response.json()["title"]) == (503, "Sandbox unavailable")


@pytest.mark.parametrize("amount", [0, 1, 1.011, 101, 1e300, -1, True, None, "1.04"])
def test_other_amounts_are_approved_or_refused(rehearse, amount):
    response = rehearse(seed_payload(Amount=amount))
    assert response.status_code in (200, 400, 422)
    if response.status_code == 200:
        assert response.json()["decision"] == "approve"


def test_no_shipped_schema_forbids_the_amounts():
    for name in ("ulb", "handbook", "payments"):
        schema = load_schema(name)
        [amount] = [field for field in schema.features if field.name == schema.amount]
        assert all(amount.lowest <= value <= amount.highest for value in AMOUNTS)


def test_the_command_makes_a_key_for_tests(capsys):
    call_command("create_api_key", "Shop", test=True)
    assert capsys.readouterr().out.startswith("fs_test_")


def test_whether_a_key_is_for_tests_is_chosen_once(client, otto, acme):
    client.force_login(otto)
    address = reverse("admin:scoring_apikey_add")
    made = client.post(address, {"client": acme.pk, "is_test": "on", "scopes": ["predict"]})
    assert b"fs_test_" in made.content
    row = ApiKey.objects.get(is_test=True)
    client.post(reverse("admin:scoring_apikey_change", args=[row.pk]), {"name": "till", "scopes": ["predict", "batch"]})
    row.refresh_from_db()
    assert (row.is_test, row.scopes) == (True, ["predict", "batch"])
