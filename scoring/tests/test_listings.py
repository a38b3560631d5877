"""Listings: what a client reads of its own, page by page."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fraudsite.testing import api_of, seed_payload
from scoring.clients import keys
from scoring.models import (
    Decision,
    Fallback,
    Label,
    Pending,
    Prediction,
    Review,
    ReviewReason,
    SecondOpinion,
    Transaction,
)
from scoring.reviews import labelling, receiving
from scoring.reviews.incoming import Incoming
from scoring.worker.opening import review_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("keys_of_the_test")]

NOW = timezone.now().replace(microsecond=0)
LISTINGS = ("transactions", "predictions", "reviews", "labels")


def address(listing):
    return f"/api/v1/{listing}"


def at(seconds):
    return NOW - timedelta(hours=1) + timedelta(seconds=seconds)


def written(moment):
    return moment.isoformat().replace("+00:00", "Z")


def get(api, listing, **query):
    response = api.get(address(listing), query)
    assert response.status_code == 200, response.content
    return response.json()


def ids(page):
    return [row["id"] for row in page["results"]]


def pages(api, first):
    """Every page from an address on, by the links."""
    while first:
        response = api.get(first)
        assert response.status_code == 200, response.content
        page = response.json()
        assert response.get("Link") == (f'<{page["next"]}>; rel="next"' if page["next"] else None)
        yield page["results"]
        first = page["next"]


@pytest.fixture
def decided(champion):
    """Rows of a client at these seconds, each with a prediction, a review and a label."""

    def make(client, seconds, decision=Decision.REVIEW, schema="ulb"):
        rows = []
        for number, second in enumerate(seconds):
            row = Transaction.objects.create(
                client=client,
                transaction_id=f"order-{Transaction.objects.count()}",
                schema=schema,
                amount=12.5,
                fields=seed_payload(),
                body_sha256="0" * 64,
                event_time=at(second),
                received_at=at(second),
            )
            prediction = Prediction.objects.create(
                transaction=row,
                model_version=champion,
                fraud_score=0.9,
                decision=decision,
                threshold=0.5,
                latency_ms=4.0,
                created_at=at(second),
            )
            if decision in (Decision.REVIEW, Decision.BLOCK):
                review = review_of(prediction)
                review.opened_at = at(second)
                review.save(force_insert=True)
            said = Incoming(row.pk, None, "fraud", "client", at(second), None, f"case-{number}-{row.pk}"[:64])
            receiving.receive(client.pk, [said])
            Label.objects.filter(transaction=row).update(created_at=at(second))
            rows.append(row)
        return rows

    return make


@pytest.mark.parametrize("listing", LISTINGS)
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_have_every_row_once_in_order_also_where_times_are_equal(acme, acme_api, decided, listing, order):
    made = decided(acme, [0, 1, 1, 1, 1, 1, 2, 3])
    read = [row["id"] for page in pages(acme_api, f"{address(listing)}?limit=2&order={order}") for row in page]
    assert sorted(read) == sorted(str(row.pk) for row in made)
    times = {str(row.pk): row.received_at for row in made}
    assert [times[key] for key in read] == sorted(times.values(), reverse=order == "newest")


def test_rows_that_arrive_while_somebody_reads_move_no_page(acme, acme_api, decided):
    before = decided(acme, range(4))
    first = get(acme_api, "transactions", limit=2)
    decided(acme, [10, 11])
    later = acme_api.get(first["next"]).json()
    assert ids(first) + ids(later) == [str(row.pk) for row in reversed(before)]


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_client_sees_its_own_rows_alone(acme_api, globex, globex_api, decided, listing):
    [other] = decided(globex, [0])
    assert get(acme_api, listing) == {"results": [], "next": None}
    assert ids(get(globex_api, listing)) == [str(other.pk)]
    assert get(acme_api, listing, transaction_id=other.transaction_id)["results"] == []


@pytest.mark.parametrize("row", ["transactions", "reviews"])
def test_a_row_of_another_client_looks_like_one_that_does_not_exist(acme_api, globex, decided, row):
    [other] = decided(globex, [0])
    absent = acme_api.get(f"{address(row)}/{UUID(int=1)}")
    response = acme_api.get(f"{address(row)}/{other.pk}")
    assert response.status_code == absent.status_code == 404
    assert response.json()["detail"] == absent.json()["detail"]


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_key_of_one_schema_lists_that_schema_alone(acme, decided, listing):
    [allowed] = decided(acme, [0])
    decided(acme, [1, 2], schema="handbook")
    api = api_of(acme)
    api.defaults |= {"HTTP_AUTHORIZATION": f"Bearer {keys.create(client=acme, schemas=['ulb'], name='one')[1]}"}
    assert ids(get(api, listing)) == [str(allowed.pk)]


def test_a_transaction_is_told_as_it_is_stored(acme, acme_api, decided):
    [row] = decided(acme, [0])
    [told] = get(acme_api, "transactions")["results"]
    assert told == {
        "id": str(row.pk),
        "transaction_id": row.transaction_id,
        "schema": "ulb",
        "state": "scored",
        "decision": "review",
        "amount": 12.5,
        "conversion": None,
        "values": seed_payload(),
        "event_time": written(at(0)),
        "received_at": written(at(0)),
        "request_id": None,
        "trace_id": None,
    }
    assert acme_api.get(f"{address('transactions')}/{row.pk}").json() == told


def test_tokens_of_entities_and_hashes_are_not_told(acme, acme_api, transaction):
    transaction(tokens={"customer": "a" * 32})
    assert "a" * 32 not in acme_api.get(address("transactions")).content.decode()


def test_a_prediction_is_listed_as_it_was_answered(acme, acme_api, decided):
    [row] = decided(acme, [0])
    alone = acme_api.get(f"{address('predictions')}/{row.pk}").json()
    assert get(acme_api, "predictions")["results"] == [alone]


def test_states_of_transactions_are_filters(acme, acme_api, transaction, decided):
    [scored] = decided(acme, [0])
    waiting, fallback, past = transaction(), transaction(), transaction()
    Pending.objects.create(transaction=waiting, due_at=NOW)
    Pending.objects.create(transaction=fallback, due_at=NOW)
    Fallback.objects.create(transaction=fallback, decision="block", reason="deadline", latency_ms=1.0)
    expected = {"scored": scored, "waiting": waiting, "fallback": fallback, "unscored": past}
    for state, row in expected.items():
        assert ids(get(acme_api, "transactions", state=state)) == [str(row.pk)]
    assert len(ids(get(acme_api, "transactions", state="waiting,unscored"))) == 2
    assert ids(get(acme_api, "transactions", decision="block")) == [str(fallback.pk)]
    assert {row["id"] for row in get(acme_api, "predictions")["results"]} == {str(scored.pk), str(fallback.pk)}
    assert acme_api.get(f"{address('predictions')}/{past.pk}").status_code == 404


def test_filters_narrow_by_time_schema_decision_and_id(acme, acme_api, decided):
    early, late = decided(acme, [0, 60])
    [other] = decided(acme, [30], Decision.APPROVE, schema="handbook")
    for listing in ("transactions", "predictions"):
        assert ids(get(acme_api, listing, received_from=written(at(60)))) == [str(late.pk)]
        assert ids(get(acme_api, listing, received_to=written(at(30)))) == [str(early.pk)]
        assert ids(get(acme_api, listing, schema="handbook")) == [str(other.pk)]
        assert ids(get(acme_api, listing, decision="approve,block")) == [str(other.pk)]
        assert ids(get(acme_api, listing, transaction_id=late.transaction_id)) == [str(late.pk)]
    assert ids(get(acme_api, "labels", id=str(early.pk))) == [str(early.pk)]
    assert ids(get(acme_api, "labels", kind="legitimate")) == []


def test_what_no_index_answers_is_looked_for_in_so_many_rows_at_a_time(acme, acme_api, decided, settings):
    settings.LISTING_SCAN_LIMIT = 3
    [rare] = decided(acme, [0], Decision.BLOCK)
    decided(acme, range(1, 9))
    read = list(pages(acme_api, f"{address('transactions')}?decision=block"))
    assert [len(page) for page in read] == [0, 0, 1, *[0] * (len(read) - 3)]
    assert read[2][0]["id"] == str(rare.pk)


def test_a_page_has_the_fields_that_were_asked_for(acme, acme_api, decided):
    [row] = decided(acme, [0])
    assert get(acme_api, "transactions", fields="decision,id")["results"] == [{"id": str(row.pk), "decision": "review"}]
    assert get(acme_api, "reviews", fields="state")["results"] == [{"state": "open"}]
    assert acme_api.get(f"{address('reviews')}/{row.pk}?fields=id").json() == {"id": str(row.pk)}


@pytest.mark.parametrize("listing", LISTINGS)
def test_each_field_can_be_asked_for_alone(acme, acme_api, decided, listing):
    decided(acme, [0])
    [whole] = get(acme_api, listing)["results"]
    for name, value in whole.items():
        assert get(acme_api, listing, fields=name)["results"] == [{name: value}]


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_page_costs_as_many_queries_however_many_rows_it_has(acme, acme_api, decided, listing):
    decided(acme, range(2))
    with CaptureQueriesContext(connection) as few:
        get(acme_api, listing)
    decided(acme, range(8))
    with CaptureQueriesContext(connection) as many:
        get(acme_api, listing)
    assert len(many) == len(few)


@pytest.mark.parametrize(
    ("listing", "query", "index"),
    [
        ("transactions", {}, "transaction_of_client"),
        ("predictions", {}, "transaction_of_client"),
        ("reviews", {}, "review_of_client"),
        ("reviews", {"decided_from": "2026-01-01T00:00:00Z"}, "review_of_client_closed"),
        ("labels", {}, "label_of_client"),
    ],
)
def test_postgresql_reads_a_listing_by_its_index_without_sorting(acme_api, listing, query, index):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite plans otherwise.")
    with CaptureQueriesContext(connection) as captured:
        get(acme_api, listing, **query)
    statement = captured[-1]["sql"]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {statement}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    rows, _, _ = plan.partition("SubPlan")
    assert index in rows
    assert "Sort" not in rows


class TestReviews:
    @pytest.fixture
    def review(self, acme, decided):
        for code in ("stolen_card", "known_customer"):
            ReviewReason.objects.create(code=code, meaning=code)
        [row] = decided(acme, [0])
        return Review.objects.get(pk=row.pk)

    def told(self, api, review):
        return api.get(f"{address('reviews')}/{review.pk}").json()

    def test_an_open_review_tells_that_nobody_has_decided(self, acme_api, review):
        told = self.told(acme_api, review)
        assert (told["state"], told["decision"], told["opened_at"]) == ("open", "review", written(at(0)))
        assert (told["reason_code"], told["decided_by"], told["decided_at"]) == (None, None, None)

    def test_a_shop_learns_what_was_decided_when_and_why(self, acme_api, review, alice):
        labelling.close_review(review=review, is_fraud=True, reviewer=alice, code="stolen_card", note="they rang")
        told = self.told(acme_api, review)
        assert (told["state"], told["reason_code"], told["decided_by"]) == ("fraud", "stolen_card", "analyst")
        assert told["decided_at"] == written(Review.objects.get(pk=review.pk).closed_at)

    def test_it_never_learns_who_decided_what_they_wrote_or_a_second_opinion(self, acme_api, review, alice, sam):
        labelling.close_review(review=review, is_fraud=True, reviewer=alice, code="stolen_card", note="they rang")
        opinion = {"first": alice, "first_is_fraud": True, "second": sam, "is_fraud": False, "state": "disagreed"}
        SecondOpinion.objects.create(review=review, code="known_customer", note="I disagree", **opinion)
        text = (
            acme_api.get(address("reviews")).content.decode()
            + acme_api.get(f"{address('reviews')}/{review.pk}").content.decode()
        )
        for secret in ("alice", "sam", "they rang", "disagree", "known_customer", "legitimate", "second"):
            assert secret not in text

    def test_a_reopened_review_tells_no_decision_any_more(self, acme_api, review, alice):
        labelling.close_review(review=review, is_fraud=True, reviewer=alice, code="stolen_card")
        labelling.reopen_review(review=Review.objects.get(pk=review.pk), author=alice, reason="a mistake")
        told = self.told(acme_api, review)
        assert (told["state"], told["reason_code"], told["decided_at"]) == ("open", None, None)

    def test_a_decision_of_the_clock_says_so(self, acme_api, review):
        Review.objects.filter(pk=review.pk).update(state="legitimate", closed_at=at(5), decided_by_default=True)
        assert self.told(acme_api, review)["decided_by"] == "due_time"

    def test_decisions_since_a_time_come_in_their_order(self, acme, acme_api, decided):
        rows = decided(acme, range(4))
        for row, second in zip(rows, (50, 40, 30, 20), strict=True):
            Review.objects.filter(pk=row.pk).update(state="fraud", closed_at=at(second))
        since = f"{address('reviews')}?order=oldest&limit=1&decided_from={written(at(30))}"
        assert [row["id"] for page in pages(acme_api, since) for row in page] == [
            str(rows[place].pk) for place in (2, 1, 0)
        ]


def test_labels_of_analysts_are_not_among_those_of_the_client(acme, acme_api, decided):
    [row] = decided(acme, [0])
    author = User.objects.create_user("bo")
    labelling.add_label(transaction_id=row.pk, is_fraud=False, source="analyst", author=author, reason="a secret")
    [told] = get(acme_api, "labels")["results"]
    assert (told["id"], told["kind"], told["source"], told["amount"]) == (str(row.pk), "fraud", "client", None)


class TestHeaders:
    def test_an_answer_that_a_client_has_is_not_sent_again(self, acme, acme_api, decided):
        [row] = decided(acme, [0])
        first = acme_api.get(f"{address('reviews')}/{row.pk}")
        assert first["Cache-Control"] == "private, no-cache"
        again = acme_api.get(f"{address('reviews')}/{row.pk}", headers={"If-None-Match": first["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        Review.objects.filter(pk=row.pk).update(state="fraud", closed_at=at(5))
        changed = acme_api.get(f"{address('reviews')}/{row.pk}", headers={"If-None-Match": first["ETag"]})
        assert changed.status_code == 200
        assert changed["ETag"] != first["ETag"]

    def test_nobody_stores_a_page(self, acme_api):
        assert acme_api.get(address("transactions"))["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("listing", LISTINGS)
    def test_head_answers_as_get_without_a_body(self, acme_api, listing):
        response = acme_api.head(address(listing))
        assert (response.status_code, response.content) == (200, b"")

    def test_options_tells_the_methods(self, acme_api):
        assert acme_api.options(address("transactions"))["Allow"] == "GET, HEAD, OPTIONS"
        assert acme_api.options(address("labels"))["Allow"] == "GET, POST, HEAD, OPTIONS"
        assert acme_api.post(address("transactions")).status_code == 405
