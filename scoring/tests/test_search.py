"""The search of the lists that show transactions."""

from dataclasses import replace
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from scoring import served
from scoring.models import Label, Pending
from scoring.pages.search import read_amount
from training.core.schema import load_schema

pytestmark = pytest.mark.django_db

OWN = "019a5f2b-7c3d-7e4f-8a9b-c0d1e2f3a4b5"
LISTS = ("transaction", "prediction", "review", "label", "fallback", "pending")
ODD = ["order 17", 'the "big" one', "it's", "a  b", "50%", "a_b", "back\\slash", "ünï", "🦊 1", "a/b?c=d&e", "NaN"]


def address(model):
    return reverse(f"admin:scoring_{model}_changelist")


def found(client, model, term):
    response = client.get(address(model), {"q": term})
    assert response.status_code == 200, (model, term)
    rows = response.context["cl"].queryset
    return {getattr(row, "transaction_id", row.pk) if model != "transaction" else row.pk for row in rows}


@pytest.fixture
def rows(alert, client, ada):
    """An alert with a label, the one to be found, among others."""
    client.force_login(ada)

    def make(**changes):
        alert(0.5, transaction_id="other", amount=77.0)
        review = alert(0.9, **{"id": UUID(OWN)} | changes)
        Label.objects.create(transaction_id=review.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
        return review

    return make


@pytest.mark.parametrize("term", ODD)
def test_an_id_is_found_as_it_stands(client, rows, term):
    review = rows(transaction_id=term)
    for model in ("transaction", "prediction", "label"):
        assert found(client, model, term) == {review.pk}
    assert client.get(address("review"), {"q": term}).context["cl"].result_count == 1


@pytest.mark.parametrize("term", [OWN, OWN.upper(), OWN.replace("-", ""), OWN.replace("-", "").upper(), f" {OWN} "])
def test_our_own_id_is_found_in_whatever_form(client, rows, term):
    review = rows()
    for model in ("transaction", "prediction", "label"):
        assert found(client, model, term) == {review.pk}
    assert client.get(address("review"), {"q": term}).context["cl"].result_count == 1


@pytest.mark.parametrize(
    "term", [OWN[:8], OWN[:11].upper(), OWN.replace("-", "")[:12], OWN[-12:], OWN[4:16], "order", "77 b"]
)
def test_a_part_of_an_id_is_found(client, rows, term):
    review = rows(transaction_id="order-77 b")
    for model in ("transaction", "prediction", "label"):
        assert found(client, model, term) == {review.pk}


def test_a_whole_id_is_found_alone(client, rows, transaction):
    review = rows(transaction_id="order-1")
    transaction(transaction_id="order-10")
    assert found(client, "transaction", "order-1") == {review.pk}
    assert len(found(client, "transaction", "order-")) == 2


@pytest.mark.parametrize("term", ["12.34", "12.340", "12,34", "12.34 EUR", "EUR 12.34", "€12.34", "$ 12.34"])
def test_an_amount_is_found_as_it_is_shown(client, rows, term):
    review = rows(amount=12.3400000001)
    for model in ("transaction", "prediction", "label"):
        assert found(client, model, term) == {review.pk}
    assert found(client, "transaction", "12.35") == set()


def test_an_amount_is_found_by_the_decimals_of_its_schema(client, rows, monkeypatch):
    of_three_decimals = served.Served({"ulb": replace(load_schema("ulb"), amount_decimals=3)}, {})
    monkeypatch.setattr(served, "now", lambda: of_three_decimals)
    review = rows(amount=1234.567)
    assert found(client, "transaction", "1,234.567") == {review.pk}
    assert found(client, "transaction", "1,234.57") == set()


@pytest.mark.parametrize(
    "term",
    ["\0", "9" * 400, "1e999", "-", ".", ",", "x" * 3_000, "🦊", "'; --", "NaN", "-1", "%", "\\", '"', "0x1", "١٢"],
)
def test_whatever_is_typed_is_no_failure(client, rows, transaction, term):
    rows(transaction_id="order-1")
    Pending.objects.create(transaction=transaction(), due_at="2026-01-01T00:00Z")
    for model in LISTS:
        response = client.get(address(model), {"q": term}, follow=True)
        assert response.status_code == 200


def test_too_many_results_are_said_to_be_the_latest(client, rows, transaction, settings):
    settings.SEARCH_RESULTS_LIMIT = 2
    rows()
    for number in range(3):
        transaction(transaction_id=f"order-{number}")
    response = client.get(address("transaction"), {"q": "order"})
    assert response.context["cl"].result_count == 2
    assert "the latest are shown" in response.content.decode()


def test_amounts_are_looked_for_among_the_latest_rows(client, rows, transaction, settings):
    review, later = rows(amount=12.5), transaction(id=UUID(int=2**128 - 1))
    assert found(client, "transaction", "12.50") == {review.pk, later.pk}
    settings.SEARCH_RECENT_ROWS = 1
    assert found(client, "transaction", "12.50") == {later.pk}


def test_what_is_no_amount_is_not_read_as_one():
    for text in ("", "12.3.4", "order-12", "1e5", "--1", "12 13", "9" * 400):
        assert read_amount(text) is None


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has other plans.")
@pytest.mark.parametrize("model", ["transaction", "prediction", "review"])
def test_ids_are_found_by_indexes_among_many_rows(client, rows, model, settings):
    """The plans of the very statements that the page runs, with ids as our web processes and a client make them."""
    settings.SEARCH_RECENT_ROWS = 1_000
    review = rows(transaction_id="order-077777x")
    transaction, prediction = review.prediction.transaction, review.prediction
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO scoring_transaction (id, client_id, transaction_id, schema, amount, fields, body_sha256,"
            " event_time, received_at) SELECT ('019a5f2b' || lpad(to_hex(n), 8, '0') || repeat('7', 16))::uuid, %s,"
            " 'order-' || lpad(n::text, 6, '0'), 'ulb', n %% 500, '{}', '', now(), now()"
            " FROM generate_series(1, 60000) AS n",
            [transaction.client_id],
        )
        cursor.execute(
            "INSERT INTO scoring_prediction (transaction_id, model_version_id, fraud_score, decision, threshold,"
            " reasons, latency_ms, created_at) SELECT id, %s, 0.1, 'approve', 0.5, '[]', 4, received_at"
            " FROM scoring_transaction WHERE id <> ALL (SELECT transaction_id FROM scoring_prediction)",
            [prediction.model_version_id],
        )
        cursor.execute("ANALYZE scoring_transaction, scoring_prediction")
        for term in (OWN, OWN.upper(), "order-077777x", "order-0777", OWN[:13]):
            with CaptureQueriesContext(connection) as asked:
                assert review.pk in found(client, model, term) or model == "review"
            for query in asked.captured_queries:
                if "scoring_transaction" not in query["sql"] or not query["sql"].startswith("SELECT"):
                    continue
                cursor.execute(f"EXPLAIN {query['sql']}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
                for table in ("scoring_transaction", "scoring_prediction"):
                    assert f"Seq Scan on {table}" not in plan, (term, query["sql"], plan)


def test_a_range_of_amounts_finds_what_lies_in_it_bounds_included(alert, client, alice):
    client.force_login(alice)
    small, middle, large = (alert(0.9, amount=amount).pk for amount in (10.0, 100.0, 250.0))
    assert found(client, "review", "100..250 EUR") == {middle, large}
    assert found(client, "review", "10.5 .. 249.99") == {middle}
    assert found(client, "review", "..100") == {small, middle}
    assert found(client, "transaction", "100.01..") == {large}
    for nothing in ("250..100", "..", "1..2..3", "a..b"):
        assert found(client, "review", nothing) == set(), nothing
