"""Labels that clients send: stored once, found again, in their order, and by their transactions' client alone."""

import random
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from fraudsite.audit.models import Entry
from fraudsite.testing import api_of
from scoring.models import Label, Review, Transaction, WaitingLabel
from scoring.reviews import bulk, incoming, labelling, tasks, verdicts
from training.core.card_numbers import holds_card_number
from training.core.exceptions import StaleHistory

pytestmark = pytest.mark.django_db

YESTERDAY = timezone.now() - timedelta(days=1)


def said(row=None, kind="fraud", **more):
    """What a client says of a transaction, here by our id."""
    which = {"id": str(row.pk)} if row else {}
    return which | {"kind": kind, "event_time": YESTERDAY.isoformat()} | more


@pytest.fixture
def label(post):
    """Post a label, and more fields; or a list of labels."""

    def send(body):
        if isinstance(body, list):
            response = post({"labels": body}, path="/api/v1/labels/batch")
            assert response.status_code == 200, response.content
            return response.json()["results"]
        return post(body, path="/api/v1/labels")

    return send


def verdict(row):
    held = labelling.latest_label(row)
    return held.is_fraud if held else None


def test_a_label_is_stored_by_our_id_and_by_the_clients(label, transaction):
    row = transaction(transaction_id="order-1")
    first = label(said(row, amount=12.5, reference="case-1"))
    assert (first.status_code, first.json()) == (201, {"status": "stored", "id": str(row.pk), "until": None})
    second = label(said(transaction_id="order-1", kind="chargeback_won", source="chargeback"))
    assert second.status_code == 201
    stored = Label.objects.order_by("pk").values_list("kind", "source", "is_fraud", "amount", "reference")
    assert list(stored) == [
        ("fraud", "client", True, 12.5, "case-1"),
        ("chargeback_won", "chargeback", False, None, ""),
    ]
    assert Label.objects.first().event_time == YESTERDAY


@pytest.mark.parametrize(
    ("kind", "source", "word"),
    [
        ("fraud", "client", True),
        ("legitimate", "client", False),
        ("disputed", "chargeback", None),
        ("friendly_fraud", "chargeback", False),
        ("chargeback_won", "chargeback", False),
        ("chargeback_lost", "chargeback", True),
        ("early_fraud_warning", "network", True),
        ("retracted", "client", None),
    ],
)
def test_each_kind_has_its_usual_source_and_its_meaning(label, transaction, kind, source, word):
    assert label(said(transaction(), kind)).status_code == 201
    stored = Label.objects.get()
    assert (stored.source, stored.is_fraud, stored.verdict) == (source, word, word)


def test_many_are_stored_in_order_and_a_refused_one_keeps_none_of_the_others(label, transaction):
    rows = [transaction(), transaction(transaction_id="order-2")]
    results = label(
        [said(rows[0]), said(rows[1], "perhaps"), said(transaction_id="order-2"), said(rows[0], "legitimate"), 7]
    )
    assert [result["status"] for result in results] == [201, 400, 201, 201, 400]
    assert results[1]["problem"]["errors"][0]["pointer"] == "/kind"
    assert [verdict(row) for row in rows] == [False, True]


@pytest.mark.parametrize("reference", [{}, {"reference": "case-1"}])
def test_a_repeat_is_recognised_and_stored_once(label, transaction, reference):
    row = transaction(transaction_id="order-1")
    body = said(row, **reference)
    assert label(body).status_code == 201
    again = label(said(transaction_id="order-1", **reference))
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert [result["status"] for result in label([body, body])] == [200, 200]
    assert Label.objects.count() == 1


def test_a_reference_that_said_something_else_is_refused(label, transaction):
    row = transaction()
    label(said(row, reference="case-1"))
    refused = label(said(row, "legitimate", reference="case-1"))
    assert (refused.status_code, refused.json()["title"]) == (409, "Label reference already used")
    assert verdict(row) is True


def test_a_reversal_is_one_more_label(label, transaction):
    row = transaction()
    label(said(row, "chargeback_lost"))
    later = (YESTERDAY + timedelta(hours=1)).isoformat()
    label(said(row, "retracted", source="chargeback", event_time=later))
    assert verdict(row) is None
    assert list(row.labels.order_by("pk").values_list("is_fraud", "verdict")) == [(True, True), (None, None)]


def test_a_word_that_arrives_after_a_later_one_of_its_source_does_not_count(label, transaction):
    row = transaction()
    label(said(row, "chargeback_won"))
    label(said(row, "disputed", event_time=(YESTERDAY - timedelta(days=20)).isoformat()))
    assert verdict(row) is False


def test_sources_are_heard_in_their_order(label, transaction, alice):
    row = transaction()
    label(said(row, "legitimate", source="import"))
    assert verdict(row) is False
    label(said(row, "fraud"))
    assert verdict(row) is True
    label(said(row, "legitimate", source="network"))
    assert verdict(row) is False
    labelling.add_label(transaction_id=row.pk, is_fraud=True, source="analyst", author=alice, reason="She called.")
    label(said(row, "legitimate", source="network", event_time=timezone.now().isoformat()))
    assert verdict(row) is True, "a network does not outvote an analyst"
    label(said(row, "chargeback_won", event_time=timezone.now().isoformat()))
    assert verdict(row) is False, "of a chargeback and an analyst the latest counts"


def test_an_early_label_waits_for_its_transaction(label, transaction):
    early = said(transaction_id="order-1")
    assert (label(early).status_code, label(early).status_code) == (202, 200)
    assert label([early])[0]["label"]["until"] > timezone.now().isoformat()[:10]
    tasks.attach_labels()
    assert WaitingLabel.objects.count() == 1
    row = transaction(transaction_id="order-1")
    tasks.attach_labels()
    assert (verdict(row), WaitingLabel.objects.count()) == (True, 0)
    assert label(early).status_code == 200
    assert Label.objects.count() == 1


def test_a_reference_that_a_waiting_label_has_is_refused_with_another_content(label, transaction):
    early = said(transaction_id="order-9", reference="case-9")
    assert label(early).status_code == 202
    row = transaction(transaction_id="order-1")
    assert label(said(row, reference="case-9")).status_code == 409
    assert (
        label([early | {"kind": "legitimate"}, said(transaction_id="order-1", reference="case-9")])[1]["status"] == 409
    )
    late = transaction(transaction_id="order-9")
    assert label(early | {"kind": "legitimate"}).status_code == 409
    assert label(said(late, reference="case-9")).status_code == 201  # what waits says the same
    tasks.attach_labels()
    assert [(found.transaction, found.reference) for found in Label.objects.all()] == [(late, "case-9")]
    assert not WaitingLabel.objects.exists()


def test_an_early_label_is_dropped_after_its_time(label, transaction):
    label(said(transaction_id="order-1"))
    WaitingLabel.objects.update(expires_at=timezone.now())
    row = transaction(transaction_id="order-1")
    tasks.attach_labels()
    assert (verdict(row), WaitingLabel.objects.count()) == (None, 0)


def test_an_early_label_whose_transaction_came_in_time_is_kept_however_late_that_is_found(label, transaction):
    label(said(transaction_id="order-1"))
    row = transaction(transaction_id="order-1")
    WaitingLabel.objects.update(expires_at=timezone.now())
    tasks.attach_labels()
    assert (verdict(row), WaitingLabel.objects.count()) == (True, 0)


def test_early_labels_of_a_client_whose_histories_are_stale_wait_and_hold_up_no_other_client(
    label, acme, globex, transaction, monkeypatch, keys_of_the_test
):
    def refuse(*, statements):
        if statements[0].client_id == acme.pk:
            raise StaleHistory
        return add(statements=statements)

    early = said(transaction_id="order-1")
    label(early)
    api_of(globex).post("/api/v1/labels", early, content_type="application/json")
    ours, theirs = (transaction(transaction_id="order-1", client=client) for client in (acme, globex))
    add = bulk.add_labels
    with monkeypatch.context() as stale:
        stale.setattr(bulk, "add_labels", refuse)
        tasks.attach_labels()
    assert (verdict(ours), verdict(theirs)) == (None, True)
    tasks.attach_labels()
    assert (verdict(ours), WaitingLabel.objects.count()) == (True, 0)


def test_no_label_waits_where_the_operator_wants_none_to(label, settings):
    settings.LABEL_WAIT_DAYS = 0
    assert label(said(transaction_id="order-1")).json()["errors"][0]["code"] == "unknown_transaction"


def test_only_so_many_labels_of_a_client_wait_and_a_further_one_is_refused_with_the_remedy(
    label, globex, transaction, settings, keys_of_the_test
):
    settings.LABEL_WAITING_LIMIT = 2
    early = [said(transaction_id=f"order-{number}") for number in range(4)]
    assert [result["status"] for result in label([*early[:3], early[0]])] == [202, 202, 422, 200]
    assert label(early[1]).status_code == 200, "a repeat takes no room"
    [error] = label(early[3]).json()["errors"]
    assert (error["pointer"], error["code"]) == ("/transaction_id", "too_many_waiting")
    assert "Send the transaction first" in error["detail"]
    assert api_of(globex).post("/api/v1/labels", early[3], content_type="application/json").status_code == 202
    transaction(transaction_id="order-0")
    transaction(transaction_id="order-3")
    assert label(early[3]).status_code == 201, "whose transaction is there does not wait"
    tasks.attach_labels()
    assert label(early[2]).status_code == 202, "where one has come, there is room again"


def test_a_client_labels_none_but_its_own_transactions(label, transaction, globex, keys_of_the_test):
    row = transaction(transaction_id="order-1")
    theirs = api_of(globex)
    for body, status in ((said(row), 422), (said(transaction_id="order-1"), 202)):
        response = theirs.post("/api/v1/labels", body, content_type="application/json")
        assert response.status_code == status, "as if there were no such transaction"
    tasks.attach_labels()
    assert not Label.objects.exists()
    assert label(said(id=str(uuid4()))).json()["errors"][0]["pointer"] == "/id"


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"kind": None}, 400, "/kind"),
        ({"kind": "theft"}, 400, "/kind"),
        ({"kind": ["fraud"]}, 400, "/kind"),
        ({"source": "analyst"}, 400, "/source"),
        ({"event_time": None}, 400, "/event_time"),
        ({"event_time": "2026-01-31"}, 400, "/event_time"),
        ({"event_time": "9000-01-31T12:00:00Z"}, 422, "/event_time"),
        ({"amount": -1}, 400, "/amount"),
        ({"amount": True}, 400, "/amount"),
        ({"amount": 10**400}, 400, "/amount"),
        ({"amount": "12"}, 400, "/amount"),
        ({"reference": ""}, 400, "/reference"),
        ({"reference": "x" * 65}, 400, "/reference"),
        ({"reference": "4111 1111 1111 1111"}, 422, "/reference"),
        ({"id": "order-1"}, 400, "/id"),
        ({"transaction_id": "order-1"}, 400, "/transaction_id"),
        ({"id": None}, 400, "/transaction_id"),
        ({"id": None, "transaction_id": 7}, 400, "/transaction_id"),
        ({"verdict": True}, 400, "/verdict"),
    ],
)
def test_each_refusal_names_the_field_and_the_remedy(label, transaction, change, status, pointer):
    refused = label(said(transaction()) | change)
    assert refused.status_code == status, refused.content
    [error] = refused.json()["errors"]
    assert error["pointer"] == pointer
    assert error["detail"].endswith(".")
    assert not Label.objects.exists()


def test_a_list_must_be_one_of_labels(post, settings):
    settings.LABEL_BATCH_LIMIT = 2
    bodies: list[dict] = [{}, {"labels": []}, {"labels": [{}] * 3}, {"labels": {}}, {"labels": [{}], "more": 1}]
    for body in bodies:
        refused = post(body, path="/api/v1/labels/batch")
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/labels")


def test_an_open_review_stays_open_and_shows_what_the_client_said(client, alice, label, alert):
    review = alert(0.9)
    label(said(review.prediction.transaction, "early_fraud_warning", reference="tc40-77"))
    assert Review.objects.get().state == Review.State.OPEN
    client.force_login(alice)
    page = client.get(f"/admin/scoring/review/{review.pk}/change/").content.decode()
    assert "Early fraud warning" in page
    assert "tc40-77" in page


TEXTS = st.sampled_from(["order-1", "", "x" * 65, "4111111111111111", "a\0b", "analyst", "fraud"]) | st.text()
TIMES = st.datetimes(timezones=st.sampled_from([UTC, ZoneInfo("Asia/Kolkata")])).map(datetime.isoformat)
VALUES: st.SearchStrategy[Any] = TEXTS | TIMES | st.floats() | st.integers() | st.none() | st.booleans() | st.just([])
LABELS = st.fixed_dictionaries(
    {"kind": st.sampled_from(Label.Kind.values) | VALUES, "event_time": TIMES | VALUES},
    optional={
        "id": st.uuids().map(str) | VALUES,
        "transaction_id": TEXTS | VALUES,
        "source": st.sampled_from(Label.Source.values) | VALUES,
        "amount": st.floats(0, 1e6) | VALUES,
        "reference": TEXTS | VALUES,
        "more": VALUES,
    },
)


@given(LABELS)
def test_the_fast_way_reads_nothing_else_than_the_careful_one(body):
    now = timezone.now()
    if (fast := incoming._ordinary(body, now)) is not None:
        assert repr(fast) == repr(incoming._checked(body, now)), "equal, and of the same types"


@given(st.from_regex(incoming.ORDINARY_TIME, fullmatch=True))
def test_a_time_holds_no_card_number_whatever_its_digits(text):
    with suppress(ValueError):
        datetime.fromisoformat(text)
        assert not holds_card_number(text)


def test_an_ordinary_label_takes_the_fast_way():
    body = said(transaction_id="order-1", amount=12.5, reference="case-1")
    assert incoming._ordinary(body, timezone.now()) == incoming._checked(body, timezone.now())


def test_one_entry_of_the_audit_trail_tells_of_each_call(label, transaction):
    rows = [transaction() for _ in range(3)]
    label([said(row) for row in rows])
    label([said(row) for row in rows])
    [entry] = Entry.objects.filter(action="labelled")
    assert entry.detail == f"3 by a client; the first is of transaction {rows[0].pk}"


def test_what_was_known_at_a_time_is_what_all_labels_until_then_say(label, transaction):
    """A property: the stored verdicts against a slow reading of all labels, for random labels and times."""
    drawn = random.Random(7)  # noqa: S311
    rows = [transaction() for _ in range(5)]
    kinds = [kind.value for kind in Label.Kind]
    for _ in range(30):
        moment = YESTERDAY - timedelta(hours=drawn.randrange(12))
        sources = ("client", "network", "chargeback", "import")
        bodies = [
            said(drawn.choice(rows), drawn.choice(kinds), source=drawn.choice(sources), event_time=moment.isoformat())
            for _ in range(4)
        ]
        assert {result["status"] for result in label(bodies)} <= {200, 201}
    times = sorted(Label.objects.values_list("created_at", flat=True))
    for at in [times[0] - timedelta(seconds=1), *drawn.sample(times, 20), timezone.now()]:
        assert verdicts.known(Label.objects.all(), at=at) == slowly_known(at)
    assert verdicts.known(Label.objects.all()) == slowly_known(timezone.now() + timedelta(days=1))


def slowly_known(at: datetime):
    found = {}
    for key in Transaction.objects.values_list("pk", flat=True):
        labels = [label for label in Label.objects.filter(transaction=key).order_by("pk") if label.created_at <= at]
        for sources in (("chargeback", "analyst"), ("network",), ("client",), ("import",)):
            latest = []
            for source in sources:
                words = [label for label in labels if label.source == source]
                last = max((label.event_time for label in words), default=None)
                latest += [label for label in words if label.event_time == last][-1:]
            if judged := [label for label in latest if label.is_fraud is not None]:
                found[key] = max(judged, key=lambda label: (label.event_time, label.pk)).is_fraud
                break
        else:
            if labels:
                found[key] = None
    return found


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("early", [False, True])
def test_of_two_posts_of_the_same_label_at_once_one_is_stored(acme_api, transaction, early):
    body = said(transaction_id="order-1")
    if not early:
        transaction(transaction_id="order-1")
    start, statuses = threading.Barrier(4), []

    def send():
        start.wait()
        try:
            statuses.append(acme_api.post("/api/v1/labels", body, content_type="application/json").status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 201, 202}
    assert Label.objects.count() + WaitingLabel.objects.count() == 1
