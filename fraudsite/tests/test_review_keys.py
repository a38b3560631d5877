"""An analyst works through the queue without a mouse, in a real browser in front of a real web server."""

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect

from fraudsite.testing import seed_payload
from scoring.lists import changes
from scoring.models import Decision, Label, ListEntry, Prediction, Review, ReviewReason, Transaction
from scoring.worker.opening import review_of

QUEUE = reverse("admin:scoring_review_changelist")
CASES = 20


class Typist:
    """An analyst's keyboard, which counts its keys."""

    def __init__(self, page):
        self.page, self.keys = page, 0

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
            self.keys += 1

    def type(self, text):
        self.page.keyboard.type(text)

    def decide(self, *keys):
        """Press keys and wait for the page that follows."""
        *before, last = keys
        self.press(*before)
        with self.page.expect_navigation():
            self.press(last)


@pytest.fixture
def alerts(acme, champion):
    def make(number):
        for place in range(number):
            row = Transaction.objects.create(
                client=acme,
                schema="ulb",
                amount=10 + place,
                fields=seed_payload(Amount=10 + place),
                body_sha256="0" * 64,
                event_time=timezone.now(),
            )
            score = 0.99 - place / 100
            prediction = Prediction.objects.create(
                transaction=row,
                model_version=champion,
                fraud_score=score,
                decision=Decision.REVIEW,
                threshold=0.5,
                latency_ms=4.0,
            )
            review_of(prediction).save(force_insert=True)

    return make


@pytest.fixture
def typist(browser, site, client, alice):
    page = browser.new_page(viewport={"width": 1440, "height": 900}, base_url=site)
    client.force_login(alice)
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])
    return Typist(page)


def test_an_analyst_decides_twenty_cases_by_at_most_three_keys_each(typist, alerts):
    ReviewReason.objects.create(code="stolen", meaning="The card was stolen", is_fraud=True, position=1)
    ReviewReason.objects.create(code="taken_over", meaning="The account was taken over", is_fraud=True, position=2)
    ReviewReason.objects.create(code="known", meaning="The holder knows it", is_fraud=False)
    alerts(CASES)
    typist.page.goto(QUEUE)
    typist.decide("j")
    typist.keys = 0
    for place in range(CASES):
        typist.decide(*(("f", "2"), ("l", "1"), ("l", "Enter"))[place % 3])
    expect(typist.page.locator(".messagelist")).to_contain_text("1 labelled")
    assert typist.keys <= 3 * CASES
    assert (
        list(Label.objects.order_by("pk").values_list("is_fraud", "code"))
        == ([(True, "taken_over"), (False, "known"), (False, "")] * CASES)[:CASES]
    )
    by_loss = Review.objects.order_by("-expected_loss").values_list("pk", flat=True)
    assert list(Label.objects.order_by("pk").values_list("transaction_id", flat=True)) == list(by_loss)


def test_a_note_is_written_by_keys_and_enter_in_it_decides_nothing_by_itself(typist, alerts):
    ReviewReason.objects.create(code="other", meaning="Something else", needs_note=True)
    alerts(2)
    typist.page.goto(QUEUE)
    typist.decide("j")
    typist.press("n")
    typist.type("fls")
    typist.press("Enter")
    assert not Label.objects.exists()
    typist.decide("f", "1")
    typist.press("l", "1")  # the note is empty on this page: the key leads to it
    typist.type("known")
    typist.decide("Enter")
    assert list(Label.objects.order_by("pk").values_list("is_fraud", "code", "reason")) == [
        (True, "other", "fls"),
        (False, "other", "known"),
    ]


def test_a_decision_is_taken_back_and_an_alert_skipped_by_a_key(typist, alerts):
    alerts(2)
    first, second = Review.objects.order_by("-expected_loss")
    typist.page.goto(QUEUE)
    typist.decide("j")
    typist.decide("f")
    typist.decide("u")
    expect(typist.page.locator(".messagelist")).to_contain_text("1 undone: as before.")
    assert str(first.pk) in typist.page.url, "back at the alert"
    typist.decide("s")
    assert str(second.pk) in typist.page.url
    typist.decide("q")
    assert typist.page.url.endswith(QUEUE)
    assert set(Review.objects.values_list("state", flat=True)) == {"open"}


def test_a_value_is_put_on_a_list_together_with_the_decision_by_a_key(typist, alerts):
    changes.create(schema="ulb", name="amounts", about="Amount", action="block", by="ada")
    alerts(2)
    typist.page.goto(QUEUE)
    typist.decide("j")
    typist.press("b", "b")
    typist.decide("f")
    assert not ListEntry.objects.exists()
    typist.press("b")
    typist.decide("f")
    assert [entry.key for entry in ListEntry.objects.all()] == ["10.0"]
    typist.decide("u")
    assert not ListEntry.objects.filter(removed_at=None).exists()
    assert Review.objects.filter(state="open").count() == 1


def test_all_alerts_of_a_card_are_decided_by_three_keys(typist, alerts, handbook_champion):
    alerts(3)
    Transaction.objects.update(schema="handbook", fields={"TX_AMOUNT": 10.0}, tokens={"customer": "a" * 32})
    Review.objects.update(schema="handbook", card="a" * 32)
    typist.page.goto(QUEUE)
    typist.decide("j")
    typist.decide("a")
    expect(typist.page.locator(".stakes")).to_contain_text("3 open alerts of customer aaaaaaaa…")
    typist.decide("f")
    expect(typist.page.locator(".messagelist")).to_contain_text("3 labelled fraud.")
    typist.decide("u")
    assert Review.objects.filter(state="open").count() == 3


def test_rows_of_the_queue_are_labelled_by_keys(typist, alerts):
    alerts(3)
    first, second, third = Review.objects.order_by("-fraud_score")
    typist.page.goto(QUEUE)
    typist.press("ArrowDown", "x", "ArrowDown", "ArrowDown", "x")
    typist.decide("l")
    typist.decide("Enter")
    expect(typist.page.locator("#result_list tbody tr")).to_have_count(1)
    assert set(Label.objects.values_list("transaction_id", "is_fraud")) == {(first.pk, False), (third.pk, False)}
    typist.press("ArrowDown")
    typist.decide("Enter")
    assert str(second.pk) in typist.page.url


def test_the_question_mark_shows_the_keys_of_the_page_and_no_key_decides_meanwhile(typist, alerts):
    alerts(1)
    typist.page.goto(QUEUE)
    typist.press("?")
    expect(typist.page.locator("dialog#keys")).to_contain_text("Tick the row")
    typist.press("Escape")
    typist.decide("j")
    typist.press("?")
    expect(typist.page.locator("dialog#keys")).to_contain_text("Mark legitimate")
    typist.press("f", "Escape")
    expect(typist.page.locator("dialog#keys")).to_be_hidden()
    assert not Label.objects.exists()
    typist.decide("f")
    assert Label.objects.count() == 1
