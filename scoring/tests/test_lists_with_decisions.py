"""An entry of a list that an analyst adds in the same step as a decision."""

from datetime import timedelta
from html import unescape

import pytest
from django.urls import reverse
from django.utils import timezone

from scoring.lists import changes
from scoring.models import Label, ListEntry, ReviewReason
from scoring.reviews import labelling

pytestmark = pytest.mark.django_db

CARD = "a" * 32


def address_of(review):
    return reverse("admin:scoring_review_change", args=[review.pk])


def text(response):
    return unescape(response.content.decode())


@pytest.fixture
def stolen(db):
    return changes.create(schema="handbook", name="stolen", about="customer", action="block", by="ada")


@pytest.fixture
def review(alert, handbook_champion):
    return alert(0.9, schema="handbook", fields={"TX_AMOUNT": 12.5}, tokens={"customer": CARD, "terminal": "b" * 32})


@pytest.fixture
def at_work(client, alice):
    client.force_login(alice)
    return client


def there():
    return list(ListEntry.objects.filter(removed_at=None).values_list("key", "note", "author"))


def undo(http, page):
    return http.post(reverse("admin:scoring_label_undo", args=[Label.objects.first().act]), {"back": page}, follow=True)


def test_a_card_is_blocked_with_the_decision_and_one_undo_takes_both_back(at_work, review, stolen):
    page = address_of(review)
    assert f'data-block="{stolen.pk}"' in text(at_work.get(page))
    sent = {"decide": "fraud", "note": "The holder called.", "also": stolen.pk, "days": "30"}
    done = text(at_work.post(page, sent, follow=True))
    assert "1 labelled fraud; customer aaaaaaaa… is on the list stolen until" in done
    assert there() == [(CARD, "The holder called.", "alice")]
    assert timedelta(days=29) < ListEntry.objects.get().expires_at - timezone.now() < timedelta(days=30)
    assert "1 undone: as before." in text(undo(at_work, page))
    assert there() == []
    review.refresh_from_db()
    assert review.state == "open"


def test_undoing_puts_the_entry_back_whose_place_was_taken(at_work, review, stolen):
    changes.add_one(stolen, changes.Addition(CARD, note="Stolen in May"), by="rita")
    at_work.post(address_of(review), {"decide": "fraud", "also": stolen.pk, "days": "7"})
    assert there() == [(CARD, "fraud", "alice")]
    undo(at_work, address_of(review))
    assert there() == [(CARD, "Stolen in May", "rita")]


def test_an_entry_that_a_colleague_removed_since_does_not_keep_the_decision_from_being_undone(at_work, review, stolen):
    at_work.post(address_of(review), {"decide": "fraud", "also": stolen.pk, "days": "7"})
    changes.take_off(stolen, [ListEntry.objects.get().pk], by="rita")
    assert "1 undone" in text(undo(at_work, address_of(review)))


@pytest.mark.parametrize("change", [{"days": "0"}, {"days": "many"}, {"also": "999"}, {"code": "unknown"}, "full"])
def test_a_list_or_reason_that_is_refused_leaves_the_alert_open_and_the_list_as_it_was(
    at_work, review, stolen, change, settings
):
    if change == "full":
        settings.LIST_ENTRIES_LIMIT, change = 1, {}
        changes.add_one(stolen, changes.Addition("c" * 32), by="rita")
    before = there()
    sent = {"decide": "fraud", "also": stolen.pk, "days": "7"} | change
    assert 'class="error"' in text(at_work.post(address_of(review), sent, follow=True))
    assert there() == before
    assert not Label.objects.exists()


def test_nothing_is_put_on_the_list_if_a_colleague_decided_first(at_work, review, stolen, sue):
    labelling.close_review(review=review, is_fraud=False, reviewer=sue)
    page = text(at_work.post(address_of(review), {"decide": "fraud", "also": stolen.pk, "days": "7"}, follow=True))
    assert "1 had been closed already" in page
    assert there() == []


def test_a_long_note_is_cut_for_the_list_and_a_reason_stands_for_a_missing_one(at_work, review, stolen):
    ReviewReason.objects.create(code="stolen", meaning="The card was stolen", is_fraud=True)
    at_work.post(address_of(review), {"decide": "fraud", "code": "stolen", "also": stolen.pk, "days": ""})
    assert there() == [(CARD, "stolen", "alice")]
    undo(at_work, address_of(review))
    at_work.post(address_of(review), {"decide": "fraud", "note": "n" * 1_000, "also": stolen.pk, "days": ""})
    assert there() == [(CARD, "n" * 200, "alice")]
    assert Label.objects.last().reason == "n" * 1_000
