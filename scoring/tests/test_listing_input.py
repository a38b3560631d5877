"""What listings refuse in a query, how they say so, and that nothing of it becomes a 500."""

from datetime import timedelta

import pytest
from django.utils import timezone

from fraudsite.testing import api_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("keys_of_the_test")]

LISTINGS = ("transactions", "predictions", "reviews", "labels")
CARD = "4111111111111111"


def refused(response, status=400, **codes):
    """Check that a problem names these parameters with these codes, and repeats no value."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert {error["parameter"]: error["code"] for error in problem["errors"]} == codes
    return problem


@pytest.mark.parametrize("listing", LISTINGS)
@pytest.mark.parametrize("limit", ["0", "-1", "1e9", "abc", "", "1001", "99999999999999999999", "1.0", " 1", "١", "\0"])
def test_a_limit_is_a_whole_number_within_bounds(acme_api, listing, limit):
    problem = refused(acme_api.get(f"/api/v1/{listing}", {"limit": limit}), limit="invalid_limit")
    assert "1 to 1,000" in problem["errors"][0]["detail"]


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_filter_that_is_not_known_is_refused_by_name(acme_api, listing):
    response = acme_api.get(f"/api/v1/{listing}", {"colour": "x", "offset": "5", "limit": "5"})
    problem = refused(response, colour="unknown_parameter", offset="unknown_parameter")
    assert "transaction_id" in problem["errors"][0]["detail"]


@pytest.mark.parametrize("address", ["transactions", "transactions/00000000-0000-0000-0000-000000000000", "reviews"])
def test_a_field_that_is_not_known_is_refused(acme_api, address):
    for fields in ("tokens", "id,tokens", "", "id,", "id, decision", "*", "__class__", "id\0"):
        refused(acme_api.get(f"/api/v1/{address}", {"fields": fields}), fields="unknown_field")


def test_a_single_row_takes_no_filters(acme_api):
    address = "/api/v1/reviews/00000000-0000-0000-0000-000000000000"
    refused(acme_api.get(address, {"state": "open"}), state="unknown_parameter")


@pytest.mark.parametrize(
    "query", ["limit=1&limit=1", "fields=id&fields=id", "cursor=a&cursor=b", "order=newest&order=oldest"]
)
def test_a_parameter_that_is_sent_twice_is_refused(acme_api, query):
    refused(acme_api.get(f"/api/v1/transactions?{query}"), **{query.split("=")[0]: "duplicate_parameter"})


@pytest.mark.parametrize(
    "moment",
    [
        *("2026-01-31T12:00:00", "2026-01-31", "yesterday", "", "1769860800", "2026-13-01T00:00:00Z"),
        *("2026-01-31 12:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-31T12:00:00Z\0"),
        *("NaN", "١" * 10),
    ],
)
def test_a_time_has_its_offset(acme_api, moment):
    problem = refused(acme_api.get("/api/v1/transactions", {"received_from": moment}), received_from="invalid_time")
    assert "2026-01-31T12:00:00Z" in problem["errors"][0]["detail"]


def test_a_plus_that_became_a_space_is_explained(acme_api):
    response = acme_api.get("/api/v1/transactions?received_to=2026-01-31T12:00:00+01:00")
    assert "%2B" in refused(response, received_to="invalid_time")["errors"][0]["detail"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_the_ends_of_time_are_times(acme_api, moment):
    for name in ("received_from", "received_to"):
        assert acme_api.get("/api/v1/transactions", {name: moment}).status_code == 200


@pytest.mark.parametrize("name", ["schema", "decision", "state", "order"])
@pytest.mark.parametrize("value", ["", "nothing", "ulb,", "OPEN", "open;scored", "\0", "x" * 10_000])
def test_a_value_that_is_not_known_is_refused(acme_api, name, value):
    refused(acme_api.get("/api/v1/transactions", {name: value}), **{name: "unknown_value"})


def test_a_value_may_be_sent_over_and_over(acme_api):
    for name, value in {"schema": "ulb", "decision": "block", "state": "scored"}.items():
        query = {name: ",".join([value] * 2_000)}
        assert acme_api.get("/api/v1/transactions", query).status_code == 200, name


@pytest.mark.parametrize("value", ["", "a\0b", "x" * 65, "a\nb", "\ud7ff\u200b"])
def test_an_id_is_a_text_that_a_transaction_may_have(acme_api, value):
    for listing in LISTINGS:
        refused(acme_api.get(f"/api/v1/{listing}", {"transaction_id": value}), transaction_id="invalid_id")


@pytest.mark.parametrize("value", ["", "17", "x" * 10_000, "\0"])
def test_an_id_of_ours_is_a_uuid(acme_api, value):
    refused(acme_api.get("/api/v1/labels", {"id": value}), id="invalid_id")


def test_card_numbers_are_refused_and_not_repeated(acme_api):
    for query in ({"transaction_id": CARD}, {CARD: "1"}, {"note": CARD}):
        response = acme_api.get("/api/v1/transactions", query)
        assert response.status_code == 422
        assert CARD not in response.content.decode()


class TestCursors:
    @pytest.fixture
    def cursor(self, acme_api, transaction):
        for second in range(4):
            transaction(received_at=timezone.now() - timedelta(seconds=second))
        following = acme_api.get("/api/v1/transactions", {"limit": "1", "state": "unscored"}).json()["next"]
        return following.partition("cursor=")[2].split("&")[0]

    def get(self, api, cursor, listing="transactions", **query):
        return api.get(f"/api/v1/{listing}", {"state": "unscored", "cursor": cursor} | query)

    def test_a_cursor_is_good_with_another_limit_and_other_fields(self, acme_api, cursor):
        assert self.get(acme_api, cursor, limit="3", fields="id").status_code == 200

    def test_that_of_another_client_is_refused(self, globex_api, cursor):
        refused(self.get(globex_api, cursor), cursor="cursor_of_another_listing")

    def test_another_key_of_the_client_goes_on(self, acme, acme_api, cursor):
        assert self.get(api_of(acme), cursor).status_code == 200

    @pytest.mark.parametrize("query", [{"schema": "ulb"}, {"state": "waiting"}, {"order": "oldest"}])
    def test_that_of_other_filters_is_refused(self, acme_api, cursor, query):
        refused(self.get(acme_api, cursor, **query), cursor="cursor_of_another_listing")

    @pytest.mark.parametrize("listing", ["predictions", "reviews", "labels"])
    def test_that_of_another_listing_is_refused(self, acme_api, cursor, listing):
        refused(acme_api.get(f"/api/v1/{listing}", {"cursor": cursor}), cursor="cursor_of_another_listing")

    def test_one_that_was_changed_anywhere_is_refused(self, acme_api, cursor):
        for place in range(0, len(cursor), 7):
            changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
            refused(self.get(acme_api, changed), cursor="invalid_cursor")

    @pytest.mark.parametrize("made_up", ["", "a", ".", "WyJhIl0.x", "\0", "é", "x" * 10_000, "null", "W10"])
    def test_one_that_was_made_up_is_refused(self, acme_api, made_up):
        refused(self.get(acme_api, made_up), cursor="invalid_cursor")
