"""Bodies with the same content are the same, however they are written."""

import json
from datetime import timedelta
from uuid import UUID

import pytest
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import seed_payload
from scoring.models import Transaction


@pytest.fixture
def post(worker, post):
    return post


def test_an_idempotency_key_is_the_same_id_bare_and_as_the_ietf_writes_it(post):
    first = post(seed_payload(transaction_id='order "1" \\ a'))
    for key in ('order "1" \\ a', r'"order \"1\" \\ a"', r'"order \"1\" \\ a" ;a=1'):
        again = post(seed_payload(), Idempotency_Key=key)
        assert (again.status_code, again.content) == (200, first.content), key
        assert again["Idempotent-Replayed"] == "true"
    assert post(seed_payload(transaction_id="order"), Idempotency_Key='"order"').json()["transaction_id"] == "order"
    assert post(seed_payload(transaction_id='"order"'), Idempotency_Key='"order"').status_code == 400


def test_zero_is_zero_and_a_whole_number_has_no_point(post):
    body = json.dumps(seed_payload(transaction_id="order-1", V1=1.0, V2=0.0, V3=100.0, Amount=0.0))
    first = post(body)
    for other in (
        body.replace('"Amount": 0.0', '"Amount": -0.0'),
        body.replace('"Amount": 0.0, "', '"Amount": 0, "').replace('"V1": 1.0', '"V1": 1'),
        body.replace('"V2": 0.0', '"V2": -0').replace('"V3": 100.0', '"V3": 1e2'),
    ):
        assert other != body
        assert post(other).content == first.content
    assert Transaction.objects.count() == 1


def test_a_moment_is_the_same_in_lower_case_and_with_another_offset(post):
    moment = (timezone.now() - timedelta(days=1)).replace(microsecond=0)
    written = f"{moment:%Y-%m-%dT%H:%M:%S}"
    first = post(seed_payload(transaction_id="order-1", event_time=f"{written}Z"))
    others = [f"{written}z", f"{written.lower()}z", f"{written.lower()}+00:00", f"{written}.000-00:00"]
    for other in [*others, f"{moment + timedelta(hours=2):%Y-%m-%dt%H:%M:%S}+02:00"]:
        again = post(seed_payload(transaction_id="order-1", event_time=other))
        assert (again.status_code, again.content) == (200, first.content), other
    assert Transaction.objects.get().event_time == moment


def test_a_prediction_is_found_by_its_id_in_capitals_and_without_dashes(post, acme_api):
    answer = post(seed_payload())
    key = UUID(answer.json()["id"])
    for written in (str(key), str(key).upper(), key.hex, key.hex.upper()):
        found = acme_api.get(f"/api/v1/predictions/{written}")
        assert (found.status_code, found.content) == (200, answer.content), written
    for other in (f"{key}0", key.hex[:-1], "-" * 36, f"{{{key}}}", "g" * 32):
        missing = acme_api.get(f"/api/v1/predictions/{other}")
        assert missing.status_code == 404
        assert missing["Content-Type"] == "application/problem+json"


def test_every_address_of_the_api_is_answered_with_a_slash_at_its_end(post, acme_api):
    answer = post(seed_payload(), "/predict/")
    assert answer.status_code == post(seed_payload(), "/api/v1/predict/").status_code == 200
    assert post({"transactions": [seed_payload()]}, "/api/v1/predict/batch/").json()["results"][0]["status"] == 200
    assert acme_api.get(f"{reverse('prediction', args=[answer.json()['id']])}/").content == answer.content
    assert Transaction.objects.count() == 3
    for path in ("/api/v1/schema", "/api/v1/docs"):
        assert acme_api.get(f"{path}/").status_code == acme_api.get(path).status_code == 200
