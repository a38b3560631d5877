"""Calls with the same head as an earlier one, whose head is not checked again: what they promise is the same."""

import json
import re
import time
from datetime import timedelta

import httpx
import pytest
from django.test import RequestFactory
from django.utils import timezone

from fraudsite.testing import PROCESS_START_S, seed_payload, suspended
from scoring.api import authentication, ordinary
from scoring.clients import keys
from scoring.models import ApiKey, Prediction, Transaction

OF_ONE_ANSWER = {"date", "content-length", "x-request-id", "ratelimit"}


@pytest.fixture
def accepted(site, acme):
    """A client whose calls are ordinary by now."""
    _, key = keys.create(client=acme)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with httpx.Client(base_url=site, headers=headers, timeout=30) as http:
        for _ in range(3):  # the first reads the keys, the second is remembered
            assert http.post("/predict", json=seed_payload()).status_code == 200
        yield http


def told(response):
    """What an answer says, but for what is of this answer alone."""
    body = response.json()
    return (
        response.status_code,
        {name: value for name, value in response.headers.items() if name not in OF_ONE_ANSWER},
        {name: value for name, value in body.items() if name in ("title", "detail", "errors", "decision")},
    )


def test_ordinary_calls_are_answered_like_the_first_and_stored(accepted):
    first = accepted.post("/predict", json=seed_payload(), headers={"User-Agent": "another"})
    later = [accepted.post("/predict", json=seed_payload()) for _ in range(3)]
    assert [told(each) for each in later] == [told(first)] * 3
    assert len({each.headers["X-Request-ID"] for each in [first, *later]}) == 4
    assert {str(row.pk) for row in Prediction.objects.all()} > {each.json()["id"] for each in later}


def test_what_is_wrong_with_a_body_is_told_alike_at_every_call(accepted):
    text = json.dumps(seed_payload())
    bodies = [
        json.dumps(seed_payload(Amount=None)),
        json.dumps(seed_payload(Amount=-1.0)),
        json.dumps(seed_payload(Surprise=1)),
        json.dumps(seed_payload(transaction_id="4111111111111111")),
        text.replace('"V1":', '"V2":', 1),
        text.replace('"Amount":', '"Amount": NaN, "Then":'),
        text[:-1],
        f"[{text}]",
        text + " " * 100_000,
    ]
    for body in bodies:
        other = accepted.post("/predict", content=body, headers={"User-Agent": "another"})
        assert other.status_code >= 400
        assert told(accepted.post("/predict", content=body)) == told(other)
    assert Transaction.objects.count() == 3


def test_headers_that_ask_for_something_are_read_at_every_call(accepted):
    asked = accepted.post("/predict", json=seed_payload(), headers={"Prefer": "respond-async"})
    named = accepted.post("/predict", json=seed_payload(), headers={"Idempotency-Key": "order-1"})
    traced = accepted.post("/predict", json=seed_payload(), headers={"X-Request-ID": "call-1"})
    unknown = accepted.post("/predict", json=seed_payload(), headers={"Authorization": "Bearer fs_other"})
    assert [each.status_code for each in (asked, named, traced, unknown)] == [202, 200, 200, 401]
    assert named.json()["transaction_id"] == "order-1"
    assert traced.headers["X-Request-ID"] == "call-1"


def test_a_repeated_id_and_a_worker_that_hangs_are_told_under_the_id_of_the_call(accepted, worker):
    first, repeated = (accepted.post("/predict", json=seed_payload(transaction_id="order-1")) for _ in range(2))
    assert "Idempotent-Replayed" not in first.headers
    assert repeated.headers["Idempotent-Replayed"] == "true"
    assert repeated.content == first.content
    conflict = accepted.post("/predict", json=seed_payload(transaction_id="order-1", Amount=7.0))
    with suspended(worker.pid):
        late = accepted.post("/predict", json=seed_payload(transaction_id="order-2", deadline_ms=200))
    assert (conflict.status_code, late.status_code) == (409, 503)
    assert int(late.headers["Retry-After"]) >= 1
    for refused in (conflict, late):
        assert refused.headers["X-Request-ID"] == refused.json()["request_id"]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"scopes": ["batch", "read"]}, 403, "scope predict"),
        ({"schemas": ["handbook"]}, 403, "schema ulb"),
        ({"networks": ["192.0.2.0/24"]}, 403, "127.0.0.1"),
        ({"expires_at": timezone.now() - timedelta(seconds=1)}, 401, "expired"),
    ],
    ids=["scopes", "schemas", "networks", "expiry"],
)
def test_what_changes_of_a_key_holds_for_ordinary_calls_within_a_second(accepted, acme, change, status, said):
    acme.keys.update(**change)
    give_up = time.monotonic() + PROCESS_START_S
    while accepted.post("/predict", json=seed_payload()).status_code == 200:
        assert time.monotonic() < give_up
    for _ in range(3):
        response = accepted.post("/predict", json=seed_payload())
        assert response.status_code == status
        assert said in response.json()["detail"]


def test_the_limits_of_a_key_hold_for_ordinary_calls_which_are_counted_once(accepted, acme):
    acme.keys.update(calls_per_s=0, transactions_per_day=1_000)
    answers = [accepted.post("/predict", json=seed_payload())]
    give_up = time.monotonic() + PROCESS_START_S
    while "day" not in answers[-1].headers["RateLimit"]:
        assert time.monotonic() < give_up
        answers.append(accepted.post("/predict", json=seed_payload()))
    bodies = [seed_payload(), seed_payload(Amount=-1.0), seed_payload(transaction_id="order-1"), seed_payload()]
    seen = [accepted.post("/predict", json=body).headers["RateLimit"] for body in bodies]
    numbers = [int(re.fullmatch(r'"day";r=(\d+);t=\d+', text)[1]) for text in seen]
    assert numbers == [numbers[0] - number for number in range(4)]
    acme.keys.update(calls_per_s=1, calls_burst=2)
    while (refused := accepted.post("/predict", json=seed_payload())).status_code == 200:
        assert time.monotonic() < give_up
    assert refused.status_code == 429
    assert refused.json()["type"] == "/problems/rate-limit-exceeded"
    assert refused.json()["request_id"] == refused.headers["X-Request-ID"]
    assert refused.headers["RateLimit-Policy"] == '"predict";q=2;w=2, "day";q=1000;w=86400'
    time.sleep(int(refused.headers["Retry-After"]))
    assert accepted.post("/predict", json=seed_payload()).status_code == 200


def test_a_key_that_is_bound_to_networks_has_ordinary_calls_from_there(accepted, acme):
    acme.keys.update(networks=["127.0.0.0/8"])
    give_up = time.monotonic() + 2
    while time.monotonic() < give_up:
        assert accepted.post("/predict", json=seed_payload()).status_code == 200
    stranger = accepted.post("/predict", json=seed_payload(), headers={"X-Forwarded-For": "192.0.2.1"})
    assert stranger.status_code == 200, "without a proxy of ours the header means nothing"


def test_a_head_is_not_known_any_more_once_its_key_is_not_valid(acme, db, settings, monkeypatch):
    settings.API_KEY_CACHE_S = 3600.0
    row, key = keys.create(client=acme)
    ring = authentication.KeyRing()
    monkeypatch.setattr(ordinary, "ring", ring)
    request = RequestFactory().post("/predict")
    request.recalled_key = ring.find(ApiKey.digest_of(key))  # type: ignore[attr-defined]
    scope = {"method": "POST", "scheme": "http", "path": "/predict", "query_string": b"", "headers": [(b"a", b"b")]}
    head = ordinary.head_of(scope)
    ordinary.remember(head, request, [(b"vary", b"Accept"), (b"content-length", b"7")])
    assert ordinary.recognise(head, scope) == (row, [(b"vary", b"Accept")])
    keys.revoke(key=row)
    ring.read_since(float("inf"))
    assert ordinary.recognise(head, scope) is None
