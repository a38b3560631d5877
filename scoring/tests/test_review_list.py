"""The list of reviews: what it is ordered by, what it tells of a case, what it can be filtered and searched by."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from scoring.decisions import Decision
from scoring.lists.keys import subject_of
from scoring.models import Review, ReviewQueue
from scoring.pages import bounded
from scoring.policies import versions
from scoring.policies.document import Document, Rule, State

pytestmark = pytest.mark.django_db
LIST = reverse("admin:scoring_review_changelist")


@pytest.fixture
def analyst(client, alice):
    client.force_login(alice)
    return client


def shown(http, **asked):
    """The keys of the rows, in order."""
    response = http.get(LIST, asked)
    assert response.status_code == 200, asked
    return [row.pk for row in response.context["cl"].result_list]


def changed(review, **values):
    Review.objects.filter(pk=review.pk).update(**values)
    return review.pk


def test_the_largest_expected_loss_comes_first(analyst, alert):
    likely, costly, neither = alert(0.9, amount=10), alert(0.5, amount=1_000), alert(0.6, amount=5)
    assert shown(analyst) == [costly.pk, likely.pk, neither.pk]
    assert shown(analyst, o="-2") == [likely.pk, neither.pk, costly.pk], "another order is a click away"


def test_a_row_tells_the_case_at_a_glance(analyst, alert):
    review = alert(0.5, Decision.BLOCK, amount=1_000)
    prediction = review.prediction
    prediction.reasons[0]["text"] = "Principal component 14: -9.1; 99 % are at least -2.4"
    prediction.evidence = {"basis": "rule", "rules": [{"rule": "large", "action": "block", "state": "active"}]}
    prediction.save()
    queue = ReviewQueue.objects.create(name="Large amounts")
    now = timezone.now()
    changed(
        review,
        card="0123456789abcdef",
        queue=queue,
        opened_at=now - timedelta(hours=3),
        due_at=now - timedelta(minutes=8),
    )
    page = analyst.get(LIST).content.decode()
    for told in ("500.00", "1,000.00", "0.5000", ">block<", ">large<", "99 % are at least -2.4", "01234567…"):
        assert told in page, told
    for told in (">3 h<", "8 min late", "Large amounts", "Acme"):
        assert told in page, told


def test_it_is_filtered_by_what_a_case_is(analyst, alert, globex, alice, sam):
    now = timezone.now()
    queue = ReviewQueue.objects.create(name="Large")
    plain = alert(0.5, amount=20)
    ours, theirs = {"claimed_by": alice}, {"claimed_by": sam}
    until = {"claimed_until": now + timedelta(minutes=5)}
    special = {
        "client": (globex.pk, alert(0.6, client=globex, amount=20)),
        "schema": ("payments", alert(0.6, schema="payments", amount=20)),
        "decision": ("block", alert(0.6, Decision.BLOCK, amount=20)),
        "amount": ("1000..5000", alert(0.6, amount=1_000)),
    }
    by_column: dict[str, tuple[Any, dict[str, Any]]] = {
        "reason": ("V4", {"reason": "V4"}),
        "rule": ("big_one", {"rules": " other big_one "}),
        "age": ("over-4h", {"opened_at": now - timedelta(hours=5)}),
        "due": ("late", {"due_at": now - timedelta(minutes=1)}),
        "queue": (queue.pk, {"queue": queue}),
        "claim": ("others", theirs | until),
    }
    for name, (value, values) in by_column.items():
        review = alert(0.6, amount=20)
        changed(review, **values)
        special[name] = (value, review)
    for name, (value, review) in special.items():
        assert shown(analyst, **{name: value}) == [review.pk], name
    mine = alert(0.6, amount=20)
    changed(mine, **ours | until)
    assert shown(analyst, claim="mine") == [mine.pk]
    free = shown(analyst, claim="free")
    assert plain.pk in free
    assert mine.pk not in free
    assert shown(analyst, rule="big") == [], "a part of a rule's name is another rule"
    assert shown(analyst, due="1d") == [special["due"][1].pk]


def test_the_rules_of_live_policies_and_the_fields_of_models_are_offered(analyst, champion, alert, rita):
    alert(0.9)
    rule = Rule(name="large", when="Amount > 100", action=Decision.REVIEW, state=State.ACTIVE)
    versions.activate(versions.draft(schema="ulb", by="rita", content=Document(rules=[rule])), by="rita")
    page = analyst.get(LIST).content.decode()
    assert "?rule=large" in page
    assert "?reason=V14" in page


def test_wrong_values_of_filters_are_told_or_find_nothing(analyst, alert):
    alert(0.9)
    for name in ("client", "queue", "reviewer"):
        for value in ("x", "9" * 30, "-1"):
            assert analyst.get(LIST, {name: value}).status_code in (200, 302), (name, value)
    for name in ("amount", "age", "due", "claim", "rule", "reason", "decision", "schema"):
        assert analyst.get(LIST, {name: "%_'\""}).status_code in (200, 302), name


def test_a_card_is_found_by_what_clients_send_and_by_what_the_list_shows(analyst, alert):
    first, second = alert(0.9, schema="payments"), alert(0.8, schema="payments", transaction_id="card-17-a")
    [token] = subject_of("payments", "card").keys_of({"card": "card-17"}, [first.client_id])
    changed(first, card=token)
    alert(0.7, schema="payments")
    assert shown(analyst, q=f"{token[:8]}…") == [first.pk]
    assert shown(analyst, q=token.upper()) == [first.pk]
    assert shown(analyst, q="card-17") == [first.pk, second.pk], "and so is an id that begins with it"


def test_a_card_is_found_by_what_clients_send_only_by_those_who_see_personal_values(client, mel, alert):
    review = alert(0.9, schema="payments")
    [token] = subject_of("payments", "card").keys_of({"card": "card-17"}, [review.client_id])
    changed(review, card=token)
    client.force_login(mel)
    assert shown(client, q="card-17") == []


def test_the_list_costs_the_same_number_of_queries_for_more_rows(analyst, alert):
    alert(0.9)
    shown(analyst)
    with CaptureQueriesContext(
        connection,
    ) as few:
        shown(analyst)
    for _ in range(4):
        alert(0.8)
    with CaptureQueriesContext(connection) as many:
        shown(analyst)
    assert len(many) == len(few)


def test_filters_look_at_no_other_table(analyst, alert):
    """A join with all transactions and predictions would take a second at 100,000 open reviews."""
    alert(0.9)
    with CaptureQueriesContext(connection) as queries:
        shown(analyst, rule="large", reason="V14", schema="ulb", amount="0..50", decision="review")
    counts = [each["sql"] for each in queries if "COUNT(*)" in each["sql"] and "large" in each["sql"]]
    assert len(counts) == 1
    assert "JOIN" not in counts[0]


def test_a_long_list_is_counted_up_to_a_limit_and_says_that_there_may_be_more(analyst, alert, monkeypatch):
    monkeypatch.setattr(bounded, "COUNTED", 2)
    alert(0.9)
    assert "1 review\n" in analyst.get(LIST).content.decode()
    for _ in range(2):
        alert(0.8)
    page = analyst.get(LIST).content.decode()
    assert "2 or more reviews" in page
    assert "2 or more results" in page
