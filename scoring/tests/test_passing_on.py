"""Claims that last while somebody looks, and reviews that are released, handed over, escalated and taken over."""

import random
import threading
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client as HttpClient
from django.urls import reverse
from django.utils import timezone

from scoring.models import Label, Review, ReviewQueue
from scoring.reviews import labelling, queue

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")
NEXT = reverse("admin:scoring_review_next")


def address_of(review, name="change"):
    return reverse(f"admin:scoring_review_{name}", args=[review.pk])


def at_work(user):
    http = HttpClient()
    http.force_login(user)
    return http


def person(name, role="Fraud analyst"):
    user = User.objects.create_user(name, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user


def text(response):
    return unescape(response.content.decode())


def let_pass(seconds):
    """Let time pass for all claims and hand-overs."""
    gone = timedelta(seconds=seconds)
    Review.objects.update(claimed_until=F("claimed_until") - gone, assigned_until=F("assigned_until") - gone)


@pytest.fixture
def bob(alice):
    return person("bob")


@pytest.fixture
def sue(alice):
    """A supervisor."""
    return person("sue", "Supervisor")


def renewed(http, review):
    return http.post(address_of(review, "claim")).json()


def test_a_page_that_is_looked_at_renews_its_claim_and_others_are_led_elsewhere(alice, bob, alert, settings):
    first, second = alert(0.9), alert(0.8)
    one, other = at_work(alice), at_work(bob)
    one.get(address_of(first))
    for _ in range(3):
        let_pass(settings.REVIEW_CLAIM_S - 1)
        assert renewed(one, first)["mine"]
    assert other.get(NEXT)["Location"] == address_of(second)


def test_a_page_is_told_who_took_the_alert_and_who_closed_it(alice, bob, alert, settings):
    review = alert(0.9)
    one, other = at_work(alice), at_work(bob)
    one.get(address_of(review))
    let_pass(settings.REVIEW_CLAIM_S)
    other.get(address_of(review))
    assert "bob is at this alert" in renewed(one, review)["message"]
    labelling.close_review(review=review, is_fraud=True, reviewer=bob)
    told = renewed(one, review)
    assert (told["mine"], told["message"]) == (False, "bob has closed this alert: confirmed fraud.")


def test_leaving_the_page_ends_the_claim_but_not_that_of_a_page_opened_since(alice, alert):
    review = alert(0.9)
    http = at_work(alice)
    left = renewed(http, review)["until"]
    opened_since = renewed(http, review)["until"]
    for until in (left, "", "yesterday", "\0"):
        assert http.post(address_of(review, "leave"), {"until": until}).status_code == 204
        assert Review.objects.get().claimed_by == alice
    http.post(address_of(review, "leave"), {"until": opened_since})
    assert Review.objects.get().claimed_by is None


def test_a_claim_does_not_depend_on_the_clock_of_the_web_server(alice, bob, alert, monkeypatch):
    review = alert(0.9)
    fast = timezone.now() + timedelta(hours=2)
    assert queue.claim(review.pk, alice)
    monkeypatch.setattr(timezone, "now", lambda: fast)
    assert not queue.claim(review.pk, bob)


def test_an_hour_of_two_analysts_at_work_never_gives_both_the_same(alice, bob, alert, settings):
    for place in range(30):
        alert(0.99 - place / 100)
    dice = random.Random(18)  # noqa: S311
    people = [alice, bob]
    pages: dict[User, Any] = dict.fromkeys(people)
    for _minute in range(60):
        let_pass(60)
        for user in people:
            if pages[user]:
                assert queue.look_at(pages[user], user).is_mine, "it is theirs for as long as they look at it"
        user = dice.choice(people)
        what = dice.choice(["decide", "skip", "leave", "next"])
        passed = [pages[user]] if pages[user] else []
        if passed and what == "decide":
            labelling.close_review(review=Review.objects.get(pk=pages[user]), is_fraud=True, reviewer=user)
        elif passed:
            queue.release(pages[user], user)
        pages[user] = None if what == "leave" else queue.claim_next(Review.objects.order_by("pk"), user, passed)
        given = [page for page in pages.values() if page]
        assert len(set(given)) == len(given)


def test_two_who_work_through_the_queue_at_the_same_time_share_it(transactional_db, alice, bob, alert):
    for place in range(8):
        alert(0.9 - place / 100)
    start = threading.Barrier(2)
    given: dict[User, list[str]] = {alice: [], bob: []}

    def work(user):
        http = at_work(user)
        start.wait()
        page = http.get(NEXT)["Location"]
        while page != QUEUE:
            given[user].append(page)
            page = http.post(page, {"decide": "legitimate"})["Location"]
        connection.close()

    threads = [threading.Thread(target=work, args=[user]) for user in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(given[alice]).isdisjoint(given[bob])
    assert sorted(given[alice] + given[bob]) == sorted(address_of(review) for review in Review.objects.all())
    assert Label.objects.count() == 8


def test_of_two_who_decide_at_the_same_moment_the_first_counts_and_the_others_note_is_kept(
    transactional_db, alice, bob, alert
):
    review = alert(0.9)
    start = threading.Barrier(2)

    def decide(user, word):
        http = at_work(user)
        start.wait()
        http.post(address_of(review), {"decide": word, "note": f"The note of {user}."})
        connection.close()

    threads = [threading.Thread(target=decide, args=pair) for pair in ((alice, "fraud"), (bob, "legitimate"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    review.refresh_from_db()
    label = Label.objects.get()
    first, second = (alice, bob) if review.reviewer == alice else (bob, alice)
    assert (label.author, label.reason) == (first, f"The note of {first}.")
    history = text(at_work(alice).get(reverse("admin:scoring_review_history", args=[review.pk])))
    assert f"The note of {second}. (too late: it was closed already)" in history


def pass_on(http, review, word, **fields):
    return http.post(address_of(review, "pass-on"), {"do": word, **fields}, follow=True)


def test_a_released_alert_is_free_for_others(alice, bob, alert):
    review = alert(0.9)
    one = at_work(alice)
    one.get(address_of(review))
    assert pass_on(one, review, "release").redirect_chain[-1][0] == QUEUE
    assert at_work(bob).get(NEXT)["Location"] == address_of(review)


def test_a_colleague_sees_what_was_handed_over_first_with_the_note_and_nobody_else_is_led_to_it(alice, bob, alert):
    first, second = alert(0.9), alert(0.8)
    one, other = at_work(alice), at_work(bob)
    one.get(address_of(second))
    done = pass_on(one, second, "hand_over", to="bob", note="You know this shop.")
    assert "Handed over to bob: You know this shop." in text(done)
    assert done.redirect_chain[-1][0] == address_of(first)
    assert "was handed over to you by alice: You know this shop." in text(other.get(QUEUE))
    assert "handed to bob" in text(one.get(QUEUE))
    assert other.get(NEXT)["Location"] == address_of(second)
    page = text(other.get(address_of(second)))
    assert "Handed over: bob" in page
    assert "You know this shop." in page
    queue.release(second.pk, bob)
    one.post(address_of(first), {"decide": "fraud"})
    assert one.get(NEXT)["Location"] == QUEUE
    assert "This alert was handed over to bob." in text(one.get(address_of(second)))


def test_a_colleague_sees_what_was_handed_over_from_a_queue_of_others(alice, bob, alert):
    experts = ReviewQueue.objects.create(name="Experts only")
    experts.groups.add(Group.objects.create(name="Experts"))
    review = alert(0.9)
    Review.objects.filter(pk=review.pk).update(queue=experts)
    assert at_work(bob).get(address_of(review)).status_code == 302
    Review.objects.filter(pk=review.pk).update(assigned_to=bob, assigned_until=Now() + timedelta(hours=1))
    assert at_work(bob).get(address_of(review)).status_code == 200
    assert at_work(bob).get(NEXT)["Location"] == address_of(review)
    assert at_work(alice).get(address_of(review)).status_code == 302


def test_what_the_colleague_does_not_take_in_time_is_for_everybody(alice, bob, alert, settings):
    review = alert(0.9)
    one = at_work(alice)
    pass_on(one, review, "hand_over", to="bob")
    let_pass(settings.REVIEW_HAND_OVER_S)
    assert one.get(NEXT)["Location"] == address_of(review)


@pytest.mark.parametrize(
    ("word", "fields", "why"),
    [
        ("hand_over", {"to": "mel"}, "Choose a colleague"),
        ("hand_over", {"to": "alice"}, "Choose a colleague"),
        ("hand_over", {"to": "nobody\0"}, "Choose a colleague"),
        ("hand_over", {"to": "bob", "note": "4111 1111 1111 1111"}, "card number"),
        ("escalate", {"note": " "}, "Write a note"),
        ("escalate", {"note": "x" * 1_001}, "at most 1,000 characters"),
        ("nonsense", {}, "choose one of the buttons"),
    ],
)
def test_what_cannot_be_passed_on_stays_as_it_is_and_the_page_says_why(alice, bob, mel, alert, word, fields, why):
    review = alert(0.9)
    assert why in text(pass_on(at_work(alice), review, word, **fields))
    review.refresh_from_db()
    assert (review.queue, review.assigned_to, review.events.count()) == (None, None, 0)


def test_an_alert_that_a_colleague_is_at_is_passed_on_by_a_supervisor_only(alice, bob, sue, alert):
    review = alert(0.9)
    at_work(bob).get(address_of(review))
    assert "with somebody else" in text(pass_on(at_work(alice), review, "escalate", note="Too large for me."))
    assert pass_on(at_work(alice), review, "take_over").status_code == 403
    pass_on(at_work(sue), review, "take_over")
    assert "sue is at this alert" in renewed(at_work(bob), review)["message"]
    pass_on(at_work(sue), review, "hand_over", to="alice")
    assert at_work(alice).get(NEXT)["Location"] == address_of(review)


def test_an_escalated_alert_is_offered_to_supervisors_with_its_note_and_due_time(alice, bob, sue, alert):
    review = alert(0.9)
    desk = ReviewQueue.objects.create(name="Desk", is_for_supervisors=True, due_minutes=30)
    pass_on(at_work(alice), review, "escalate", note="Looks like a ring.")
    review.refresh_from_db()
    assert review.queue == desk
    assert review.due_at - timezone.now() == pytest.approx(timedelta(minutes=30), abs=timedelta(seconds=20))
    assert at_work(bob).get(NEXT)["Location"] == QUEUE
    assert at_work(sue).get(NEXT)["Location"] == address_of(review)
    assert "Looks like a ring." in text(at_work(sue).get(address_of(review)))


def test_a_queue_for_supervisors_is_made_when_the_first_alert_is_escalated(alice, sue, alert):
    for review in (alert(0.9), alert(0.8)):
        pass_on(at_work(alice), review, "escalate", note="Please look.")
    made = ReviewQueue.objects.get()
    assert (made.name, made.is_for_supervisors, made.reviews.count()) == ("Supervisors", True, 2)


def test_a_closed_alert_is_not_passed_on(alice, bob, alert):
    review = alert(0.9)
    labelling.close_review(review=review, is_fraud=True, reviewer=bob)
    assert "This alert is closed" in text(pass_on(at_work(alice), review, "escalate", note="Late."))
    review.refresh_from_db()
    assert (review.state, review.queue) == ("fraud", None)


@pytest.mark.parametrize("name", ["claim", "leave", "pass-on"])
def test_who_may_not_decide_claims_and_passes_on_nothing(mel, alert, name):
    review = alert(0.9)
    assert at_work(mel).post(address_of(review, name), {"do": "release"}).status_code == 403
    assert Review.objects.filter(claimed_by=None, claimed_until=None).count() == 1


def test_a_claim_ends_when_its_browser_died(alice, bob, alert, settings):
    review = alert(0.9)
    assert queue.claim(review.pk, alice)
    until = Review.objects.filter(claimed_until__lte=Now() + timedelta(seconds=settings.REVIEW_CLAIM_S))
    assert until.exists()
    let_pass(settings.REVIEW_CLAIM_S)
    assert queue.claim(review.pk, bob)
