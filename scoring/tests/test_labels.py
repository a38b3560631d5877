"""Labels: how they are shown, and how they come to be."""

import re
import threading
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from scoring.exceptions import LabelledMeanwhile, ReasonMissing
from scoring.models import Decision, Label, Pending, Review, Transaction
from scoring.reviews import labelling

pytestmark = pytest.mark.django_db

LABELS = reverse("admin:scoring_label_changelist")
BADGES = {True: '<span class="badge fraud">Fraud</span>', False: '<span class="badge legitimate">Legitimate</span>'}


def address_of(row):
    return reverse(f"admin:scoring_{row._meta.model_name}_change", args=[row.pk])


def page_of(client, row):
    return client.get(address_of(row)).content.decode()


def decide(client, *reviews, word="confirm_fraud"):
    """Label reviews from the list. Returns the page that follows."""
    chosen = {"action": word, "_selected_action": [review.pk for review in reviews], "confirmed": "yes"}
    return client.post(reverse("admin:scoring_review_changelist"), chosen, follow=True).content.decode()


def say(client, row, word, reason="She called us.", **more):
    """Correct a label on the page of a review or transaction. Returns the page that follows."""
    return client.post(address_of(row), {"label": word, "reason": reason} | more, follow=True).content.decode()


def press_undo(client, page):
    [form] = re.findall(r'<form method="post" action="([^"]+)" class="undo".*?name="back" value="([^"]*)"', page)
    return client.post(form[0], {"back": unescape(form[1])}, follow=True).content.decode()


def state_of(review):
    return Review.objects.values("state", "closed_at", "reviewer_id").get(pk=review.pk)


def words(row):
    """All labels of a transaction, in order."""
    return list(Label.objects.filter(transaction_id=row.pk).order_by("created_at").values_list("is_fraud", flat=True))


@pytest.fixture
def closed(alice, alert):
    """A review that Alice closed, as fraud or as legitimate."""

    def make(is_fraud=False):
        review = alert(0.9)
        assert labelling.close_review(review=review, is_fraud=is_fraud, reviewer=alice)
        review.refresh_from_db()
        return review

    return make


@pytest.mark.parametrize("is_fraud", [True, False])
def test_a_label_is_a_word_in_its_colour_and_never_a_tick_or_a_cross(client, alice, alert, is_fraud):
    review = alert(0.9)
    labelling.close_review(review=review, is_fraud=is_fraud, reviewer=alice)
    label = Label.objects.get()
    client.force_login(alice)
    reviews = client.get(reverse("admin:scoring_review_changelist"), {"state": "all"}).content.decode()
    for page in (client.get(LABELS).content.decode(), page_of(client, label), page_of(client, review), reviews):
        assert BADGES[is_fraud] in page
        assert BADGES[not is_fraud] not in page
        assert "icon-yes" not in page
        assert "icon-no" not in page


def test_labels_are_filtered_by_their_words(client, alice, alert):
    for is_fraud in (True, False, False):
        labelling.close_review(review=alert(0.9), is_fraud=is_fraud, reviewer=alice)
    client.force_login(alice)
    page = client.get(LABELS, {"is_fraud__exact": "0"}).content.decode()
    assert ">Fraud</a>" in page
    assert ">Legitimate</a>" in page
    assert page.count(BADGES[False]) == 2
    assert BADGES[True] not in page


def test_undo_makes_a_decision_undone(client, alice, alert):
    review = alert(0.9)
    before = state_of(review)
    client.force_login(alice)
    page = press_undo(client, client.post(address_of(review), {"decide": "fraud"}, follow=True).content.decode())
    assert "1 undone" in page
    assert "Confirm fraud" in page, "it leads back to the review"
    assert state_of(review) == before
    assert words(review) == [True, None]
    assert "taken back" in page_of(client, review)
    assert LogEntry.objects.filter(user=alice, change_message="Undone.").count() == 1


def test_undo_makes_a_mass_action_undone(client, alice, alert):
    reviews = [alert(0.9), alert(0.8), alert(0.7)]
    client.force_login(alice)
    assert "3 undone" in press_undo(client, decide(client, *reviews))
    assert Review.objects.filter(state="open", closed_at=None, reviewer=None).count() == 3


@pytest.mark.parametrize("word", ["reopen", "fraud"])
def test_undo_of_a_correction_restores_what_was_said_before_by_whom_and_when(client, ada, closed, word):
    review = closed(is_fraud=False)
    before = state_of(review)
    client.force_login(ada)
    corrected = say(client, review, word)
    assert state_of(review) != before
    press_undo(client, corrected)
    assert state_of(review) == before
    assert labelling.latest_label(Transaction.objects.get(pk=review.pk)).is_fraud is False
    assert len(words(review)) == 3, "no label is deleted"


def test_undo_of_a_report_restores_the_word_of_another_source(client, alice, transaction):
    row = transaction()
    labelling.add_label(transaction_id=row.pk, is_fraud=False, source=Label.Source.IMPORT)
    client.force_login(alice)
    press_undo(client, say(client, row, "fraud"))
    latest = labelling.latest_label(row)
    assert (latest.is_fraud, latest.source) == (False, Label.Source.IMPORT)


def test_undo_that_comes_too_late_changes_nothing_and_says_what_to_do(client, alice, alert, settings):
    review = alert(0.9)
    client.force_login(alice)
    page = decide(client, review)
    Label.objects.update(created_at=timezone.now() - timedelta(seconds=settings.UNDO_S + 1))
    assert "too late to undo" in press_undo(client, page)
    assert state_of(review)["state"] == "fraud"
    assert words(review) == [True]


def test_the_time_to_undo_counts_from_the_last_label_of_a_click(client, alice, alert, settings):
    client.force_login(alice)
    page = decide(client, alert(0.9), alert(0.8))
    first = Label.objects.order_by("created_at").first()
    Label.objects.filter(pk=first.pk).update(created_at=timezone.now() - timedelta(seconds=settings.UNDO_S + 1))
    assert "2 undone" in press_undo(client, page)


def test_nobody_undoes_the_click_of_a_colleague(client, alice, ada, mel, alert):
    review = alert(0.9)
    client.force_login(alice)
    page = decide(client, review)
    client.force_login(ada)
    assert "Only the person who labelled" in press_undo(client, page)
    client.force_login(mel)
    undo = reverse("admin:scoring_label_undo", args=[Label.objects.get().act])
    assert client.post(undo).status_code == 403
    client.force_login(alice)
    assert client.get(undo).status_code == 405, "a link that a browser fetches ahead must not undo"
    assert words(review) == [True]


def test_undo_pressed_twice_undoes_once(client, alice, alert):
    review = alert(0.9)
    client.force_login(alice)
    page = decide(client, review)
    press_undo(client, page)
    assert "nothing to undo" in press_undo(client, page)
    assert words(review) == [True, None]


def test_undo_leaves_what_was_labelled_again_since(client, alice, ada, alert):
    first, second = alert(0.9), alert(0.8)
    client.force_login(alice)
    page = decide(client, first, second)
    client.force_login(ada)
    say(client, second, "legitimate")
    client.force_login(alice)
    page = press_undo(client, page)
    assert "1 undone" in page
    assert "1 had been labelled again since" in page
    assert (state_of(first)["state"], state_of(second)["state"]) == ("open", "legitimate")
    assert "too late" in client.post(reverse("admin:scoring_label_undo", args=[first.pk]), follow=True).content.decode()


def test_undo_leads_to_no_other_site(client, alice, alert):
    client.force_login(alice)
    decide(client, alert(0.9))
    undo = reverse("admin:scoring_label_undo", args=[Label.objects.get().act])
    assert client.post(undo, {"back": "https://evil.example"})["Location"] == reverse("admin:scoring_review_changelist")


def test_without_seconds_to_undo_there_is_no_undo(client, alice, alert, settings):
    settings.UNDO_S = 0
    client.force_login(alice)
    assert 'class="undo"' not in decide(client, alert(0.9))


def test_a_review_is_reopened_with_a_reason_and_can_be_decided_anew(client, ada, closed):
    review = closed(is_fraud=True)
    client.force_login(ada)
    page = say(client, review, "reopen", reason="The cardholder recognised it.")
    assert state_of(review) == {"state": "open", "closed_at": None, "reviewer_id": None}
    for shown in (page, page_of(client, review.prediction.transaction)):
        assert "Reopened: The cardholder recognised it." in shown
        assert BADGES[True] in shown, "earlier labels are still shown"
        assert "taken back" in shown
    assert labelling.close_review(review=review, is_fraud=False, reviewer=ada)
    assert words(review) == [True, None, False]


@pytest.mark.parametrize("was", [True, False])
@pytest.mark.parametrize("page", ["review", "transaction"])
def test_a_label_is_corrected_with_a_reason(client, ada, closed, was, page):
    review = closed(is_fraud=was)
    row = review if page == "review" else review.prediction.transaction
    word = "legitimate" if was else "fraud"
    client.force_login(ada)
    assert f"Relabel {word}" in page_of(client, row)
    shown = say(client, row, word)
    assert "She called us." in shown
    assert words(review) == [was, not was]
    assert (state_of(review)["state"], state_of(review)["reviewer_id"]) == (word, ada.pk)


@pytest.mark.parametrize("word", ["reopen", "fraud"])
@pytest.mark.parametrize("reason", ["", "   ", "x" * 1_001])
def test_nothing_is_corrected_without_a_proper_reason(client, ada, closed, word, reason):
    review = closed(is_fraud=False)
    before = state_of(review)
    client.force_login(ada)
    assert "Give a reason" in say(client, review, word, reason=reason)
    assert (state_of(review), words(review)) == (before, [False])


def test_a_reason_may_have_a_thousand_characters(client, ada, closed):
    review = closed(is_fraud=False)
    client.force_login(ada)
    say(client, review, "fraud", reason="x" * 1_000)
    assert words(review) == [False, True]


def test_no_card_number_is_kept_in_a_reason(client, ada, closed):
    review = closed(is_fraud=False)
    client.force_login(ada)
    assert "holds a card number" in say(client, review, "fraud", reason="Stolen: 4111 1111 1111 1111, 12/27")
    assert words(review) == [False]


@pytest.mark.parametrize("word", ["reopen", "fraud"])
def test_who_looked_before_a_colleague_corrected_it_overwrites_nothing(client, alice, ada, closed, word):
    review = closed(is_fraud=False)
    client.force_login(ada)
    [seen] = re.findall(r'name="seen" value="(\d+)"', page_of(client, review))
    labelling.add_label(
        transaction_id=review.pk, is_fraud=True, source=Label.Source.ANALYST, author=alice, reason="It was."
    )
    before = state_of(review)
    assert "labelled it meanwhile" in say(client, review, word, seen=seen)
    assert (state_of(review), words(review)) == (before, [False, True])


def test_fraud_is_reported_on_a_transaction_that_never_had_a_review(client, alice, transaction):
    row = transaction()
    client.force_login(alice)
    assert "Report fraud" in page_of(client, row)
    page = say(client, row, "fraud", reason="The bank reported it.")
    assert "The bank reported it." in page
    assert "Report fraud" not in page
    label = Label.objects.get()
    assert (label.is_fraud, label.source, label.author) == (True, Label.Source.ANALYST, alice)
    assert (label.transaction, label.reason) == (row, "The bank reported it.")
    assert "Labelled fraud: The bank reported it." in LogEntry.objects.get().change_message


def test_fraud_is_reported_on_what_waits_for_its_score(client, alice, transaction):
    row = transaction()
    Pending.objects.create(transaction=row, due_at=timezone.now())
    client.force_login(alice)
    say(client, row, "fraud")
    assert words(row) == [True]


def test_a_report_on_an_open_alert_closes_its_review(client, alice, alert):
    review = alert(0.9, decision=Decision.BLOCK)
    client.force_login(alice)
    say(client, review.prediction.transaction, "fraud")
    assert state_of(review)["state"] == "fraud"
    assert state_of(review)["closed_at"] == Label.objects.get().created_at


def test_an_ml_engineer_corrects_nothing(client, mel, closed):
    review = closed()
    client.force_login(mel)
    for row in (review, review.prediction.transaction):
        assert 'name="reason"' not in page_of(client, row)
        say(client, row, "fraud")
    assert words(review) == [False]


def test_nonsense_is_no_label(client, alice, closed):
    review = closed()
    client.force_login(alice)
    assert "Nothing was changed" in say(client, review, "perhaps")
    say(client, review, "fraud", seen="x")
    assert words(review) == [False, True]


def test_a_chargeback_after_the_review_stands_when_it_is_reopened(alice, closed):
    review = closed(is_fraud=False)
    labelling.add_label(transaction_id=review.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
    assert state_of(review)["state"] == "legitimate", "the review keeps the analyst's label"
    labelling.reopen_review(review=review, author=alice, reason="Look again.")
    latest = labelling.latest_label(Transaction.objects.get(pk=review.pk))
    assert (latest.is_fraud, latest.source, state_of(review)["state"]) == (True, Label.Source.CHARGEBACK, "open")


def test_a_word_that_is_older_than_the_latest_of_its_source_is_kept_and_changes_nothing(transaction):
    row = transaction()
    labelling.add_label(transaction_id=row.pk, is_fraud=False, source=Label.Source.CHARGEBACK)
    yesterday = timezone.now() - timedelta(days=1)
    labelling.add_label(transaction_id=row.pk, is_fraud=True, source=Label.Source.CHARGEBACK, at=yesterday)
    assert labelling.latest_label(row).is_fraud is False
    assert words(row) == [False, True]


def test_a_correction_counts_although_the_clock_is_behind_that_of_the_label_before(transaction):
    row = transaction()
    ahead = timezone.now() + timedelta(hours=1)
    labelling.add_label(transaction_id=row.pk, is_fraud=False, source=Label.Source.CHARGEBACK, at=ahead)
    labelling.add_label(transaction_id=row.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
    assert labelling.latest_label(row).is_fraud is True
    assert words(row) == [False, True]


def test_a_label_that_stands_already_is_refused_to_an_analyst_and_taken_from_other_sources(alice, closed):
    review = closed(is_fraud=True)
    same = {"transaction_id": review.pk, "is_fraud": True}
    with pytest.raises(LabelledMeanwhile):
        labelling.add_label(**same, source=Label.Source.ANALYST, author=alice, reason="It is.")
    for _ in range(2):
        labelling.add_label(**same, source=Label.Source.CHARGEBACK)
    assert words(review) == [True, True, True]


@pytest.mark.parametrize(("hours", "state"), [(-1, "legitimate"), (1, "fraud")])
def test_a_review_follows_the_latest_word_of_an_analyst_whenever_it_is_entered(ada, closed, hours, state):
    review = closed(is_fraud=False)
    labelling.add_label(
        transaction_id=review.pk,
        is_fraud=True,
        source=Label.Source.ANALYST,
        author=ada,
        reason="From the old system.",
        at=timezone.now() + timedelta(hours=hours),
    )
    assert state_of(review)["state"] == state


def test_of_two_labels_of_the_same_time_the_second_counts_for_the_review_too(ada, closed):
    review = closed(is_fraud=False)
    latest = labelling.latest_label(Transaction.objects.get(pk=review.pk))
    label = labelling.add_label(
        transaction_id=review.pk,
        is_fraud=True,
        source=Label.Source.ANALYST,
        author=ada,
        reason="Entered twice.",
        at=latest.event_time,
    )
    assert labelling.latest_label(Transaction.objects.get(pk=review.pk)) == label
    assert state_of(review)["state"] == "fraud"


def test_who_saw_that_nothing_was_said_is_heard_only_while_that_is_so(transaction):
    row = transaction()
    labelling.add_label(transaction_id=row.pk, is_fraud=True, source=Label.Source.IMPORT, seen=0)
    with pytest.raises(LabelledMeanwhile):
        labelling.add_label(transaction_id=row.pk, is_fraud=False, source=Label.Source.IMPORT, seen=0)
    assert words(row) == [True]


def test_an_analyst_says_why_and_other_sources_need_not(alice, transaction):
    row = transaction()
    with pytest.raises(ReasonMissing):
        labelling.add_label(transaction_id=row.pk, is_fraud=True, source=Label.Source.ANALYST, author=alice)
    labelling.add_label(transaction_id=row.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
    assert words(row) == [True]


def test_of_several_corrections_at_once_one_is_taken(transactional_db, closed, alice):
    review = closed(is_fraud=False)
    seen = labelling.latest_label(Transaction.objects.get(pk=review.pk)).pk
    start, refused = threading.Barrier(4), []

    def correct():
        start.wait()
        try:
            labelling.reopen_review(review=review, author=alice, reason="Look again.", seen=seen)
        except LabelledMeanwhile:
            refused.append(True)
        finally:
            connection.close()

    threads = [threading.Thread(target=correct) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert words(review) == [False, None]
