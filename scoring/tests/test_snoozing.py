"""Reviews that are snoozed, one by one or all of a card: left out of the queue, listed apart, and woken."""

from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.urls import reverse
from django.utils import timezone

from scoring.models import CardSnooze, Review, ReviewLink
from scoring.reviews import labelling

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")
NEXT = reverse("admin:scoring_review_next")


def address_of(review, name="change"):
    return reverse(f"admin:scoring_review_{name}", args=[review.pk])


def text(response):
    return unescape(response.content.decode())


@pytest.fixture
def at_work(client, alice):
    client.force_login(alice)
    return client


@pytest.fixture
def of_card(alert):
    """An alert of a card."""

    def make(score, card):
        token = card * 32
        review = alert(score, schema="handbook", tokens={"customer": token})
        ReviewLink.objects.create(review=review, name="customer", key=token)
        return review

    return make


def snooze(http, review, until="hour", **fields):
    return http.post(address_of(review, "pass-on"), {"do": "snooze", "until": until, **fields}, follow=True)


def counted(http):
    return http.get(reverse("admin:scoring_review_open")).json()["open"]


def test_a_snoozed_alert_is_left_out_of_the_queue_its_counts_and_the_next_until_it_ends(at_work, alert):
    first, second = alert(0.9), alert(0.8)
    assert "Snoozed until" in text(snooze(at_work, first, note="The shop calls back."))
    assert counted(at_work) == 1
    assert address_of(first) not in text(at_work.get(QUEUE))
    assert at_work.get(NEXT)["Location"] == address_of(second)
    listed = text(at_work.get(QUEUE, {"state": "snoozed"}))
    assert address_of(first) in listed
    assert address_of(second) not in listed
    assert "snoozed until" in listed
    Review.objects.filter(pk=first.pk).update(snoozed_until=timezone.now() - timedelta(seconds=1))
    assert counted(at_work) == 2
    assert at_work.get(NEXT)["Location"] == address_of(first)


def test_a_snooze_of_a_card_holds_for_its_alerts_that_come_too_and_they_say_so(at_work, of_card):
    first, same, other = of_card(0.9, "a"), of_card(0.8, "a"), of_card(0.7, "b")
    snooze(at_work, first, "tomorrow", whole_card="yes")
    later = of_card(0.95, "a")
    assert counted(at_work) == 1
    assert at_work.get(NEXT)["Location"] == address_of(other)
    listed = text(at_work.get(QUEUE, {"state": "snoozed"}))
    assert all(address_of(review) in listed for review in (first, same, later))
    assert "card snoozed until" in listed
    assert "card snoozed until" in text(at_work.get(address_of(later)))


def test_an_alert_is_woken_on_its_page_and_its_card_with_it(at_work, of_card):
    first, same = of_card(0.9, "a"), of_card(0.8, "a")
    snooze(at_work, first)
    snooze(at_work, same, whole_card="yes")
    at_work.post(address_of(first, "pass-on"), {"do": "wake"})
    assert counted(at_work) == 2
    assert "Woken: all of the card" in text(at_work.get(address_of(first)))
    assert "It was awake already." in text(at_work.post(address_of(first, "pass-on"), {"do": "wake"}, follow=True))


def test_snoozed_alerts_are_woken_from_their_list(at_work, alert):
    reviews = [alert(0.9), alert(0.8)]
    for review in reviews:
        snooze(at_work, review)
    keys = [str(review.pk) for review in reviews]
    at_work.post(f"{QUEUE}?state=snoozed", {"action": "wake", "_selected_action": keys})
    assert counted(at_work) == 2


def test_a_snooze_lasts_an_hour_or_until_midnight_or_a_date(at_work, alert):
    review, now = alert(0.9), timezone.now()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    day = today + timedelta(days=3)
    for until, end in (("hour", now + timedelta(hours=1)), ("tomorrow", today + timedelta(days=1)), ("date", day)):
        snooze(at_work, review, until, date=f"{day:%Y-%m-%d}")
        review.refresh_from_db()
        assert abs(review.snoozed_until - end) < timedelta(seconds=60)


@pytest.mark.parametrize("date", ["", "yesterday", "2000-01-01", "9999-12-31", "2026-13-40", "\0"])
def test_a_snooze_without_an_end_that_is_to_come_changes_nothing(at_work, alert, date):
    review = alert(0.9)
    assert "Choose until when to snooze" in text(snooze(at_work, review, "date", date=date))
    review.refresh_from_db()
    assert review.snoozed_until is None


def test_a_closed_alert_and_one_without_a_card_are_not_snoozed(at_work, alice, alert):
    review = alert(0.9)
    assert "has no card" in text(snooze(at_work, review, whole_card="yes"))
    labelling.close_review(review=review, is_fraud=True, reviewer=alice)
    assert "is closed" in text(snooze(at_work, review))
    assert not CardSnooze.objects.exists()
