"""Queues of reviews: routing by expression, skill, how they stand, and routing again."""

import time
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, submission
from scoring.clients.models import ClientOfPerson
from scoring.models import Decision, Pending, Review, ReviewQueue
from scoring.policies import versions
from scoring.policies.document import Document, Rule, Segment, State
from scoring.reviews import rerouting
from scoring.worker import batches, pending, predictor, routing

pytestmark = pytest.mark.django_db
LIST = reverse("admin:scoring_review_changelist")
QUEUES = reverse("admin:scoring_reviewqueue_changelist")
REROUTE = reverse("admin:scoring_reviewqueue_reroute")


def queue(name, expression="", **changes):
    return ReviewQueue.objects.create(name=name, expression=expression, **changes)


@pytest.fixture
def pay(champion, acme):
    """Score payments in a worker that has just looked at the queues. Gives the queues of their reviews."""

    def of(*amounts, later=False):
        loaded = predictor.refresh("ulb")
        sent = [submission(acme.pk, fraudulent_payload(Amount=amount)) for amount in amounts]
        if later:
            for each in sent:
                pending.accept(submission=each)
            pending.score(transaction_ids=list(Pending.objects.values_list("pk", flat=True)), predictor=loaded)
        else:
            batches.score_batch(submissions=sent, predictor=loaded, started_at=time.time())
        found = {review.amount: review.queue for review in Review.objects.select_related("queue")}
        return [found[amount] and found[amount].name for amount in amounts]

    return of


@pytest.mark.parametrize("later", [False, True])
def test_a_review_goes_to_the_first_queue_whose_expression_is_true_of_it(pay, later):
    queue("Rest", position=9)
    queue("Large", "Amount > 800.0", position=1, due_minutes=30)
    queue("Sleeping", "Amount > 1.0", position=0, is_active=False)
    queue("Costly", "expected_loss > 100.0 && fraud_score > 0.5", position=2)
    queue("Supervisors", is_for_supervisors=True)
    assert pay(900.0, 300.0, 2.5, later=later) == ["Large", "Costly", "Rest"]
    due = {review.amount: review.due_at and review.due_at - review.opened_at for review in Review.objects.all()}
    assert due == {900.0: timedelta(minutes=30), 300.0: None, 2.5: None}


def test_without_a_queue_that_asks_for_it_a_review_has_none(pay):
    assert pay(2.5) == [None]
    queue("Large", "Amount > 1000.0")
    assert pay(3.5) == [None]


def test_rules_and_segments_route(pay):
    policy = Document(
        rules=[Rule(name="big", when="Amount > 900", action=Decision.REVIEW, state=State.ACTIVE)],
        segments=[Segment(name="small", when="Amount < 10", review=0.01, block=0.02)],
        constants={"floor": 100.0},
    )
    versions.activate(versions.draft(schema="ulb", by="rita", content=policy), by="rita")
    queue("By rule", '"big" in rules', position=1)
    queue("By segment", 'segment == "small"', position=2)
    queue("By constant", 'Amount > floor && schema == "ulb" && decision != "approve"', position=3)
    assert pay(901.0, 9.0, 150.0, 50.0) == ["By rule", "By segment", "By constant", None]


def test_a_queue_follows_its_change_and_a_faulty_expression_is_passed_over_and_counted(pay):
    broken = queue("Broken", '1.0 / (Amount - Amount) > 0.0 && timestamp("x") < event_time', position=0)
    queue("Unreadable", "Amount >", position=1)
    queue("Of another schema", "merchant == 'x'", position=2)
    queue("Rest", position=3)
    assert pay(1.5, 2.5) == ["Rest", "Rest"]
    routing.count_failures(predictor.current("ulb").router)
    broken.refresh_from_db()
    assert broken.failures == 2
    ReviewQueue.objects.filter(name="Rest").update(expression="Amount > 100.0")
    assert pay(3.5) == [None]


def test_the_queues_cost_a_batch_no_query(champion, acme):
    queue("Large", "Amount > 500.0")
    loaded = predictor.refresh("ulb")
    sent = [submission(acme.pk, fraudulent_payload(Amount=900.0))]
    with CaptureQueriesContext(connection) as queries:
        batches.score_batch(submissions=sent, predictor=loaded, started_at=time.time())
    assert Review.objects.get().queue.name == "Large"
    assert not [each for each in queries if 'FROM "scoring_reviewqueue"' in each["sql"]]


def saved(client, expression, **changes):
    given = {"name": "Large", "position": 1, "is_active": "on", "expression": expression, "when_due": ""}
    return client.post(reverse("admin:scoring_reviewqueue_add"), given | changes, follow=True)


@pytest.mark.parametrize("person", ["sue", "rita"])
def test_supervisors_and_risk_managers_make_queues_whose_expressions_are_checked(client, person, request):
    client.force_login(request.getfixturevalue(person))
    page = saved(client, "Amunt > 100.0").content.decode()
    assert "Did you mean Amount?" in page
    assert "Schema ulb" in page
    assert not ReviewQueue.objects.exists()
    page = saved(client, "Amount > 100.0").content.decode()
    assert "The queue takes no reviews of" in page
    assert ReviewQueue.objects.get().expression == "Amount > 100.0"
    saved(client, "fraud_score > 0.9", name="Every schema")
    assert ReviewQueue.objects.count() == 2


@pytest.mark.parametrize("person", ["alice", "mel", "audrey", "otto"])
def test_nobody_else_changes_queues(client, person, request):
    client.force_login(request.getfixturevalue(person))
    assert saved(client, "").status_code == 403
    assert client.post(REROUTE).status_code == 403
    assert not ReviewQueue.objects.exists()


def shown(client, **asked):
    return {row.pk for row in client.get(LIST, asked).context["cl"].result_list}


def put(review, to, **changes):
    Review.objects.filter(pk=review.pk).update(queue=to, **changes)
    return review.pk


def test_analysts_see_and_are_given_only_the_queues_of_their_groups(client, alice, sue, audrey, alert):
    experts = Group.objects.create(name="Experts")
    of_experts, of_all = queue("Experts only"), queue("For all")
    of_experts.groups.add(experts)
    escalated = put(alert(0.99), queue("Supervisors", is_for_supervisors=True))
    special, common, without = put(alert(0.9), of_experts), put(alert(0.8), of_all), alert(0.7).pk
    client.force_login(alice)
    assert shown(client) == {common, without}
    following = client.get(reverse("admin:scoring_review_next"))["Location"]
    assert str(common) in following
    assert client.get(reverse("admin:scoring_review_change", args=[special])).status_code == 302
    assert "Experts only" not in client.get(LIST).content.decode()
    assert client.get(reverse("admin:scoring_review_open")).json()["open"] == 2
    alice.groups.add(experts)
    assert shown(client) == {special, common, without}
    for person in (sue, audrey):
        client.force_login(person)
        assert shown(client) == {escalated, special, common, without}


def test_each_queue_tells_how_many_wait_the_oldest_and_how_many_are_late(client, alice, alert):
    now = timezone.now()
    large = queue("Large")
    queue("Empty", position=1)
    put(alert(0.9), large, opened_at=now - timedelta(hours=5), due_at=now - timedelta(minutes=1))
    put(alert(0.9), large, due_at=now + timedelta(hours=1))
    alert(0.5)
    client.force_login(alice)
    page = client.get(LIST, {"schema": "ulb"}).content.decode()
    assert f'href="{LIST}?queue={large.pk}&amp;schema=ulb"' in page, "a tab keeps the other filters"
    told = client.get(reverse("admin:scoring_review_open"), {"queues": "1"}).json()["queues"]
    by_name = {row["name"]: (row["open"], row["oldest"], row["late"]) for row in told}
    assert by_name == {"Large": (2, "5 h", 1), "Empty": (0, "", 0), "No queue": (1, "1 min", 0)}
    assert len(shown(client, queue=large.pk)) == 2
    assert len(shown(client, queue="none")) == 1


def test_the_queues_are_counted_once_for_several_people_and_each_is_told_those_of_their_clients(
    client, alice, sam, acme, globex, alert, settings
):
    settings.QUEUE_COUNTS_S = 60.0
    cache.clear()
    ReviewQueue.objects.create(name="Shops")
    for each in (acme, acme, globex):
        alert(0.9, client=each)
    ClientOfPerson.objects.create(person=sam, client=globex)
    told = {}
    for person in (alice, sam):
        client.force_login(person)
        with CaptureQueriesContext(connection) as queries:
            counts = client.get(reverse("admin:scoring_review_open"), {"queues": "1"}).json()["queues"]
        counted = sum("GROUP BY" in query["sql"] for query in queries)
        told[person.username] = ([(row["name"], row["open"]) for row in counts], counted)
    cache.clear()
    assert told == {
        "alice": ([("Shops", 0), ("No queue", 3)], 1),
        "sam": ([("Shops", 0), ("No queue", 1)], 0),
    }


def test_open_reviews_are_routed_again_on_request(client, sue, alice, pay):
    old = queue("Old")
    pay(902.0, 903.0, 904.0, 5.0)
    keys = {review.amount: review.pk for review in Review.objects.all()}
    Review.objects.filter(pk=keys[903.0]).update(claimed_by=alice, claimed_until=timezone.now() + timedelta(minutes=5))
    put(Review.objects.get(pk=keys[904.0]), queue("Supervisors", is_for_supervisors=True))
    queue("Large", "Amount > 500.0", position=0, due_minutes=60)
    ReviewQueue.objects.filter(pk=old.pk).update(position=5)
    client.force_login(sue)
    assert "2 open reviews will be routed again" in client.get(REROUTE).content.decode()
    began = timezone.now()
    assert rerouting.reroute() == 1
    found = {review.amount: review for review in Review.objects.select_related("queue")}
    assert {amount: review.queue.name for amount, review in found.items()} == {
        902.0: "Large", 903.0: "Old", 904.0: "Supervisors", 5.0: "Old",
    }  # fmt: skip
    assert found[902.0].due_at >= began + timedelta(minutes=60), "as long after the move as a new one has"
    assert rerouting.reroute() == 0
