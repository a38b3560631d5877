"""Whoever may give a second opinion on a case finds nowhere what was decided on it, until the opinion is given."""

import re
from datetime import timedelta
from html import unescape
from uuid import UUID

import pytest
from django.urls import reverse
from django.utils import timezone

from scoring import linked
from scoring.lists import changes
from scoring.models import Label, ListEntry, Review, ReviewLink, SecondOpinion, ShadowScore, WebhookDelivery
from scoring.reviews import labelling
from scoring.tests.receivers import subscribe
from training.core.schema import load_schema
from training.models import ModelVersion

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")
LABELS = reverse("admin:scoring_label_changelist")
ENTRIES = reverse("admin:scoring_listentry_changelist")
CARD, TERMINAL, OTHER = "a" * 32, "b" * 32, "c" * 32
CARD_PAGE = reverse("admin:scoring_transaction_entity", args=["handbook", "customer", CARD])
# As the page of a card and those with a choice of lists say it.
ON = re.compile(r"Lists: on stolen|\(on stolen\)")
ACT = UUID(int=7)
NOTE = "The holder called from Lisbon."


def text(response):
    return unescape(response.content.decode())


def second_of(review):
    return reverse("admin:scoring_review_second", args=[review.pk])


def page_of(review):
    return reverse("admin:scoring_review_change", args=[review.pk])


@pytest.fixture
def case(alert, handbook_champion):
    def make(card=CARD, terminal=TERMINAL):
        tokens = {"customer": card, "terminal": terminal}
        review = alert(0.9, schema="handbook", fields={"TX_AMOUNT": 12.5}, tokens=tokens)
        ReviewLink.objects.bulk_create(linked.rows_of(load_schema("handbook"), [review.prediction.transaction]))
        return review

    return make


@pytest.fixture
def stolen(db):
    return changes.create(schema="handbook", name="stolen", about="customer", action="block", by="ada")


@pytest.fixture
def decided(case, alice, settings):
    """A case that Alice has confirmed as fraud, and that waits for a second opinion."""
    settings.SECOND_OPINION_SHARE = 1.0
    review = case()
    labelling.close_review(review=review, is_fraud=True, reviewer=alice, note=NOTE, act=ACT)
    settings.SECOND_OPINION_SHARE = 0.0
    return review


def block(stolen, act=None):
    changes.add(stolen, [[changes.Addition(CARD, note=NOTE, act=act)]], by="alice")


def places_of_the_entry(http, stolen, other):
    """Whether each page that could tell of the entry does so."""
    exported = http.get(reverse("admin:scoring_policylist_export", args=[stolen.pk]))
    entry = reverse("admin:scoring_listentry_change", args=[ListEntry.objects.latest("pk").pk])
    together = reverse("admin:scoring_review_together", args=[other.pk])
    return {
        "entries": NOTE in text(http.get(ENTRIES)),
        "an entry": http.get(entry).status_code == 200,
        "the file": CARD in b"".join(exported.streaming_content).decode(),
        **{page: bool(ON.search(text(http.get(page)))) for page in (CARD_PAGE, page_of(other), together)},
    }


@pytest.mark.parametrize("act", [ACT, None], ids=["with the decision", "after it"])
def test_an_entry_of_a_list_that_came_of_the_decision_is_kept_from_the_second_analyst(
    client, case, decided, stolen, alice, sam, act
):
    other = case()
    block(stolen, act)
    for person, sees in ((alice, True), (sam, False)):
        client.force_login(person)
        assert set(places_of_the_entry(client, stolen, other).values()) == {sees}, person
    client.post(second_of(decided), {"decide": "fraud"})
    assert set(places_of_the_entry(client, stolen, other).values()) == {True}


def test_an_entry_from_before_the_decision_is_seen_but_not_that_another_took_its_place(
    client, case, alice, sam, stolen, settings
):
    settings.SECOND_OPINION_SHARE = 1.0
    block(stolen)
    other = case()
    client.force_login(sam)
    review = case()
    labelling.close_review(review=review, is_fraud=True, reviewer=alice, act=ACT)
    assert all(places_of_the_entry(client, stolen, other).values())
    changes.add(stolen, [[changes.Addition(CARD, note="Again", act=ACT)]], by="alice")
    assert "alice" not in text(client.get(ENTRIES, {"state": "all"}))


def test_what_was_decided_in_the_same_act_is_kept_with_it(client, case, decided, alice, sam):
    twin = case()
    labelling.close_review(review=twin, is_fraud=True, reviewer=alice, note=NOTE, act=ACT)
    client.force_login(sam)
    assert client.get(page_of(twin))["Location"] == second_of(decided)
    assert "0 reviews" in text(client.get(QUEUE, {"state": "all"}))
    assert "0 labels" in text(client.get(LABELS))
    for address in (second_of(decided), CARD_PAGE):
        page = text(client.get(address))
        assert 'class="badge fraud"' not in page
        assert "known fraud</title>" not in page
    client.post(second_of(decided), {"decide": "legitimate"})
    assert client.get(page_of(twin)).status_code == 200


def test_the_second_analyst_sees_the_case_as_it_was_before_it_was_decided(client, case, decided, alice, sam):
    earlier, later = case(), case()
    labelling.close_review(review=earlier, is_fraud=True, reviewer=alice, note="One of a gang.")
    labelling.close_review(review=later, is_fraud=True, reviewer=alice, note="Another of the gang.")
    asked_at = SecondOpinion.objects.get().asked_at
    minute = timedelta(minutes=1)
    Label.objects.filter(transaction_id=earlier.pk).update(created_at=asked_at - minute)
    Review.objects.filter(pk=earlier.pk).update(closed_at=asked_at - minute)
    Review.objects.exclude(pk=decided.pk).update(opened_at=asked_at - 2 * minute)
    client.force_login(sam)
    page = text(client.get(second_of(decided)))
    assert "One of a gang." in page
    assert page.count("decided later") == 1
    assert "Another of the gang." not in page
    came = case()
    assert str(came.pk) not in text(client.get(second_of(decided)))


def test_a_page_that_was_open_meanwhile_is_not_told_how_the_case_was_decided(client, decided, sam, rita, alice):
    address = reverse("admin:scoring_review_claim", args=[decided.pk])
    client.force_login(sam)
    told = client.post(address).json()["message"]
    assert told == "A colleague has closed this alert, and you may give the second opinion on it."
    client.force_login(alice)
    assert "alice has closed this alert: confirmed fraud" in client.post(address).json()["message"]


def test_what_was_told_to_the_client_is_not_shown(client, acme, case, alice, sam, audrey, settings):
    subscribe(acme, "https://shop.example/fraud")
    settings.SECOND_OPINION_SHARE = 1.0
    labelling.close_review(review=case(), is_fraud=True, reviewer=alice)
    address = reverse(
        "admin:scoring_webhookdelivery_change", args=[WebhookDelivery.objects.get(type="review.decided").pk]
    )
    for person, sees in ((audrey, True), (sam, False)):
        client.force_login(person)
        assert ('"outcome": "fraud"' in text(client.get(address))) is sees, person


def test_an_administrator_who_may_give_it_finds_it_in_the_audit_trail_afterwards_only(client, decided, ada, audrey):
    trail = reverse("admin:audit_entry_changelist")
    for person, sees in ((audrey, True), (ada, False)):
        client.force_login(person)
        assert (NOTE in text(client.get(trail, {"q": str(decided.pk)}))) is sees, person
        assert (NOTE in text(client.get(trail))) is sees, person
    client.post(second_of(decided), {"decide": "fraud"})
    assert NOTE in text(client.get(trail))


def test_the_comparison_of_models_does_not_tell_it(client, decided, alice, sam):
    version = ModelVersion.objects.create(version="challenger", schema="handbook", stage="shadow", review_threshold=0.4)
    ShadowScore.objects.create(
        transaction_id=decided.pk, model_version=version, fraud_score=0.1, created_at=timezone.now()
    )
    for person, sees in ((alice, True), (sam, False)):
        client.force_login(person)
        page = text(client.get(reverse("at_work", args=["challenger"])))
        assert str(decided.pk) in page
        assert ('class="badge fraud"' in page) is sees, person
