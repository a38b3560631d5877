"""What the predict endpoint refuses, how it says so, and that nothing of it is kept. No worker is needed for that."""

import json
import logging
from datetime import timedelta

import pytest
from django.utils import timezone

from fraudsite.testing import seed_payload
from scoring.models import Prediction, Transaction

pytestmark = pytest.mark.django_db


def refused(response, status, *pointers):
    """Check the form of a refusal, that it names the fields expected, and that no row came of it."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem.keys() == {"type", "title", "status", "detail", "instance", "request_id", "errors"}
    assert problem["status"] == status
    assert problem["instance"] == "/predict"
    assert problem["request_id"] == response["X-Request-ID"]
    assert {error["pointer"] for error in problem["errors"]} == set(pointers)
    assert not Transaction.objects.exists()
    assert not Prediction.objects.exists()
    return problem


@pytest.mark.parametrize(
    ("body", "code"),
    [
        *((body, "not_json") for body in (b" ", b"Time=1", b"{", b'{"a": nan}', b"{'a': 1}", b'{"a": 1,}')),
        *((body, "not_an_object") for body in (b"[]", b'"text"', b"17", b"null")),
        (b'{"transaction_id": "a\x00b"}', "not_json"),
        (b'{"transaction_id": "\xff"}', "not_utf_8"),
        *(('{"Time": 1}'.encode(encoding), "byte_order_mark") for encoding in ("utf-8-sig", "utf-16")),
        ('{"Time": 1}'.encode("utf-32"), "byte_order_mark"),
    ],
)
def test_it_says_why_a_body_is_not_one_json_object(post, body, code):
    problem = refused(post(body), 400, "")
    assert problem["title"] == "Malformed body"
    assert problem["errors"][0]["code"] == code


@pytest.mark.parametrize(
    "body",
    [
        b'{"transaction_id": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"transaction_id": "a\\u0000b"}',
        b'{"Time": ' + b"9" * 5000 + b"}",
    ],
)
def test_it_refuses_what_is_not_unicode_text_or_a_number_without_end(post, body):
    refused(post(body), 400)


def test_it_refuses_a_body_nested_a_hundred_thousand_deep(post, settings):
    settings.PREDICT_BODY_LIMIT_BYTES = 1_000_000
    refused(post(b'{"Time": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), 400)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_it_refuses_numbers_that_json_does_not_have_by_their_name(post, literal):
    problem = refused(post(json.dumps(seed_payload()).replace("12.5", literal)), 400, "")
    assert problem["errors"][0]["code"] == "not_finite"
    assert problem["detail"].startswith(f"{literal} is not JSON")


@pytest.mark.parametrize(
    "literal", ["1e999", "-1e999", "1" + "0" * 400, '"nan"', '"12.5"', "true", "null", "[1]", "{}"]
)
def test_it_refuses_what_is_not_a_finite_number_and_names_the_field(post, literal):
    body = json.dumps(seed_payload()).replace("12.5", literal)
    refused(post(body), 400, "/Amount")


@pytest.mark.parametrize("more", ['"Amount": 1.0', '"Amount": 12.5', '"note": {"Amount": 1, "Amount": 1}'])
def test_it_refuses_a_name_sent_twice_and_says_which(post, more):
    problem = refused(post(f"{json.dumps(seed_payload())[:-1]}, {more}}}"), 400, "")
    assert problem["errors"][0]["code"] == "duplicate_key"
    assert '"Amount" stands more than once' in problem["detail"]


@pytest.mark.parametrize("field", ["surprise", "Class", "fraud_score", "decision", "model_version", "id"])
def test_it_refuses_unknown_fields_among_them_those_only_we_may_write(post, field):
    refused(post(seed_payload(**{field: 1})), 400, f"/{field}")


def test_it_names_every_missing_field_at_once(post):
    payload = seed_payload()
    del payload["V7"], payload["Amount"]
    refused(post(payload), 400, "/V7", "/Amount")


def test_it_names_every_wrong_field_at_once(post):
    refused(post(seed_payload(V1="x", V2=None, Amount=-1, extra=0)), 400, "/V1", "/V2", "/Amount", "/extra")


@pytest.mark.parametrize(
    ("field", "value"), [("Amount", -0.01), ("Amount", 1e9), ("Time", -1), ("V1", 1e6), ("V28", -1e300)]
)
def test_it_refuses_numbers_outside_their_declared_range(post, field, value):
    refused(post(seed_payload(**{field: value})), 422, f"/{field}")


@pytest.mark.parametrize(("ahead_s", "status"), [(360, 422), (-401 * 86_400, 422)])
def test_it_refuses_an_event_time_too_far_ahead_or_too_long_ago(post, ahead_s, status):
    event_time = timezone.now() + timedelta(seconds=ahead_s)
    refused(post(seed_payload(event_time=event_time.isoformat())), status, "/event_time")


@pytest.mark.parametrize("value", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", 0, None, "9999-99-99T00:00:00Z"])
def test_it_refuses_an_event_time_that_is_no_rfc_3339_time(post, value):
    refused(post(seed_payload(event_time=value)), 400, "/event_time")


@pytest.mark.parametrize("value", [0, -1, 1.5, "100", True, None])
def test_it_refuses_a_deadline_that_is_none(post, value):
    refused(post(seed_payload(deadline_ms=value)), 400, "/deadline_ms")


@pytest.mark.parametrize("value", ['""', '"', '"order', '"a" "b"', '"a","b"', r'"a\b"', '"caf\xe9"', "x" * 65, ""])
def test_it_refuses_an_unusable_idempotency_key(post, value):
    problem = refused(post(seed_payload(), Idempotency_Key=value), 400, "")
    assert problem["errors"][0]["code"] == "invalid_idempotency_key"


@pytest.mark.parametrize("value", ["", "x" * 65, 7, ["a"], "line\nbreak", "tab\t", "\u202e"])
def test_it_refuses_an_unusable_transaction_id(post, value):
    refused(post(seed_payload(transaction_id=value)), 400, "/transaction_id")


@pytest.mark.parametrize("name", ["x", "x" * 64])
def test_it_takes_transaction_ids_of_one_to_sixty_four_characters(post, name):
    refused(post(seed_payload(transaction_id=name, V1="wrong")), 400, "/V1")


def test_a_body_as_long_as_the_limit_is_read_to_its_end(post, settings):
    refused(
        post(b"{" + b" " * (settings.PREDICT_BODY_LIMIT_BYTES - 2) + b"}"),
        400,
        *(f"/{name}" for name in seed_payload()),
    )


def test_it_refuses_a_body_over_the_limit(post, settings):
    refused(post(b" " * (settings.PREDICT_BODY_LIMIT_BYTES + 1)), 413)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json; charset=bz2_codec",
    ],
)
def test_it_refuses_other_media_types_and_charsets(post, content_type):
    refused(post(json.dumps(seed_payload()), content_type=content_type), 415)


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x"])
def test_it_refuses_a_compressed_body(post, encoding):
    refused(post(seed_payload(), Content_Encoding=encoding), 415)


@pytest.mark.parametrize("encoding", ["identity", "Identity", "", "identity, identity"])
def test_it_takes_identity_for_no_encoding(post, encoding):
    refused(post({"schema": 1}, Content_Encoding=encoding), 400, "/schema")


CARD = "4111111111111111"


@pytest.mark.parametrize(
    "value",
    [
        *(CARD, "4111 1111 1111 1111", "order 4111-1111-1111-1111 of today", int(CARD)),
        *(f"{CARD} 12/27", f"12/27 {CARD}", f"{CARD}123", "4111__1111__1111__1111 737", f"99{CARD}99"),
        *("４１１１１１１１１１１１１１１１", "4111–1111–1111–1111"),
    ],
)
@pytest.mark.parametrize("field", ["transaction_id", "Amount", "note"])
def test_it_refuses_a_card_number_anywhere_and_neither_keeps_nor_repeats_it(post, caplog, field, value):
    caplog.set_level(logging.DEBUG)
    problem = refused(post(seed_payload(**{field: value})), 422, f"/{field}")
    assert problem["errors"][0]["code"] == "card_number"
    for told in (json.dumps(problem), json.dumps(problem, ensure_ascii=False), caplog.text):
        assert "1111" not in told
        assert "１１１１" not in told


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Request-ID"])
@pytest.mark.parametrize(
    "value",
    [CARD, f"{CARD}-12-27", f"123.{CARD}", "4111-1111-1111-1111", "٤١١١١١١١١١١١١١١١".encode().decode("latin-1")],
)
def test_it_refuses_a_card_number_in_a_header(post, caplog, header, value):
    caplog.set_level(logging.DEBUG)
    response = post(seed_payload(), **{header: value})
    problem = refused(response, 422, "")
    assert problem["errors"][0]["code"] == "card_number"
    assert header in problem["errors"][0]["detail"]
    for told in (response.content.decode(), response["X-Request-ID"], caplog.text):
        assert "1111" not in told


def test_it_repeats_no_card_number_that_stands_in_an_address_or_in_a_request_id(acme_api, caplog):
    caplog.set_level(logging.DEBUG)
    for path in (f"/predict/{CARD}", f"/api/v1/predictions/{CARD}", "/api/v1/4111 1111 1111 1111"):
        response = acme_api.get(path, headers={"X-Request-ID": CARD})
        assert response.status_code == 404
        assert "1111" not in response.content.decode() + response["X-Request-ID"]
    assert CARD not in "".join(record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)


def test_it_refuses_a_card_number_as_a_key_or_deep_inside(post):
    assert CARD not in json.dumps(refused(post(seed_payload(**{CARD: 1})), 422, ""))
    assert CARD not in json.dumps(refused(post(f'{{"{CARD}": 1, "{CARD}": 1}}'), 400, ""))
    for inside in (
        {"number": [CARD]},
        [[int(CARD)]],
        {f"of {CARD}": None},
        float(CARD),
        {"exp": "12/27", "n": f"{CARD}/1"},
    ):
        refused(post(seed_payload(card=inside)), 422, "/card")
    refused(post(seed_payload(schema=CARD)), 422, "/schema")


@pytest.mark.parametrize("field", ["cvv", "CVC2", "card-verification-value"])
def test_it_refuses_a_verification_code(post, field):
    problem = refused(post(seed_payload(**{field: "737"})), 422, f"/{field}")
    assert "737" not in json.dumps(problem["errors"])


def test_it_never_repeats_a_value(post):
    problem = refused(post(seed_payload(V1="<script>secret</script>", event_time="secret")), 400, "/V1", "/event_time")
    assert "secret" not in json.dumps(problem)


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_it_refuses_other_methods(acme_api, method):
    refused(getattr(acme_api, method)("/predict"), 405)


def test_it_refuses_to_answer_in_another_format(post):
    refused(post(seed_payload(), Accept="text/html"), 406)


def test_it_asks_for_a_key(client):
    response = client.post("/predict", data=json.dumps(seed_payload()), content_type="application/json")
    refused(response, 401)
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("value", ["Bearer", "Bearer fs_guess", "Basic abc", "Bearer a b", "Bearer \xff"])
def test_it_refuses_a_wrong_key(client, value):
    headers = {"Authorization": value}
    response = client.post(
        "/predict", data=json.dumps(seed_payload()), content_type="application/json", headers=headers
    )
    refused(response, 401)
