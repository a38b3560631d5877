"""Amounts in several currencies: what is posted is converted as what is ingested, and nothing of it is lost."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from scoring.api import documents, validation, views
from scoring.api.rates import courses
from scoring.messages.replies import Kind
from scoring.models import History, Prediction, Transaction
from scoring.simulation import body_of
from scoring.worker import batches, predictor
from training import rates, registry
from training.core.datasets import parquet_path, storage
from training.core.exchange.rates import Quote
from training.core.pipeline import train
from training.tests.support import small_config

NOW = datetime(2026, 11, 28, tzinfo=UTC)
CHANGE = datetime(2026, 11, 25, 9, tzinfo=UTC)
RATES = [
    Quote(currency, Decimal(rate), since)
    for currency, before, after in [
        ("USD", "1.0876", "1.1203"),
        ("JPY", "171.3", "168.05"),
        ("KWD", "0.3344", "0.3391"),
    ]
    for rate, since in ((before, datetime(2026, 11, 20, tzinfo=UTC)), (after, CHANGE))
]
TREES = {"data.schema": "travels", "model.architecture": "xgboost", "xgboost.epochs": 5, "policy.review_precision": 0.1}


def add_rates(*quotes):
    return rates.add(quotes, base="EUR", source="test", by="nobody")


@pytest.fixture
def known_rates(db):
    add_rates(*RATES)


def travelling(rows=120):
    """Rows of a raw file. At the 60th the rates change."""
    random = np.random.default_rng(0)
    decimals = {"EUR": 2, "usd": 2, "JPY": 0, "KWD": 3}
    currencies = random.choice(list(decimals), rows)
    frame = pd.DataFrame(
        {
            "transaction_id": [f"t-{number}" for number in range(rows)],
            "event_time": pd.date_range(CHANGE - timedelta(hours=rows // 2), periods=rows, freq="h"),
            "card": random.choice(["c-1", "c-2", "c-3"], rows),
            "currency": currencies,
            "amount": [round(random.uniform(1, 900), decimals[currency]) for currency in currencies],
            "fraud": [1, 0] * (rows // 2),
        }
    )
    frame.loc[::9, "amount"] = frame["amount"].round()
    return frame


@pytest.fixture
def dataset(travels, known_rates, settings, tmp_path):
    settings.DATASETS_DIR = tmp_path / "datasets"
    travelling().to_csv(tmp_path / "raw.csv", index=False)
    call_command("ingest", schema="travels", source=str(tmp_path / "raw.csv"))
    return storage.read(parquet_path(settings.DATASETS_DIR, "travels"), travels)


@pytest.fixture
def scorer(dataset, settings, tmp_path):
    settings.BUNDLES_DIR = tmp_path / "models"
    bundle = train(
        config=small_config(**TREES),
        dataset=dataset,
        bundles_dir=settings.BUNDLES_DIR,
        signing_key=settings.BUNDLE_SIGNING_KEY,
        on_epoch=lambda epoch, logs: None,
    )
    return predictor.Predictor(registry.register(bundle, promote=True))


@pytest.fixture
def score(scorer, acme):
    """Have a worker score rows of a raw file, seven at a time. Gives the answers."""

    def send(rows):
        bodies = [
            {name: value for name, value in row.items() if name != "fraud"}
            | {"event_time": row["event_time"].isoformat(), "schema": "travels"}
            for row in rows.to_dict("records")
        ]
        known = rates.known(since=NOW - timedelta(days=61))
        sent = [
            validation.validate(
                body,
                schema=scorer.schema,
                client_id=acme.pk,
                received_at=NOW,
                deadline_ms=1000,
                clock_skew_s=1,
                rates=known,
            )
            for body in bodies
        ]
        outcomes = []
        for start in range(0, len(sent), 7):
            part, _ = batches.score_batch(submissions=sent[start : start + 7], predictor=scorer, started_at=0.0)
            outcomes += part
        return outcomes

    return send


def by_id():
    found = Prediction.objects.select_related("transaction")
    return {prediction.transaction.transaction_id: prediction for prediction in found}


def test_posted_and_ingested_amounts_in_several_currencies_give_the_same_features(travels, dataset, score):
    rows = travelling()
    assert {outcome.kind for outcome in score(rows)} == {Kind.SCORED}
    stored = by_id()
    ordered = [stored[name] for name in rows["transaction_id"]]
    names = [feature.name for feature in travels.derived]
    online = [[one.transaction.amount, *(one.derived[name] for name in names)] for one in ordered]
    columns = [travels.input_names.index(name) for name in ("amount", *names)]
    assert np.array(online, np.float64).tobytes() == np.ascontiguousarray(dataset.features[:, columns]).tobytes()
    conversions = [one.transaction.conversion for one in ordered]
    assert len({how["rate"] for how in conversions if how}) == len(RATES), "the rates change in the middle"
    assert [how is None for how in conversions] == (rows["currency"] == "EUR").tolist()


def test_an_answer_tells_how_the_amount_was_converted_and_a_repeated_one_is_the_same_to_the_byte(score, settings):
    settings.RATES_POLICY, settings.RATES_MAX_AGE_DAYS = "last", 2
    row = travelling(2).iloc[:1].assign(currency="JPY", amount=1050.0)
    old = row.assign(transaction_id="old", event_time=NOW + timedelta(seconds=1))
    fresh, stale = (json.loads(outcome.answer) for outcome in score(pd.concat([row, old])))
    assert fresh["conversion"] == {
        "sent": 1050.0,
        "currency": "JPY",
        "amount": 6.13,
        "base": "EUR",
        "rate": "171.3",
        "rate_from": "2026-11-20T00:00:00+00:00",
        "rate_stale": True,
    }
    assert stale["conversion"]["rate_stale"] is True
    settings.RATES_MAX_AGE_DAYS = 60
    [answer] = score(row.assign(transaction_id="again"))
    assert json.loads(answer.answer)["conversion"]["rate_stale"] is False
    assert by_id()["old"].transaction.conversion["rate_stale"] is True
    [repeated] = score(row.assign(transaction_id="again"))
    assert (repeated.kind, repeated.answer) == (Kind.REPEATED, answer.answer)


def test_parity_and_rebuilt_histories_hold_when_rates_are_corrected_later(score, capsys):
    score(travelling(60))
    before = {row.token: bytes(row.events) for row in History.objects.all()}
    add_rates(*(quote._replace(rate=quote.rate * 2) for quote in RATES))
    History.objects.update(events=b"stale")
    call_command("rebuild_histories", "--schema", "travels")
    assert {row.token: bytes(row.events) for row in History.objects.all()} == before
    call_command("check_parity", "--schema", "travels", "--sample", "0")
    assert "No feature of travels differs." in capsys.readouterr().out


def test_simulated_traffic_sends_what_was_sent_and_not_what_it_was_converted_to(travels, dataset, settings):
    rows, _ = storage.read_rows(parquet_path(settings.DATASETS_DIR, "travels"), travels)
    sent = travelling().sort_values("event_time")
    bodies = [body_of(travels, row) for row in rows.to_dict("records")]
    assert [body["amount"] for body in bodies] == sent["amount"].tolist()
    assert [body["currency"] for body in bodies] == sent["currency"].str.upper().tolist()


@pytest.fixture
def now_rates(travels, db, settings, monkeypatch):
    """Rates that hold now, which calls read without a cache."""
    settings.RATES_CACHE_S = 0.0
    today = timezone.now()
    add_rates(Quote("JPY", Decimal("171.3"), today - timedelta(days=20)))
    add_rates(Quote("JPY", Decimal("168.05"), today - timedelta(days=1)))
    add_rates(Quote("KWD", Decimal("0.3391"), today - timedelta(days=20)))
    monkeypatch.setattr(views, "_send_soon", lambda transaction_id: None)
    return today


def body(**changes):
    return {"schema": "travels", "amount": 1050, "currency": "JPY", "card": "c-1"} | changes


DAYS_AGO = {days: (datetime.now(UTC) - timedelta(days=days)).isoformat() for days in (10, 30)}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "pointer", "code", "told"),
    [
        ({"currency": "USD"}, "/currency", "no_rate", ["USD to EUR", "import_rates"]),
        ({"event_time": DAYS_AGO[30]}, "/currency", "no_rate", ["JPY to EUR", DAYS_AGO[30][:10], "import_rates"]),
        ({"event_time": DAYS_AGO[10]}, "/currency", "rate_too_old", ["JPY to EUR", "7 days", "import_rates"]),
        ({"currency": "KWD"}, "/currency", "rate_too_old", ["KWD to EUR", "import_rates"]),
        ({"currency": "JPX"}, "/currency", "unknown_currency", ["ISO 4217"]),
        ({"amount": 10.5}, "/amount", "too_many_decimals", ["JPY has no decimals"]),
        ({"amount": 10.555, "currency": "EUR"}, "/amount", "too_many_decimals", ["EUR has at most 2 decimals"]),
        ({"amount": 20_000_000}, "/amount", "out_of_range", ["0 to 100000 EUR after conversion"]),
        ({"amount": -1}, "/amount", "out_of_range", ["0 to 100000 EUR after conversion"]),
        ({"amount": 1e15}, "/amount", "out_of_range", ["at most 100,000,000,000,000"]),
    ],
)
def test_an_amount_that_cannot_be_converted_is_refused_by_the_field_and_the_remedy(
    now_rates, post, changes, pointer, code, told
):
    response = post(body(**changes))
    assert response.status_code == 422, response.content
    [error] = response.json()["errors"]
    assert (error["pointer"], error["code"]) == (pointer, code)
    assert [part for part in told if part not in error["detail"]] == []
    assert not Transaction.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("missing", ["amount", "currency"])
def test_an_amount_needs_its_currency(now_rates, post, missing):
    sent = body()
    del sent[missing]
    [error] = post(sent).json()["errors"]
    assert (error["pointer"], error["code"]) == (f"/{missing}", "missing")


@pytest.mark.django_db(transaction=True)
def test_what_was_sent_is_stored_beside_what_it_is_worth_and_an_analyst_sees_both(now_rates, post, client, alice):
    response = post(body(), Prefer="respond-async")
    assert response.status_code == 202, response.content
    row = Transaction.objects.get()
    assert row.amount == row.fields["amount"] == 6.25
    assert (row.conversion["sent"], row.conversion["currency"]) == (1050.0, "JPY")
    client.force_login(alice)
    page = client.get(reverse("admin:scoring_transaction_change", args=[row.pk])).content.decode()
    assert "6.25 EUR" in page
    assert "1,050 JPY, at 168.05 JPY for 1 EUR: the rate since " in page


@pytest.mark.django_db(transaction=True)
def test_a_repeated_body_is_the_same_one_though_the_rate_has_changed(now_rates, post):
    first = post(body(transaction_id="order-1"), Prefer="respond-async")
    add_rates(Quote("JPY", Decimal("100"), now_rates - timedelta(hours=1)))
    second = post(body(transaction_id="order-1"), Prefer="respond-async")
    assert (second.status_code, second.json()["id"]) == (202, first.json()["id"])
    assert post(body(transaction_id="order-1", amount=1051), Prefer="respond-async").status_code == 409
    assert Transaction.objects.get().amount == 6.25


@pytest.mark.django_db(transaction=True)
def test_a_call_is_converted_by_the_rates_in_memory_and_new_ones_are_read_when_these_expire(
    now_rates, settings, django_assert_num_queries
):
    settings.RATES_CACHE_S = 3600
    courses._read_at = -float("inf")
    assert courses.now().convert(1050.0, "JPY", "EUR", int(now_rates.timestamp() * 1e6)).amount == 6.25
    add_rates(Quote("JPY", Decimal("100"), now_rates - timedelta(hours=1)))
    with django_assert_num_queries(0):
        assert courses.now().convert(1050.0, "JPY", "EUR", int(now_rates.timestamp() * 1e6)).amount == 6.25
    settings.RATES_CACHE_S = 0.0
    assert courses.now().convert(1050.0, "JPY", "EUR", int(now_rates.timestamp() * 1e6)).amount == 10.5


@pytest.mark.django_db
def test_a_list_converts_each_of_its_transactions(now_rates, post):
    sent = {"transactions": [body(currency="USD"), body(amount=0.5)]}
    results = post(sent, path="/api/v1/predict/batch").json()["results"]
    assert [result["problem"]["errors"][0]["code"] for result in results] == ["no_rate", "too_many_decimals"]


@pytest.mark.django_db
def test_a_card_number_is_found_in_an_amount_of_any_size(now_rates, post):
    [error] = post(body(amount=4111111111111111.0)).json()["errors"]
    assert (error["pointer"], error["code"]) == ("/amount", "card_number")


def test_the_document_of_the_api_gives_no_bounds_to_an_amount_of_any_currency(travels):
    amount = documents.transaction_document(travels)["properties"]["amount"]
    assert amount.keys() == {"type", "description"}
    assert "Converted to EUR, it lies between 0 and 100000." in amount["description"]
    assert documents.example(travels)["currency"] == "EUR"
