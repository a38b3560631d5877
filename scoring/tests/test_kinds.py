"""Kinds of values: what the predict endpoint refuses of each, and what it makes of equal ones."""

from datetime import UTC, datetime, timedelta

import pytest

from fraudsite.testing import seed_payload
from scoring.api import documents, validation
from scoring.models import Client, Transaction
from scoring.tenancy import tenants
from training.core.schema import load_schema

PURCHASE = {"schema": "shop", "amount": 12.5, "card": "c-1"}
ARRIVED = datetime(2026, 11, 28, 12, tzinfo=UTC)


def submission_of(body, schema):
    tenants.learn([Client(pk=1)])  # as the reader of keys does, so that none is looked up here
    return validation.validate(body, schema=schema, client_id=1, received_at=ARRIVED, deadline_ms=1000, clock_skew_s=60)


def validated(shop, **values):
    """What a body with these values is for a worker: its values, and its tokens, by their names."""
    submission = submission_of(PURCHASE | values, shop)
    named = dict(zip(shop.feature_names, submission.features, strict=True))
    return named | dict(zip(shop.entity_names, submission.tokens, strict=True)), submission.body_sha256


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "status", "code"),
    [
        ({"category": 7}, 400, "not_a_text"),
        ({"category": "  "}, 400, "invalid_text"),
        ({"category": "a\x07b"}, 400, "invalid_text"),
        ({"category": "x" * 65}, 422, "too_long"),
        ({"category": "\ufdfa" * 10}, 422, "too_long"),  # one character of 18 in the normal form
        ({"country": "Germany"}, 422, "unknown_country"),
        ({"country": "XX"}, 422, "unknown_country"),
        ({"country": "ß"}, 422, "unknown_country"),
        ({"country": 276}, 400, "not_a_text"),
        ({"currency": "EURO"}, 422, "unknown_currency"),
        ({"currency": "\u00dfp"}, 422, "unknown_currency"),
        ({"zone": "Berlin"}, 422, "unknown_timezone"),
        ({"zone": "Africa/Bi\u00dfau"}, 422, "unknown_timezone"),
        ({"lat": 91.0}, 422, "out_of_range"),
        ({"lat": "52.5"}, 400, "not_a_number"),
        ({"long": -180.5}, 422, "out_of_range"),
        ({"items": 1.5}, 400, "not_whole"),
        ({"items": 0}, 422, "out_of_range"),
        ({"points": 2**53 + 1}, 422, "out_of_range"),  # as a float64 it would be another one
        ({"is_gift": 1}, 400, "not_a_boolean"),
        ({"is_gift": "true"}, 400, "not_a_boolean"),
        ({"birth": "31.01.1980"}, 400, "invalid_date"),
        ({"birth": "1980-02-30"}, 400, "invalid_date"),
        ({"birth": "1980-W05-1"}, 400, "invalid_date"),
        ({"birth": "19800131"}, 400, "invalid_date"),
        ({"birth": "0980-01-31"}, 422, "out_of_range"),
        ({"birth": "2199-01-01"}, 422, "after_the_event"),
        ({"email": "ann"}, 422, "invalid_email"),
        ({"email": "ann@"}, 422, "invalid_email"),
        ({"email": "@example.com"}, 422, "invalid_email"),
        ({"ip": "192.0.2.07"}, 422, "invalid_ip"),
        ({"ip": "192.0.2"}, 422, "invalid_ip"),
        ({"ip": "192.0.2.256"}, 422, "invalid_ip"),
        ({"ip": "192.0.2.0/24"}, 422, "invalid_ip"),
        ({"note": "x" * 501}, 422, "too_long"),
        ({"device": 5}, 400, "invalid_entity"),
        ({"device": ""}, 400, "invalid_entity"),
        ({"device": "x" * 65}, 400, "invalid_entity"),
        ({"device": "a\nb"}, 400, "invalid_entity"),
        ({"mailbox": "ann@example.com"}, 400, "unknown_field"),
    ],
)
def test_each_kind_has_its_refusals_which_name_the_field(shop, post, values, status, code):
    response = post(PURCHASE | values)
    assert response.status_code == status, response.content
    [error] = response.json()["errors"]
    assert (error["pointer"], error["code"]) == (f"/{next(iter(values))}", code)
    assert not Transaction.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("moment", ["9999-12-31T23:00:00Z", "0001-01-01T00:00:00Z"])
def test_an_event_at_the_end_of_the_calendar_is_refused_as_any_other(shop, post, moment):
    response = post(PURCHASE | {"birth": "1980-01-31", "event_time": moment})
    assert response.status_code == 422, response.content
    assert "/event_time" in {error["pointer"] for error in response.json()["errors"]}


@pytest.mark.django_db
def test_one_refusal_names_all_faulty_fields(shop, post):
    response = post(PURCHASE | {"amount": "12", "country": "XX", "birth": "yesterday"})
    assert {error["pointer"] for error in response.json()["errors"]} == {"/amount", "/country", "/birth"}


@pytest.mark.django_db
@pytest.mark.parametrize("number", ["4111 1111 1111 1111", 4111111111111111, 4111111111111111.0])
def test_a_card_number_is_refused_in_any_field(shop, post, number):
    for name in ("amount", "points", "category", "note", "device", "card"):
        response = post(PURCHASE | {name: number})
        codes = [error["code"] for error in response.json()["errors"]]
        if name == "amount" and isinstance(number, float):
            assert (response.status_code, codes) == (422, ["out_of_range"])  # a number that is too short for a card's
        else:
            assert (response.status_code, codes) == (422, ["card_number"]), name


@pytest.mark.django_db
def test_digits_of_two_fields_are_no_card_number_and_one_among_other_texts_is_named(shop, post):
    halves = {"category": "4111 1111", "note": "1111 1111", "device": "Caf\u00e9 4111"}
    assert post(PURCHASE | halves).status_code in (200, 503)  # as no model serves the shop
    for text in ("4111 1111 1111 1111", "Caf\u00e9 \u0664111111111111111"):
        [error] = post(PURCHASE | halves | {"note": text}).json()["errors"]
        assert (error["pointer"], error["code"]) == ("/note", "card_number")


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("category", ["Caf\u00e9", "cafe\u0301", " CAF\u00c9 ", "\uff23\uff41\uff46\u00e9"]),
        ("country", ["DE", "de", "DEU", "276"]),
        ("currency", ["EUR", "eur"]),
        ("zone", ["Europe/Berlin", " europe/BERLIN"]),
        ("ip", ["2001:DB8:0:0::7", "2001:db8::7"]),
        ("ip", ["192.0.2.7", "::ffff:192.0.2.7"]),
        ("email", ["Ann@Example.com", "ann@example.com"]),
        ("email", ["ann@b\u00fccher.example", "ann@xn--bcher-kva.example"]),
        ("birth", ["1980-01-31", " 1980-01-31"]),
        ("items", [3, 3.0]),
    ],
)
def test_equal_values_are_one_value_however_they_are_written(shop, name, forms):
    assert len({str(validated(shop, **{name: form})) for form in forms}) == 1


def test_missing_is_not_zero_and_null_is_missing(shop):
    left_out, zero, null = validated(shop), validated(shop, is_gift=False), validated(shop, is_gift=None)
    assert left_out == null
    assert left_out[0]["is_gift"] is None
    assert zero[0]["is_gift"] == 0.0
    assert zero[1] != left_out[1]


def test_a_required_field_may_not_be_null(shop):
    with pytest.raises(validation.InvalidFields) as refused:
        validated(shop, amount=None, card=None)
    assert {error.pointer for error in refused.value.errors} == {"/amount", "/card"}


def test_an_e_mail_address_is_stored_as_a_token_and_its_domain(shop):
    values, _ = validated(shop, email="ann@example.com")
    token, at, domain = values["email"].partition("@")
    assert (at, domain) == ("@", "example.com")
    assert len(token) == 32
    assert "ann" not in str(values)


def test_of_personal_values_less_is_stored(shop):
    sent = {"phone": "+49 30 1234", "home_lat": 52.520008, "opened": "2019-07-21", "last_ip": "192.0.2.77"}
    values, _ = validated(shop, **sent)
    assert len(values["phone"]) == 32
    assert (values["home_lat"], values["opened"], values["last_ip"]) == (52.52, "2019-01-01", "192.0.2.0")
    again, _ = validated(shop, **{name: values[name] for name in ("home_lat", "opened", "last_ip")})
    assert [again[name] for name in ("home_lat", "opened", "last_ip")] == [52.52, "2019-01-01", "192.0.2.0"]


def test_entities_are_made_of_values_and_missing_without_them(shop):
    nobody, _ = validated(shop)
    ann, _ = validated(shop, email="ann@example.com", ip="192.0.2.7", category="Food", device="d-1")
    again, _ = validated(shop, email="ANN@example.com", ip="192.0.2.8", category="food", device="d-2")
    other, _ = validated(shop, email="bob@example.com", ip="192.0.3.7", category="toys", device="d-1")
    assert [nobody[name] for name in ("device", "mailbox", "network", "card_and_category")] == [""] * 4
    for name in ("mailbox", "network", "card_and_category"):
        assert ann[name] == again[name] != other[name], name
    assert ann["device"] == other["device"] != again["device"]
    assert ann["card"] == nobody["card"]


def test_an_entity_may_have_one_to_sixty_four_characters(shop):
    assert validated(shop, device="x")[0]["device"] != validated(shop, device="x" * 64)[0]["device"]


def test_a_time_may_be_as_late_as_clocks_differ_and_as_old_as_the_schema_allows(shop):
    latest, earliest = ARRIVED + timedelta(seconds=60), ARRIVED - timedelta(days=shop.past_days)
    for moment in (latest, earliest):
        sent = submission_of(PURCHASE | {"event_time": moment.isoformat()}, shop)
        assert sent.event_time == moment.timestamp()
    for moment in (latest + timedelta(seconds=1), earliest - timedelta(seconds=1)):
        with pytest.raises(validation.UnacceptableValues):
            validated(shop, event_time=moment.isoformat())


@pytest.mark.parametrize(("wanted", "given_ms"), [({}, 1000), ({"deadline_ms": 1}, 1), ({"deadline_ms": 2000}, 1000)])
def test_a_deadline_counts_from_the_arrival_and_a_client_can_only_lower_it(shop, wanted, given_ms):
    sent = submission_of(PURCHASE | wanted, shop)
    assert sent.deadline == ARRIVED.timestamp() + given_ms / 1000


def test_values_that_differ_by_little_are_other_content(shop):
    assert validated(shop, amount=0.0)[1] != validated(shop, amount=1e-17)[1]
    ulb = load_schema("ulb")
    one, other = (submission_of(seed_payload(V1=value), ulb).body_sha256 for value in (0.0, 1e-17))
    assert one != other


def test_a_date_may_be_of_the_latest_time_zone_and_of_the_future_if_so_declared(shop):
    tomorrow_somewhere = validated(shop, birth="2026-11-29", expiry="2031-01-01")[0]
    assert (tomorrow_somewhere["birth"], tomorrow_somewhere["expiry"]) == ("2026-11-29", "2031-01-01")
    with pytest.raises(validation.UnacceptableValues):
        validated(shop, birth="2026-11-28", event_time="2026-11-26T00:00:00Z")


def test_openapi_declares_each_kind(shop):
    declared = documents.transaction_document(shop)  # the page itself is made when a web process starts
    assert declared["required"] == ["schema", "amount", "card"]
    properties = declared["properties"]
    types = {name: (one["type"], one.get("format")) for name, one in properties.items()}
    assert types["category"] == (["string", "null"], None)
    assert types["birth"] == (["string", "null"], "date")
    assert types["is_gift"] == (["boolean", "null"], None)
    assert types["amount"] == ("number", None)
    assert properties["lat"]["maximum"] == 90.0
    assert "mailbox" not in types


@pytest.mark.django_db
def test_a_purchase_is_accepted_for_later_with_its_values(shop, post, redis_server):
    body = PURCHASE | {"category": "FOOD", "country": "DEU", "is_gift": True, "email": "ann@example.com"}
    response = post(body, "/api/v1/predict", Prefer="respond-async")
    assert response.status_code == 202, response.content
    row = Transaction.objects.get()
    assert {name: row.fields[name] for name in ("category", "country", "is_gift", "note")} == {
        "category": "food",
        "country": "DE",
        "is_gift": 1.0,
        "note": None,
    }
    assert row.tokens.keys() == {"card", "mailbox", "card_and_category"}
