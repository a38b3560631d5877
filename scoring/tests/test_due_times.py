"""Reviews that nobody decided in time: the queue's action is done once, and told."""

import re
import threading
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from scoring.models import Label, Review, ReviewEvent, ReviewQueue
from scoring.reviews import labelling, tasks

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")


def address_of(review):
    return reverse("admin:scoring_review_change", args=[review.pk])


def text(response):
    return unescape(response.content.decode())


@pytest.fixture
def late(alert):
    """An alert of a queue with an action, late by so many minutes."""

    def make(when_due, minutes=1, **changes):
        queue, _ = ReviewQueue.objects.get_or_create(name="Shops", due_minutes=60, when_due=when_due)
        review = alert(0.9)
        due_at = timezone.now() - timedelta(minutes=minutes)
        Review.objects.filter(pk=review.pk).update(**{"queue": queue, "due_at": due_at} | changes)
        review.refresh_from_db()
        return review

    return make


@pytest.mark.parametrize("when_due", ["fraud", "legitimate"])
def test_a_late_alert_is_closed_by_default_without_a_label_and_its_page_says_so(client, alice, late, when_due):
    review = late(when_due)
    tasks.act_on_late()
    review.refresh_from_db()
    assert (review.state, review.reviewer, review.decided_by_default) == (when_due, None, True)
    assert not Label.objects.exists()
    client.force_login(alice)
    page = text(client.get(address_of(review)))
    assert "Not decided in the due time of Shops" in page
    assert "closed by default" in page


def test_a_late_alert_is_escalated_once_and_its_time_begins_again(late):
    desk = ReviewQueue.objects.create(name="Desk", is_for_supervisors=True, due_minutes=30)
    review = late("escalate", claimed_until=timezone.now())
    for _ in range(2):
        tasks.act_on_late()
    review.refresh_from_db()
    assert (review.state, review.queue, review.events.count()) == ("open", desk, 1)
    assert review.due_at > timezone.now() + timedelta(minutes=29)


def test_a_queue_for_supervisors_escalates_what_is_late_to_nobody_again(late):
    review = late("escalate")
    ReviewQueue.objects.update(is_for_supervisors=True)
    for _ in range(2):
        tasks.act_on_late()
    review.refresh_from_db()
    assert (review.due_at, review.events.count()) == (None, 1)


@pytest.mark.parametrize(("when_due", "minutes"), [("", 1), ("fraud", -1)], ids=["no action", "not yet"])
def test_what_has_no_action_or_is_not_late_yet_stays_open(late, when_due, minutes):
    review = late(when_due, minutes)
    tasks.act_on_late()
    review.refresh_from_db()
    assert (review.state, review.events.count()) == ("open", 0)


@pytest.mark.parametrize("hours", [-5, 5])
def test_the_clock_of_the_machine_that_looks_does_not_matter(late, monkeypatch, hours):
    overdue, early = late("fraud"), late("fraud", minutes=-60)
    shifted = timezone.now() + timedelta(hours=hours)
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", lambda: shifted)
        tasks.act_on_late()
    assert set(Review.objects.filter(state="fraud")) == {overdue}
    assert set(Review.objects.filter(state="open")) == {early}


def test_two_schedulers_at_the_same_moment_act_once(transactional_db, late):
    desk = ReviewQueue.objects.create(name="Desk", is_for_supervisors=True, due_minutes=0, when_due="legitimate")
    reviews = [late("escalate") for _ in range(6)]
    start = threading.Barrier(3)

    def look():
        start.wait()
        tasks.act_on_late()
        connection.close()

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tasks.act_on_late()  # what another one had locked, and what has become late in the other queue
    tasks.act_on_late()
    assert set(Review.objects.values_list("queue", "state", "decided_by_default")) == {(desk.pk, "legitimate", True)}
    for review in reviews:
        assert sorted(review.events.values_list("to", flat=True)) == ["escalated to Desk", "legitimate"]


def test_one_run_does_so_much_and_the_next_goes_on(late, settings):
    settings.DUE_LIMIT = 2
    for _ in range(3):
        late("fraud")
    tasks.act_on_late()
    assert Review.objects.filter(state="open").count() == 1
    tasks.act_on_late()
    assert ReviewEvent.objects.count() == 3


def test_an_analyst_who_is_first_decides_and_who_is_late_corrects(alice, late):
    first, second = late("fraud"), late("fraud")
    labelling.close_review(review=first, is_fraud=False, reviewer=alice)
    tasks.act_on_late()
    assert not labelling.close_review(review=second, is_fraud=False, reviewer=alice)
    labelling.add_label(transaction_id=second.pk, is_fraud=False, source="analyst", author=alice, reason="Known.")
    states = Review.objects.values_list("state", "reviewer", "decided_by_default")
    assert set(states) == {("legitimate", alice.pk, False)}


def test_a_reopened_alert_has_its_whole_time_again(alice, late):
    review = late("fraud")
    tasks.act_on_late()
    labelling.reopen_review(review=review, author=alice, reason="Look again.")
    tasks.act_on_late()
    review.refresh_from_db()
    assert (review.state, review.decided_by_default) == ("open", False)
    assert review.due_at > timezone.now() + timedelta(minutes=59)


def test_undoing_a_correction_brings_the_default_back(alice, late):
    review, act = late("fraud"), uuid4()
    tasks.act_on_late()
    labelling.add_label(
        transaction_id=review.pk, is_fraud=False, source="analyst", author=alice, reason="Known.", act=act
    )
    labelling.undo(act=act, author=alice)
    review.refresh_from_db()
    assert (review.state, review.decided_by_default) == ("fraud", True)


def test_breaches_are_shown_in_the_list_and_on_the_page(client, alice, late):
    review = late("")
    client.force_login(alice)
    assert re.search(r"\d+ \w+ late<", text(client.get(QUEUE)))
    assert "late since" in text(client.get(address_of(review)))


def test_the_supervisors_group_works_on_the_queue_that_is_made(late):
    late("escalate")
    tasks.act_on_late()
    made = ReviewQueue.objects.get(is_for_supervisors=True)
    assert list(made.groups.all()) == [Group.objects.get(name="Supervisor")]
