"""What a client is told of the limits of its key, and of what is left."""

import json
import re
import time

import pytest
from django.test import Client as HttpClient

from fraudsite.testing import PROCESS_START_S, seed_payload
from scoring.clients import keys
from scoring.files import reading
from scoring.files.models import BatchFile
from scoring.tests.files import CSV, csv_of, orders

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("keys_of_the_test", "redis_server")]

READING = f"/api/v1/predictions/{'0' * 8}-0000-0000-0000-{'0' * 12}"


@pytest.fixture(autouse=True)
def _redis_is_found(acme):
    """An earlier test may have taken its Redis away, and then nothing is counted until this one has answered."""
    http, give_up = with_key(acme, name="probe"), time.monotonic() + PROCESS_START_S
    while "RateLimit" not in http.get(READING):
        assert time.monotonic() < give_up
        time.sleep(0.05)


def with_key(client, **wanted):
    _, key = keys.create(client=client, **wanted)
    return HttpClient(headers={"Authorization": f"Bearer {key}"})


def post(api, path, body):
    return api.post(path, json.dumps(body), content_type="application/json")


def left(response):
    """What each policy says of the RateLimit field: what is left, and in how many seconds it is whole again."""
    items = re.findall(r'"([a-z]+)";r=(\d+);t=(\d+)(?:, |$)', response["RateLimit"])
    return {name: (int(number), int(seconds)) for name, number, seconds in items}


def test_answers_tell_the_policy_and_what_is_left(acme):
    api = with_key(acme, calls_per_s=1, calls_burst=60)
    first, second = api.get(READING), api.get(READING)
    assert first["RateLimit-Policy"] == '"read";q=60;w=60'
    (before, _), (after, whole_s) = left(first)["read"], left(second)["read"]
    assert before in (59, 60)
    assert after <= before
    assert 1 <= whole_s <= 3


def test_a_key_without_limits_is_told_nothing(acme):
    response = with_key(acme, calls_per_s=0).get(READING)
    assert "RateLimit" not in response
    assert "RateLimit-Policy" not in response


def test_too_many_calls_are_refused_until_the_time_that_is_told(acme):
    api = with_key(acme, calls_per_s=1, calls_burst=3)
    refused = next(answer for answer in map(api.get, [READING] * 100) if answer.status_code == 429)
    problem = refused.json()
    assert problem["type"] == "/problems/rate-limit-exceeded"
    assert problem["status"] == 429
    assert "1 calls per second" in problem["detail"]
    assert "administrator" in problem["detail"]
    assert refused["RateLimit-Policy"] == '"read";q=3;w=3'
    assert left(refused)["read"] == (0, int(refused["Retry-After"]))
    time.sleep(int(refused["Retry-After"]))
    assert api.get(READING).status_code == 404, "let in again"


def test_each_scope_has_a_limit_of_its_own(acme):
    api = with_key(acme, calls_per_s=1, calls_burst=1)
    assert [api.get(READING).status_code for _ in range(5)].count(404) <= 2
    assert post(api, "/api/v1/predict", {}).status_code == 400


def test_rows_are_counted_of_lists(acme):
    api = with_key(acme, rows_per_s=1, rows_burst=100)
    labels = [{"transaction_id": f"o-{n}", "kind": "fraud", "event_time": "2026-01-01T00:00:00Z"} for n in range(80)]
    first = post(api, "/api/v1/labels/batch", {"labels": labels})
    assert first.status_code == 200
    assert 20 <= left(first)["labels"][0] < 80
    second = post(api, "/api/v1/labels/batch", {"labels": labels})
    assert second.status_code == 429
    assert "rows per second" in second.json()["detail"]
    assert 1 <= int(second["Retry-After"]) <= 65, "the 60 rows that may be missing, and a margin"
    assert post(api, "/api/v1/labels", labels[0]).status_code == 200, "one of the rows that are left; it was known"


def test_a_list_longer_than_the_bucket_is_taken_after_a_rest_and_then_waited_for(acme):
    api = with_key(acme, rows_per_s=1, rows_burst=2)
    labels = [{"transaction_id": f"o-{n}", "kind": "fraud", "event_time": "2026-01-01T00:00:00Z"} for n in range(50)]
    assert post(api, "/api/v1/labels/batch", {"labels": labels}).status_code == 200
    refused = post(api, "/api/v1/labels/batch", {"labels": labels[:2]})
    assert refused.status_code == 429
    assert 45 <= int(refused["Retry-After"]) <= 51


def test_a_days_transactions_are_counted_over_single_calls_and_lists(acme):
    api = with_key(acme, transactions_per_day=5, calls_per_s=0, rows_per_s=0)
    bad = {"transactions": [{"Surprise": 1}] * 3}
    first = post(api, "/api/v1/predict/batch", bad)
    assert first.status_code == 200
    assert first["RateLimit-Policy"] == '"day";q=5;w=86400'
    assert left(first)["day"][0] == 2
    refused = post(api, "/api/v1/predict/batch", bad)
    problem = refused.json()
    assert refused.status_code == 429
    assert problem["type"] == "/problems/daily-quota-exhausted"
    assert "5 transactions a day" in problem["detail"]
    assert 1 <= int(refused["Retry-After"]) <= 86_400
    assert "2 of them are left" in problem["detail"]
    assert post(api, "/api/v1/predict/batch", bad).json()["detail"] == problem["detail"], (
        "what is refused costs nothing"
    )
    assert [post(api, "/api/v1/predict", {}).status_code for _ in range(3)] == [400, 400, 429]
    assert api.get(READING).status_code == 404, "reading is no transaction"


def test_a_call_that_is_let_through_is_counted_once_whatever_is_wrong_with_it(acme):
    api = with_key(acme, calls_per_s=0, transactions_per_day=100)
    assert left(post(api, "/api/v1/predict", {}))["day"][0] == 99
    assert left(post(api, "/api/v1/predict", seed_payload(Amount=-1)))["day"][0] == 98
    assert left(post(api, "/api/v1/predict/batch", []))["day"][0] == 97


def test_a_call_that_the_key_does_not_allow_is_not_counted(acme):
    api = with_key(acme, scopes=["predict"], calls_per_s=1, calls_burst=1)
    assert {api.get(READING).status_code for _ in range(5)} == {403}


def test_the_rows_of_a_file_count_among_a_days_transactions_once_it_was_read(acme, work):
    api = with_key(acme, transactions_per_day=20, calls_per_s=0, rows_per_s=1, rows_burst=100)

    def send(count):
        path = "/api/v1/batches?mode=score"
        return api.get(api.generic("POST", path, csv_of(orders(count)), content_type=CSV)["Location"]).json()["id"]

    def told(key):
        work()
        return api.get(f"/api/v1/batches/{key}").json()

    assert told(send(8))["scored"] == 8
    refused = told(send(13))
    assert (refused["state"], refused["rows_done"]) == ("refused", 0)
    assert "13 rows, and of the 20 transactions that the key may have scored in a day, 12 are left" in refused["detail"]
    assert told(send(12))["scored"] == 12
    give_up = time.monotonic() + PROCESS_START_S  # a web process learns of it when it next asks Redis
    while post(api, "/api/v1/predict", {}).status_code != 429:
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_files_that_are_read_at_the_same_time_get_no_more_than_the_quota_together(acme, work, monkeypatch):
    def cut(file, on_progress):
        found = real(file, on_progress)
        if others:  # another worker reads the other file meanwhile
            reading.read(others.pop())
        return found

    api, real = with_key(acme, transactions_per_day=20, calls_per_s=0, rows_per_s=0), reading.cut
    for _ in range(2):
        api.generic("POST", "/api/v1/batches?mode=score", csv_of(orders(12)), content_type=CSV)
    one, *others = BatchFile.objects.all()
    monkeypatch.setattr(reading, "cut", cut)
    reading.read(one)
    work()
    states = BatchFile.objects.order_by("state").values_list("state", "scored")
    assert list(states) == [("done", 12), ("refused", 0)]
