"""Working through the queue: the order of reviews, and that two analysts are not led to the same one."""

import re
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client as HttpClient
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import worker_environment
from scoring.models import Decision, Label, Prediction, Review
from scoring.reviews import labelling, queue

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")
NEXT = reverse("admin:scoring_review_next")
BLOCKED = "decision=block"


def address_of(review):
    return reverse("admin:scoring_review_change", args=[review.pk])


def at_work(user):
    """A browser in which somebody is logged in."""
    http = HttpClient()
    http.force_login(user)
    return http


def follow(http, address, word):
    return http.post(address, {"decide": word})["Location"]


@pytest.fixture
def bob(alice):
    user = User.objects.create_user("bob", is_staff=True)
    user.groups.set(alice.groups.all())
    return user


def test_skip_leads_to_the_next_and_does_not_come_back_to_what_was_skipped(client, alice, alert):
    first, second, third, fourth = (alert(score) for score in (0.9, 0.8, 0.7, 0.6))
    client.force_login(alice)
    assert follow(client, address_of(first), "skip") == address_of(second)
    assert follow(client, address_of(second), "fraud") == address_of(third)
    assert follow(client, address_of(third), "skip") == address_of(fourth)
    assert follow(client, address_of(fourth), "legitimate") == QUEUE
    assert "the 2 still open here are skipped" in client.get(QUEUE).content.decode()
    assert set(Review.objects.filter(state="open")) == {first, third}
    assert client.get(NEXT)["Location"] == address_of(first), "who begins anew sees them again"


def test_a_riskier_alert_that_arrives_meanwhile_is_next(client, alice, alert):
    first, _second = alert(0.9), alert(0.8)
    client.force_login(alice)
    arrived = alert(0.95)
    assert follow(client, address_of(first), "skip") == address_of(arrived)


@pytest.mark.parametrize("word", ["skip", "fraud", "legitimate"])
def test_the_filter_of_the_list_is_kept(client, alice, alert, word):
    first, _other, last = alert(0.9, Decision.BLOCK), alert(0.8), alert(0.7, Decision.BLOCK)
    client.force_login(alice)
    kept = f"?_changelist_filters={BLOCKED.replace('=', '%3D')}"
    assert f'href="{address_of(first)}{kept}"' in client.get(f"{QUEUE}?{BLOCKED}").content.decode()
    assert follow(client, address_of(first) + kept, word) == address_of(last) + kept
    assert follow(client, address_of(last) + kept, word) == f"{QUEUE}?{BLOCKED}"


def test_the_queue_of_one_schema_is_worked_through_alone(client, alice, alert):
    first, _, third = alert(0.9, schema="payments"), alert(0.8), alert(0.7, schema="payments")
    client.force_login(alice)
    page = client.get(QUEUE, {"schema": "payments"}).content.decode()
    assert page.count('name="_selected_action"') == 2
    assert follow(client, f"{address_of(first)}?_changelist_filters=schema%3Dpayments", "skip").startswith(
        address_of(third)
    )


def test_the_order_of_the_list_is_kept(client, alice, alert):
    small, large, middle = alert(0.9, amount=1), alert(0.8, amount=100), alert(0.7, amount=10)
    client.force_login(alice)
    by_amount = "o=-4"  # the fourth column, from the largest
    assert client.get(f"{NEXT}?{by_amount}")["Location"].startswith(address_of(large))
    following = follow(client, f"{address_of(large)}?_changelist_filters=o%3D-4", "skip")
    assert following.startswith(address_of(middle))
    assert follow(client, following, "fraud").startswith(address_of(small))


@pytest.mark.parametrize("filters", ["nonsense=1", "state=perhaps", "p=99", "opened_at__year=9999", "%00"])
def test_a_filter_that_is_none_leads_on_all_the_same(client, alice, alert, filters):
    first, second = alert(0.9), alert(0.8)
    client.force_login(alice)
    response = client.post(f"{address_of(first)}?_changelist_filters={filters}", {"decide": "fraud"})
    assert response.status_code == 302
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == ("fraud", "open")


def test_two_analysts_who_work_at_once_are_led_to_different_alerts(alice, bob, alert):
    first, second, third, fourth = (alert(score) for score in (0.9, 0.8, 0.7, 0.6))
    one, other = at_work(alice), at_work(bob)
    assert one.get(NEXT)["Location"] == address_of(first)
    assert other.get(NEXT)["Location"] == address_of(second)
    assert follow(one, address_of(first), "fraud") == address_of(third)
    assert follow(other, address_of(second), "skip") == address_of(fourth)
    assert follow(one, address_of(third), "skip") == address_of(second), "what Bob skipped is free for Alice"


def test_opening_a_review_claims_it_and_others_see_who_is_at_it(alice, bob, alert):
    first, second = alert(0.9), alert(0.8)
    one, other = at_work(alice), at_work(bob)
    one.get(address_of(first))
    assert "alice is at it" in other.get(QUEUE).content.decode()
    assert "alice is at this alert, until" in other.get(address_of(first)).content.decode()
    assert "is at this alert" not in one.get(address_of(first)).content.decode()
    assert other.get(NEXT)["Location"] == address_of(second)


def test_a_claim_expires(alice, bob, alert, settings):
    review = alert(0.9)
    assert queue.claim(review.pk, alice)
    assert not queue.claim(review.pk, bob)
    late = timezone.now() - timedelta(seconds=1)
    Review.objects.update(claimed_until=late)
    assert "is at it" not in at_work(bob).get(QUEUE).content.decode()
    assert queue.claim(review.pk, bob)
    settings.REVIEW_CLAIM_S = 0
    Review.objects.update(claimed_by=None)
    assert queue.claim(review.pk, alice)
    assert queue.claim(review.pk, bob), "without a time nobody is kept from anything"


def test_a_claim_keeps_nobody_from_deciding_and_ends_with_the_decision(alice, bob, alert):
    review = alert(0.9)
    at_work(alice).get(address_of(review))
    follow(at_work(bob), address_of(review), "fraud")
    review.refresh_from_db()
    assert (review.state, review.reviewer, review.claimed_by) == ("fraud", bob, None)
    late = at_work(alice).post(address_of(review), {"decide": "legitimate"}, follow=True).content.decode()
    assert "had been closed already" in late
    labelling.reopen_review(review=review, author=alice, reason="Look again.")
    assert queue.claim(review.pk, bob)


def test_who_finds_everything_with_others_is_told(alice, bob, alert):
    review = alert(0.9)
    at_work(alice).get(address_of(review))
    page = at_work(bob).get(NEXT, follow=True).content.decode()
    assert "the 1 still open here are skipped, or with others" in page


def test_an_ml_engineer_claims_and_skips_nothing(client, mel, alert):
    review = alert(0.9)
    client.force_login(mel)
    assert "Review the next" not in client.get(QUEUE).content.decode()
    client.get(address_of(review))
    client.post(address_of(review), {"decide": "skip"})
    assert client.get(NEXT).status_code == 403
    review.refresh_from_db()
    assert review.claimed_by is None


def test_many_who_ask_at_the_same_moment_get_an_alert_each(transactional_db, alice, alert):
    for score in (0.9, 0.8, 0.7, 0.6):
        alert(score)
    people = [User.objects.create_user(f"analyst-{number}") for number in range(4)]
    start, led = threading.Barrier(4), []

    def ask(user):
        start.wait()
        led.append(queue.claim_next(Review.objects.order_by("-fraud_score"), user, []))
        connection.close()

    threads = [threading.Thread(target=ask, args=[user]) for user in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(led) == 4
    assert set(led) == set(Review.objects.values_list("pk", flat=True))


def told(client, **asked):
    return client.get(reverse("admin:scoring_review_open"), asked).json()


def since_of(client, address=QUEUE):
    return re.search(r'data-since="([^"]+)"', client.get(address).content.decode())[1]


def test_the_number_of_open_reviews_can_be_asked_for(client, alice, alert):
    client.force_login(alice)
    assert told(client) == {"open": 0}
    alert(0.9)
    assert told(client) == {"open": 1}


def test_a_list_is_told_how_many_are_new_since_it_was_shown_under_its_filter(client, alice, alert):
    alert(0.9, Decision.BLOCK)
    client.force_login(alice)
    since = since_of(client)
    assert told(client, since=since) == {"open": 1, "new": 0}
    alert(0.8)
    alert(0.7, Decision.BLOCK)
    assert told(client, since=since) == {"open": 3, "new": 2}
    assert told(client, since=since, decision="block") == {"open": 3, "new": 1}
    assert told(client, since=since, state="fraud") == {"open": 3, "new": 0}
    assert told(client, since=since_of(client))["new"] == 0
    assert told(client, since="2026-01-01T00:00:00")["new"] == 3


def test_a_list_that_was_empty_hears_of_the_first(client, alice, alert):
    client.force_login(alice)
    since = since_of(client)
    alert(0.9)
    assert told(client, since=since)["new"] == 1


@pytest.mark.parametrize("since", ["", "yesterday", "2026-13-01", "\0", "9999-12-31T23:59:59-23:00"])
def test_a_time_that_is_none_counts_nothing_new(client, alice, since):
    client.force_login(alice)
    assert told(client, since=since) == {"open": 0}


def test_who_may_not_see_reviews_is_not_told_how_many_are_open(client, alice):
    alice.groups.clear()
    client.force_login(alice)
    assert client.get(reverse("admin:scoring_review_open")).status_code == 403


@pytest.mark.parametrize("word", [True, False])
def test_of_two_decisions_on_one_review_the_first_holds(alice, bob, alert, word):
    review = alert(0.9)
    assert labelling.close_review(review=review, is_fraud=True, reviewer=alice)
    assert not labelling.close_review(review=review, is_fraud=word, reviewer=bob)
    review.refresh_from_db()
    assert (review.state, review.reviewer) == ("fraud", alice)
    assert [label.author for label in review.prediction.transaction.labels.all()] == [alice]


def test_a_page_tells_each_reason_in_a_sentence_and_the_list_has_their_names(client, alice, alert):
    review = alert(0.9)
    sentence = "Since the card's latest purchase: 45 s; 99 % are at least 2 min"
    reasons = [{"feature": "pause_s", "contribution": 3.2, "text": sentence}, {"feature": "V14", "contribution": 0.8}]
    Prediction.objects.filter(pk=review.pk).update(reasons=reasons)
    client.force_login(alice)
    page = unescape(client.get(address_of(review)).content.decode())
    assert '<rect class="raised" x="40.0" width="10.0" height="12"/>' in page
    assert ' +0.80</td><th scope="row">V14</th>' in page
    assert f"<td>{sentence}</td>" in page
    listed = unescape(client.get(QUEUE).content.decode())
    assert f"<b>pause_s</b> {sentence}" in listed


# A web process that is killed when it writes the last row of what it posts.
KILLED = """
import os, signal, sys
import django
django.setup()
from django.contrib.admin.models import LogEntry
from django.db.models.signals import post_save
from django.test import Client
post_save.connect(lambda **_: os.kill(os.getpid(), signal.SIGKILL), sender=LogEntry, weak=False)
http = Client(SERVER_NAME="localhost")
http.cookies["sessionid"], seen, page = sys.argv[1:]
http.get(seen)
http.post(page, {"decide": "fraud", "note": "Stolen"})
"""


def killed_at(client, seen, page):
    command = [sys.executable, "-c", KILLED, client.cookies["sessionid"].value, seen, page]
    done = subprocess.run(command, env=worker_environment(), check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_decision_whose_process_is_killed_is_not_there_and_the_claim_ends(
    transactional_db, client, alice, sam, alert, settings
):
    review = alert(0.9)
    page = reverse("admin:scoring_review_change", args=[review.pk])
    client.force_login(alice)
    killed_at(client, page, page)
    review.refresh_from_db()
    assert (review.state, review.claimed_by) == ("open", alice)
    assert not Label.objects.exists()
    assert not queue.claim(review.pk, sam)
    Review.objects.update(claimed_until=timezone.now())  # REVIEW_CLAIM_S later
    assert queue.claim(review.pk, sam)
    client.post(page, {"decide": "fraud", "note": "Stolen"})
    assert Label.objects.get().reason == "Stolen"
    assert LogEntry.objects.filter(change_message__contains="Stolen").count() == 1


def test_an_undoing_whose_process_is_killed_leaves_the_decision(transactional_db, client, alice, alert):
    review = alert(0.9)
    page = reverse("admin:scoring_review_change", args=[review.pk])
    client.force_login(alice)
    client.post(page, {"decide": "fraud", "note": "Stolen"})
    undo = reverse("admin:scoring_label_undo", args=[Label.objects.get().act])
    killed_at(client, page, undo)
    review.refresh_from_db()
    assert (review.state, Label.objects.count()) == ("fraud", 1)
    client.post(undo)
    review.refresh_from_db()
    assert (review.state, Label.objects.count()) == ("open", 2)
    assert LogEntry.objects.filter(change_message__contains="Undone.").count() == 1
