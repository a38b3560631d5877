"""The page of a case: what happened, what the card did, what is linked and similar, and what fails alone."""

import time
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import OperationalError, connection
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import submission
from scoring.lists import changes
from scoring.models import Decision, History, Label, Prediction, Review, ReviewLink, Transaction
from scoring.reviews import attachments, labelling
from scoring.reviews.case.panels import bounded
from scoring.worker import batches
from scoring.worker.predictor import Predictor
from training.core.features import stored
from training.core.schema import load_schema
from training.core.schema.tokens import TOKEN_LENGTH

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
PURCHASE = {
    "amount": 212.4,
    "currency": "EUR",
    "merchant": "Shop 17",
    "category": "consumer_electronics",
    "entry_mode": "chip",
    "country": "TH",
    "device": "d" * 32,
    "email": "0badcafe@example.com",
    "ip": "192.0.2.0",
    "home_latitude": 52.52,
    "home_longitude": 13.4,
    "merchant_latitude": 13.76,
    "merchant_longitude": 100.5,
    "birth_date": "1980-01-01",
}


def token(name):
    return name.encode().hex().ljust(TOKEN_LENGTH, "0")[:TOKEN_LENGTH]


@pytest.fixture
def purchase(acme, champion):
    """Store a purchase of the schema `payments` that was decided on, with its review if it is an alert."""
    made: list[Transaction] = []

    def make(card="ann", decision=Decision.REVIEW, contributions=None, entities=None, minutes=0, **fields):
        tokens = {"card": token(card), "seller": token("shop17")} | (entities or {})
        values: dict[str, Any] = PURCHASE | fields
        row = Transaction.objects.create(
            client=acme,
            schema="payments",
            transaction_id=f"order-{len(made)}",
            amount=values["amount"],
            fields=values,
            tokens={name: each for name, each in tokens.items() if each},
            sequence=len(made) + 1,
            body_sha256="0" * 64,
            event_time=NOON + timedelta(minutes=minutes or len(made)),
        )
        made.append(row)
        explanation = {"base": -5.0, "residual": 0.0, "contributions": contributions} if contributions else None
        prediction = Prediction.objects.create(
            transaction=row,
            model_version=champion,
            fraud_score=0.9,
            decision=decision,
            threshold=0.5,
            latency_ms=4.0,
            explanation=explanation,
            derived={"home_km": 8600.0},
        )
        if decision == Decision.APPROVE:
            return row
        return Review.objects.create(prediction=prediction, fraud_score=0.9, schema="payments")

    return make


@pytest.fixture
def links():
    return lambda: call_command("link_reviews", "--schema", "payments")


@pytest.fixture
def histories():
    return lambda: call_command("rebuild_histories", "--schema", "payments")


def page_of(client, user, review):
    client.force_login(user)
    answer = client.get(reverse("admin:scoring_review_change", args=[review.pk]))
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def panel(page, name):
    return page.partition(f'<section class="panel {name}"')[2].partition("</section>")[0]


def test_a_case_tells_what_happened_in_words(client, alice, purchase):
    told = panel(page_of(client, alice, purchase()), "story")
    assert "212.40 EUR at Shop 17 (consumer electronics) in Thailand, chip, on Friday, 27 November 2026 at" in told
    assert "From home to the shop: 8,600 km" in told


def test_the_time_line_has_what_the_card_did_with_decisions_and_labels(client, alice, purchase, histories):
    before, foreign = purchase(decision=Decision.APPROVE), purchase(card="bob", entities={"seller": ""})
    Label.objects.create(transaction=before, is_fraud=True, verdict=True, source=Label.Source.CHARGEBACK)
    review = purchase(decision=Decision.BLOCK)
    histories()
    told = panel(page_of(client, alice, review), "timelines")
    [mark] = [each for each in told.split("<a ") if str(before.pk) in each and "approve" in each][:1]
    assert "212.40 EUR, approve, fraud" in mark
    assert 'class="ring"' in mark
    assert 'class="block this"' in told
    assert str(foreign.pk) not in told


def test_the_map_shows_where_the_card_was_and_how_far_that_is(client, alice, purchase, histories):
    purchase(decision=Decision.APPROVE, merchant_latitude=48.86, merchant_longitude=2.35)
    review = purchase()
    histories()
    told = panel(page_of(client, alice, review), "map")
    assert 'class="before"' in told
    assert 'class="this"' in told
    assert 'class="home"' in told
    assert "8,603 km from home" in told
    assert "9,443 km from where the card was before" in told


def test_linked_alerts_are_those_that_share_something_and_those_that_share_something_with_these(
    client, alice, purchase, links
):
    ours = {"seller": "", "equipment": token("phone")}
    review = purchase(entities=ours, email=None)
    near = purchase(card="bob", entities=ours, email="1@example.com")
    far = purchase(card="cid", entities={"seller": ""}, email="1@example.com")
    nobody = purchase(card="dan", entities={"seller": ""}, email="2@example.com")
    links()
    told = panel(page_of(client, alice, review), "links")
    rows = {key: row for key in (near, far, nobody) for row in told.split("<tr>") if str(key.pk) in row}
    assert "<td>1</td>" in rows[near]
    assert "equipment" in rows[near]
    assert "<td>2</td>" in rows[far]
    assert "email" in rows[far]
    assert nobody not in rows


def test_what_too_many_alerts_share_is_named_and_not_followed(client, alice, purchase, links, settings):
    settings.CASE_LINKS_LIMIT = 2
    review, *others = [purchase(card=str(number), email=None) for number in range(4)]
    links()
    told = panel(page_of(client, alice, review), "links")
    assert "seller</a> <b" in told
    assert ">2+</b>" in told
    assert not any(str(other.pk) in told for other in others)


def test_personal_values_neither_place_nor_link_a_case_for_those_who_may_not_see_them(client, mel, purchase, links):
    ours = {"seller": "", "equipment": token("phone")}
    review, other = purchase(entities=ours), purchase(card="bob", entities=ours)
    links()
    page = page_of(client, mel, review)
    assert str(other.pk) not in page
    assert "Links by personal values are hidden." in page
    assert 'class="home"' not in panel(page, "map")
    assert "from home" not in panel(page, "map")
    address = reverse("admin:scoring_transaction_entity", args=["payments", "equipment", token("phone")])
    assert address not in page
    assert client.get(address).status_code == 403


def test_similar_cases_are_the_nearest_decided_ones_with_what_became_of_them(client, alice, purchase):
    far = purchase(contributions={"home_km": -1.0, "amount": 3.0})
    near = purchase(contributions={"home_km": 2.9, "amount": 0.2})
    undecided = purchase(contributions={"home_km": 3.0, "amount": 0.1})
    for each in (far, near):
        Review.objects.filter(pk=each.pk).update(state=Review.State.FRAUD, closed_at=NOON, reviewer=alice)
    Label.objects.create(
        transaction_id=near.pk, is_fraud=True, kind=Label.Kind.FRAUD, source=Label.Source.ANALYST, reason="Denied"
    )
    told = panel(page_of(client, alice, purchase(contributions={"home_km": 3.0, "amount": 0.1})), "similar")
    assert 0 < told.index(str(near.pk)) < told.index(str(far.pk))
    assert "Fraud by analyst, Denied" in told
    assert "home_km, amount" in told
    assert str(undecided.pk) not in told


def test_a_case_shows_what_was_noted_of_earlier_alerts_of_its_card(client, alice, purchase, links):
    earlier, review = purchase(), purchase()
    Label.objects.create(
        transaction_id=earlier.pk,
        is_fraud=False,
        source=Label.Source.ANALYST,
        author=alice,
        reason="Holder called back",
    )
    links()
    assert "Holder called back" in panel(page_of(client, alice, review), "notes")


def test_a_panel_that_fails_says_so_in_its_place_and_the_others_stand(client, alice, purchase):
    review = purchase(contributions={"home_km": 3.0})
    Prediction.objects.filter(pk=review.pk).update(explanation={"contributions": "torn"})
    page = page_of(client, alice, review)
    assert "could not be shown" in panel(page, "why")
    assert "Shop 17" in panel(page, "story")
    assert "could not be shown" not in panel(page, "story")
    assert "Confirm fraud" in page


def test_a_panel_that_takes_too_long_is_ended(settings):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no limit of time")
    settings.CASE_PANEL_TIMEOUT_MS = 20
    with pytest.raises(OperationalError, match="timeout"), bounded(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(30)")


def test_the_page_of_a_card_has_its_transactions_its_alerts_and_its_lists(client, alice, purchase, links, histories):
    blocked = changes.create(schema="payments", name="blocked_cards", about="card", action="block", by="rita")
    approved, review = purchase(decision=Decision.APPROVE), purchase()
    foreign = purchase(card="bob")
    links()
    histories()
    client.force_login(alice)
    address = reverse("admin:scoring_transaction_entity", args=["payments", "card", token("ann")])
    page = client.get(address).content.decode()
    assert str(approved.pk) in page
    assert str(foreign.pk) not in page
    assert str(review.pk) in panel(page, "alerts")
    assert "1 open alert," in page
    add = reverse("admin:scoring_listentry_of_transaction", args=[review.pk])
    assert add in page
    client.post(add, {"block": blocked.pk, "reason": "Stolen", "back": address})
    assert "on blocked_cards" in client.get(address).content.decode()


def full_history(entity, name, first):
    """A history that keeps as many transactions as it may, from this place in the order of arrival on."""
    schema = load_schema("payments")
    [limit] = [each.history_limit for each in schema.entities if each.name == entity]
    rest = bytes(stored.event_bytes(schema, entity) - 8)
    events = b"".join(key.to_bytes(8, "little") + rest for key in range(first, first + limit))
    told = {"schema": "payments", "entity": entity, "last_sequence": first + limit}
    History.objects.create(token=token(name), events=bytes(stored.VERSION_BYTES) + events, **told)


def test_before_the_beginning_of_a_full_history_alerts_are_shown_and_the_page_says_so(client, alice, purchase, links):
    old, forgotten, kept = purchase(), purchase(decision=Decision.APPROVE), purchase(decision=Decision.APPROVE)
    links()
    full_history("card", "ann", first=3)
    for told in (
        panel(page_of(client, alice, old), "timelines"),
        client.get(
            reverse("admin:scoring_transaction_entity", args=["payments", "card", token("ann")])
        ).content.decode(),
    ):
        assert "before 2026-11-27 12:02" in told
        assert str(kept.pk) in told
        assert str(old.pk) in told
        assert str(forgotten.pk) not in told
    assert 'class="review this"' in panel(page_of(client, alice, old), "timelines")


def test_earlier_transactions_of_a_card_are_on_further_pages(client, alice, purchase, links, histories, settings):
    first, second, third = purchase(decision=Decision.APPROVE), purchase(), purchase()
    links()
    histories()
    settings.CASE_TIMELINE_ROWS = 2
    address = reverse("admin:scoring_transaction_entity", args=["payments", "card", token("ann")])
    assert f'<a href="{address}?until={second.pk}">earlier</a>' in page_of(client, alice, third)
    latest = panel(client.get(address).content.decode(), "transactions")
    assert all(str(row.pk) in latest for row in (second, third))
    assert str(first.pk) not in latest
    earlier = client.get(address, {"until": str(second.pk)}).content.decode()
    assert '<a href="?">The latest</a>' in earlier
    assert str(first.pk) in panel(earlier, "transactions")
    assert str(third.pk) not in panel(earlier, "transactions")
    assert client.get(address, {"until": "yesterday"}).status_code == 404


def test_an_entity_that_nobody_knows_is_not_found(client, alice, db):
    client.force_login(alice)
    for name in ("card", "nothing"):
        address = reverse("admin:scoring_transaction_entity", args=["payments", name, token("gone")])
        assert client.get(address).status_code == 404


def test_an_alert_is_linked_as_it_is_stored_and_other_traffic_is_not(handbook_champion, acme):
    payment = {"schema": "handbook", "amount": 12.5, "terminal": "shop", "event_time": timezone.now().isoformat()}
    sent = [payment | {"customer": name} for name in ("ada", "bob")]
    for payload, threshold in zip(sent, (0.0, 1.0), strict=True):
        handbook_champion.review_threshold, handbook_champion.block_threshold = threshold, None
        batch = [submission(acme.pk, payload)]
        batches.score_batch(submissions=batch, predictor=Predictor(handbook_champion), started_at=time.time())
    review = Review.objects.get()
    assert dict(review.links.values_list("name", "key")) == review.prediction.transaction.tokens
    assert ReviewLink.objects.count() == 2


def test_reviews_of_before_are_linked_once_by_a_command(purchase, links):
    review = purchase(entities={"equipment": token("phone")})
    links()
    links()
    assert set(ReviewLink.objects.filter(review=review).values_list("name", flat=True)) == {
        "card",
        "seller",
        "equipment",
        "email",
    }


def test_a_user_without_rights_sees_no_page_of_a_card(client, purchase, histories):
    purchase()
    histories()
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    address = reverse("admin:scoring_transaction_entity", args=["payments", "card", token("ann")])
    assert client.get(address).status_code == 403


def test_the_payments_schema_has_what_these_tests_tell():
    assert set(PURCHASE) == set(load_schema("payments").feature_names)


NOTE = "The holder called from Lisbon."
TELLTALE = (
    *(NOTE, "<td>alice</td>", "by alice", 'class="badge fraud"', "1 known frauds", "by analyst"),
    *('circle class="ring"', ' ring"'),
)


@pytest.fixture
def decided(purchase, histories, links, alice, settings, tmp_path):
    """A purchase that Alice has confirmed as fraud, which waits for a second opinion, and an open one of its card."""
    settings.SECOND_OPINION_SHARE = 1.0
    options = {"location": tmp_path / "attachments"}
    store = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    settings.STORAGES = settings.STORAGES | {"attachments": store}
    first, other = (purchase(contributions={"amount": 3.0}) for _ in range(2))
    histories()
    links()
    attachments.add(review=first, file=SimpleUploadedFile("before.pdf", b"%PDF-1.7\n%%EOF"), author=alice)
    labelling.close_review(review=first, is_fraud=True, reviewer=alice, note=NOTE)
    attachments.add(review=first, file=SimpleUploadedFile("after.pdf", b"%PDF-1.7\n%%EOF"), author=alice)
    return first, other


def doors_to(first, other):
    """Every page on which a case, or another one of its card, tells of labels and decisions."""
    review, queue = "admin:scoring_review", reverse("admin:scoring_review_changelist")
    named = str(first.prediction.transaction)
    return {
        "the other case": reverse(f"{review}_change", args=[other.pk]),
        "the case": reverse(f"{review}_change", args=[first.pk]),
        "its history": reverse(f"{review}_history", args=[first.pk]),
        "the card": reverse("admin:scoring_transaction_entity", args=["payments", "card", token("ann")]),
        "all of the card": reverse(f"{review}_together", args=[other.pk]),
        "all of the seller": reverse(f"{review}_together", args=[other.pk]) + "?entity=seller",
        "all of its own card": reverse(f"{review}_together", args=[first.pk]),
        "the queue": f"{queue}?state=all",
        "search": f"{queue}?state=all&q={named}",
        "labels": reverse("admin:scoring_label_changelist"),
        "label": reverse("admin:scoring_label_change", args=[Label.objects.get().pk]),
        "transactions": reverse("admin:scoring_transaction_changelist") + f"?q={named}",
        "the transaction": reverse("admin:scoring_transaction_change", args=[first.pk]),
        "the other transaction": reverse("admin:scoring_transaction_change", args=[other.pk]),
        "predictions": reverse("admin:scoring_prediction_changelist"),
        "the prediction": reverse("admin:scoring_prediction_change", args=[first.pk]),
        "home": reverse("admin:index"),
    }


def test_who_may_give_the_second_opinion_finds_the_first_behind_no_door(client, sam, decided):
    client.force_login(sam)
    for door, address in doors_to(*decided).items():
        page = unescape(client.get(address, follow=True).content.decode())
        assert not [page[max(0, page.index(word) - 80) :][:160] for word in TELLTALE if word in page], door


def test_for_others_the_decision_stands_on_the_pages_of_the_card(client, rita, decided):
    client.force_login(rita)
    found = {door: client.get(address).content.decode() for door, address in doors_to(*decided).items()}
    assert NOTE in found["the other case"]
    assert "1 known frauds" in found["the other case"]
    assert panel(found["the other case"], "links").count("badge fraud") == 1
    assert panel(found["the other case"], "similar").count("badge fraud") == 1
    assert "<td>alice</td>" in found["the card"]


def test_the_second_opinion_is_given_before_the_whole_case_and_the_files_of_before_the_decision(client, sam, decided):
    first, _ = decided
    client.force_login(sam)
    page = unescape(client.get(reverse("admin:scoring_review_second", args=[first.pk])).content.decode())
    assert "212.40 EUR at Shop 17" in panel(page, "story")
    assert "order-1" not in panel(page, "similar")
    assert "timeline" in panel(page, "timelines")
    assert "once you have given your opinion" in panel(page, "notes")
    assert ("before.pdf" in page, "after.pdf" in page) == (True, False)
    before, after = (reverse("admin:scoring_attachment", args=[each.pk]) for each in first.attachments.all())
    assert b"".join(client.get(before).streaming_content).startswith(b"%PDF")
    assert client.get(after).status_code == 404


def test_once_the_second_opinion_is_given_everything_is_shown(client, sam, decided):
    first, other = decided
    client.force_login(sam)
    client.post(reverse("admin:scoring_review_second", args=[first.pk]), {"decide": "fraud"})
    page = page_of(client, sam, other)
    assert NOTE in panel(page, "notes")
    assert "badge fraud" in panel(page, "links")
