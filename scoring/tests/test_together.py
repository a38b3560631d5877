"""All open alerts of a card, decided at once."""

from html import unescape

import pytest
from django.urls import reverse

from scoring import linked
from scoring.lists import changes
from scoring.models import Label, ListEntry, Review, ReviewLink
from scoring.reviews import labelling
from training.core.schema import load_schema

pytestmark = pytest.mark.django_db

CARD, TERMINAL = "a" * 32, "b" * 32


def page_of(review, query=""):
    return reverse("admin:scoring_review_together", args=[review.pk]) + query


def text(response):
    return unescape(response.content.decode())


@pytest.fixture
def of_card(alert):
    def make(score, card=CARD, terminal=TERMINAL, amount=10.0):
        tokens = {"customer": card, "terminal": terminal}
        review = alert(score, schema="handbook", amount=amount, fields={"TX_AMOUNT": amount}, tokens=tokens)
        ReviewLink.objects.bulk_create(linked.rows_of(load_schema("handbook"), [review.prediction.transaction]))
        return review

    return make


@pytest.fixture
def at_work(client, alice):
    client.force_login(alice)
    return client


def decide(http, page, word="fraud", **more):
    keys = http.get(page).context["keys"]
    return http.post(page, {"decide": word, "alert": keys} | more, follow=True)


def test_all_open_alerts_of_a_card_are_shown_with_their_sum_and_decided_and_undone_at_once(at_work, of_card, alice):
    first, *others = [of_card(score / 10, amount=score) for score in (9, 8, 7)]
    of_card(0.95, card="c" * 32)
    labelling.close_review(review=others.pop(), is_fraud=False, reviewer=alice)
    page = page_of(first)
    shown = text(at_work.get(page))
    assert "<strong>2</strong> open alerts of customer aaaaaaaa…, <strong>17.00" in shown
    done = decide(at_work, page, note="One gang.")
    assert "2 labelled fraud." in text(done)
    given = Label.objects.filter(is_fraud=True)
    assert {(label.transaction_id, label.reason) for label in given} == {
        (review.pk, "One gang.") for review in (first, *others)
    }
    at_work.post(reverse("admin:scoring_label_undo", args=[given[0].act]))
    assert Review.objects.filter(state="open").count() == 3


def test_alerts_that_came_since_stay_open_and_those_decided_meanwhile_keep_their_label(at_work, of_card, sue):
    first, second = of_card(0.9), of_card(0.8)
    page = page_of(first)
    keys = at_work.get(page).context["keys"]
    came = of_card(0.7)
    labelling.close_review(review=second, is_fraud=False, reviewer=sue)
    done = text(at_work.post(page, {"decide": "fraud", "alert": keys}, follow=True))
    assert "1 labelled fraud." in done
    assert "1 had been closed already and kept their label." in done
    assert list(Review.objects.filter(state="open")) == [came]
    assert Label.objects.get(transaction_id=second.pk).author == sue


def test_a_merchant_has_its_alerts_in_common_too(at_work, of_card):
    first, _other_card, _other = of_card(0.9), of_card(0.8, card="c" * 32), of_card(0.7, terminal="d" * 32)
    assert len(at_work.get(page_of(first)).context["keys"]) == 2
    assert len(at_work.get(page_of(first, "?entity=terminal")).context["keys"]) == 2
    decide(at_work, page_of(first, "?entity=terminal"), "legitimate")
    assert set(Label.objects.values_list("transaction__tokens__terminal", flat=True)) == {TERMINAL}


def test_no_more_than_the_limit_are_decided_and_the_page_says_so(at_work, of_card, settings):
    settings.MASS_ACTION_LIMIT = 2
    reviews = [of_card(score / 10) for score in (9, 8, 7)]
    assert "1 more are not among them" in text(at_work.get(page_of(reviews[2])))
    sent = {"decide": "fraud", "alert": [review.pk for review in reviews]}
    at_work.post(page_of(reviews[2]), sent)
    assert Label.objects.count() == 2


def test_the_card_is_blocked_once_with_all_of_its_alerts(at_work, of_card):
    stolen = changes.create(schema="handbook", name="stolen", about="customer", action="block", by="ada")
    first, _ = of_card(0.9), of_card(0.8)
    decide(at_work, page_of(first), also=stolen.pk, days="30")
    assert ListEntry.objects.count() == 1
    at_work.post(reverse("admin:scoring_label_undo", args=[Label.objects.all()[0].act]))
    assert not ListEntry.objects.filter(removed_at=None).exists()


@pytest.mark.parametrize("sent", [{}, {"alert": ["nonsense"]}, {"alert": "another"}, {"code": "unknown"}])
def test_alerts_of_others_and_what_cannot_be_meant_change_nothing(at_work, of_card, sent):
    first, another = of_card(0.9), of_card(0.8, card="c" * 32)
    if sent.get("alert") == "another":
        sent = {"alert": [another.pk]}
    if "code" in sent:
        sent = sent | {"alert": [first.pk]}
    page = text(at_work.post(page_of(first), {"decide": "fraud"} | sent))
    assert 'class="error"' in page
    assert not Label.objects.exists()


def test_only_those_who_decide_see_the_page_and_a_transaction_without_entities_has_none(at_work, alert, audrey, client):
    bare = alert(0.9)
    assert "no card, or other entity" in text(at_work.get(page_of(bare), follow=True))
    client.force_login(audrey)
    assert client.get(page_of(bare)).status_code == 403


def test_alerts_with_an_email_address_in_common_are_decided_at_once(at_work, alert):
    def sent(score, email):
        fields = {"amount": 10.0, "email": email, "device": "d" * 32}
        review = alert(score, schema="payments", amount=10.0, fields=fields, tokens={"card": f"{score * 10:032.0f}"})
        ReviewLink.objects.bulk_create(linked.rows_of(load_schema("payments"), [review.prediction.transaction]))
        return review

    first, second, _ = sent(0.9, "0bad@example.com"), sent(0.8, "0bad@example.com"), sent(0.7, "1bad@example.com")
    page = page_of(first, "?entity=email")
    assert "<strong>2</strong> open alerts of email 0bad@example.com" in text(at_work.get(page))
    assert "All of this email" in text(at_work.get(page_of(first)))
    case = text(at_work.get(reverse("admin:scoring_review_change", args=[first.pk])))
    assert case.count("All open alerts of this card") == 2, "the link, and the help on its key"
    decide(at_work, page)
    assert set(Label.objects.values_list("transaction_id", flat=True)) == {first.pk, second.pk}
