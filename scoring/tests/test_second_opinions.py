"""Second opinions: who is asked and sees what, disagreements, and the quality of decisions."""

from collections import Counter
from datetime import timedelta
from html import unescape
from uuid import UUID, uuid4

import pytest
from django.urls import reverse
from django.utils import timezone

from scoring.models import Label, Review, SecondOpinion
from scoring.reviews import labelling, second_opinions
from scoring.reviews.agreement import kappa_of

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")
NEXT = reverse("admin:scoring_review_second_next")
DISAGREEMENTS = reverse("admin:scoring_review_disagreements")
QUALITY = reverse("admin:scoring_review_quality")
NOTE = "The holder called from Lisbon."


def text(response):
    return unescape(response.content.decode())


def second_of(review):
    return reverse("admin:scoring_review_second", args=[review.pk])


def opinion():
    return SecondOpinion.objects.get()


@pytest.fixture(autouse=True)
def all_are_drawn(settings):
    settings.SECOND_OPINION_SHARE = 1.0


@pytest.fixture
def decided(alert, alice):
    """A review that Alice has confirmed as fraud."""
    review = alert(0.9)
    labelling.close_review(review=review, is_fraud=True, reviewer=alice, note=NOTE)
    return review


@pytest.fixture
def at_work(client, sam):
    client.force_login(sam)
    return client


def test_the_draw_is_by_the_key_and_of_the_share_that_is_set(settings):
    keys = [UUID(int=number) for number in range(2_000)]
    settings.SECOND_OPINION_SHARE = 0.1
    drawn = {key for key in keys if second_opinions.is_drawn(key)}
    assert 150 < len(drawn) < 250
    settings.SECOND_OPINION_SHARE = 0.2
    assert drawn < {key for key in keys if second_opinions.is_drawn(key)}
    settings.SECOND_OPINION_SHARE = 0.0
    assert not any(second_opinions.is_drawn(key) for key in keys)


def test_the_second_analyst_is_led_to_the_case_and_sees_neither_label_nor_person_nor_note(at_work, decided, alice):
    assert "Second opinions (1)" in text(at_work.get(QUEUE))
    assert at_work.get(NEXT)["Location"] == second_of(decided)
    page = text(at_work.get(second_of(decided)))
    assert "V14" in page
    for hidden in (NOTE, "alice", "Confirmed fraud", 'class="badge fraud"'):
        assert hidden not in page


def test_other_pages_keep_the_decision_from_who_may_give_the_second_opinion_and_from_nobody_else(
    at_work, decided, client, alice
):
    shown = {
        kind: [reverse(f"admin:scoring_{kind}_{page}", args=[decided.pk]) for page in ("change", "history")]
        for kind in ("review", "transaction")
    }
    for address in (*shown["review"], *shown["transaction"]):
        assert at_work.get(address)["Location"] == second_of(decided)
        assert at_work.post(address, {"label": "legitimate", "reason": "x"})["Location"] == second_of(decided)
    listed = [f"{QUEUE}?state=all", reverse("admin:scoring_label_changelist")]
    label = reverse("admin:scoring_label_change", args=[Label.objects.get().pk])
    assert "0 reviews" in text(at_work.get(listed[0]))
    assert "0 labels" in text(at_work.get(listed[1]))
    assert at_work.get(label).status_code == 302
    client.force_login(alice)
    assert NOTE in text(client.get(shown["review"][0]))
    assert NOTE in text(client.get(listed[1]))
    assert client.get(label).status_code == 200


def test_nobody_gives_a_second_opinion_on_a_case_that_they_have_labelled(client, alert, sam, sue):
    review = alert(0.9)
    labelling.close_review(review=review, is_fraud=True, reviewer=sam)
    client.force_login(sam)
    assert client.get(NEXT)["Location"] == QUEUE
    client.post(second_of(review), {"decide": "fraud"})
    assert opinion().state == "waiting"
    source = Label.Source.ANALYST
    labelling.add_label(transaction_id=review.pk, is_fraud=False, source=source, author=sue, reason="A mistake")
    client.force_login(sue)
    assert client.get(NEXT)["Location"] == QUEUE


def test_an_analyst_without_the_permission_gives_none(client, decided, rita):
    client.force_login(rita)
    assert client.get(NEXT).status_code == 403
    assert client.post(second_of(decided), {"decide": "fraud"}).status_code == 403


def test_an_opinion_that_agrees_ends_the_matter_and_changes_no_label(at_work, decided):
    at_work.post(second_of(decided), {"decide": "fraud", "note": "Clear."})
    assert (opinion().state, opinion().second.username, opinion().note) == ("agreed", "sam", "Clear.")
    assert Label.objects.count() == 1
    assert NOTE in text(at_work.get(reverse("admin:scoring_review_change", args=[decided.pk])))


@pytest.mark.parametrize("sent", [{"decide": "maybe"}, {"code": "unknown"}, {"note": "4111 1111 1111 1111"}])
def test_an_opinion_that_is_refused_changes_nothing(at_work, decided, sent):
    assert 'class="error"' in text(at_work.post(second_of(decided), {"decide": "fraud"} | sent))
    assert opinion().state == "waiting"


def test_of_two_second_opinions_the_first_counts(at_work, decided, client, sue):
    at_work.post(second_of(decided), {"decide": "fraud"})
    client.force_login(sue)
    client.post(second_of(decided), {"decide": "legitimate"})
    assert (opinion().state, opinion().second.username) == ("agreed", "sam")


def test_two_who_ask_for_the_next_are_led_to_different_cases_and_a_skipped_one_does_not_come_back(
    client, alert, alice, sam, sue
):
    for score in (0.9, 0.8):
        labelling.close_review(review=alert(score), is_fraud=True, reviewer=alice)
    client.force_login(sam)
    first = client.get(NEXT)["Location"]
    assert client.get(NEXT)["Location"] == first
    client.force_login(sue)
    second = client.get(NEXT)["Location"]
    assert second not in (first, QUEUE)
    assert client.post(second, {"decide": "skip"})["Location"] == QUEUE


def test_a_disagreement_is_settled_by_a_supervisor_with_a_reason_and_corrects_the_label(client, decided, sam, sue):
    client.force_login(sam)
    client.post(second_of(decided), {"decide": "legitimate", "note": "A known shop."})
    assert opinion().state == "disagreed"
    assert client.get(DISAGREEMENTS).status_code == 403
    client.force_login(sue)
    page = text(client.get(DISAGREEMENTS))
    assert all(words in page for words in (NOTE, "A known shop.", "alice", "sam"))
    sent = {"review": decided.pk, "decide": "legitimate"}
    assert "Give a reason" in text(client.post(DISAGREEMENTS, sent | {"reason": " "}, follow=True))
    client.post(DISAGREEMENTS, sent | {"reason": "The shop confirms it."})
    assert (opinion().state, opinion().settled_by, opinion().settled_is_fraud) == ("settled", sue, False)
    newest = Label.objects.latest("created_at")
    assert (newest.is_fraud, newest.author, newest.reason) == (False, sue, "The shop confirms it.")
    assert Review.objects.get(pk=decided.pk).state == "legitimate"
    assert "No disagreement waits for you." in text(client.get(DISAGREEMENTS))


def test_settling_for_the_first_decision_writes_no_label_and_is_not_for_one_of_the_two(client, decided, sue, ada):
    client.force_login(sue)
    client.post(second_of(decided), {"decide": "legitimate"})
    sent = {"review": decided.pk, "decide": "fraud", "reason": "Clear."}
    client.post(DISAGREEMENTS, sent)
    assert opinion().state == "disagreed"
    client.force_login(ada)
    client.post(DISAGREEMENTS, sent)
    assert opinion().state == "settled"
    assert Label.objects.count() == 1


def test_undoing_or_reopening_the_decision_withdraws_the_question(alert, alice):
    act, review = UUID(int=1), alert(0.9)
    labelling.close_review(review=review, is_fraud=True, reviewer=alice, act=act)
    labelling.undo(act=act, author=alice)
    assert not SecondOpinion.objects.exists()
    labelling.close_review(review=review, is_fraud=True, reviewer=alice)
    labelling.reopen_review(review=review, author=alice, reason="Look again")
    assert not SecondOpinion.objects.exists()


def test_undoing_a_correction_or_a_reopening_leaves_the_question(decided, alice):
    acts = [uuid4(), uuid4()]
    labelling.add_label(
        transaction_id=decided.pk, is_fraud=False, source="analyst", author=alice, reason="A slip.", act=acts[0]
    )
    labelling.undo(act=acts[0], author=alice)
    assert opinion().state == "waiting"
    labelling.reopen_review(review=decided, author=alice, reason="Look again.", act=acts[1])
    assert not SecondOpinion.objects.exists()
    labelling.undo(act=acts[1], author=alice)
    assert (opinion().state, opinion().first, opinion().first_is_fraud) == ("waiting", alice, True)


def test_the_time_of_a_decision_is_that_from_the_opening_of_its_page(client, alert, alice):
    opened = alert(0.9)
    client.force_login(alice)
    page = reverse("admin:scoring_review_change", args=[opened.pk])
    client.get(page)
    Review.objects.filter(pk=opened.pk).update(claimed_since=timezone.now() - timedelta(seconds=42))
    client.get(page)  # renews the claim, which keeps its beginning
    client.post(page, {"decide": "fraud"})
    opened.refresh_from_db()
    assert 42 <= opened.decided_in_s < 60
    unopened = alert(0.8)
    labelling.close_review(review=unopened, is_fraud=True, reviewer=alice)
    unopened.refresh_from_db()
    assert unopened.decided_in_s is None


def test_supervisors_see_agreement_and_time_per_decision_by_analyst(client, decided, alert, alice, sam, sue):
    Review.objects.filter(pk=decided.pk).update(decided_in_s=30.0)
    client.force_login(sam)
    client.post(second_of(decided), {"decide": "fraud"})
    assert client.get(QUALITY).status_code == 403
    client.force_login(sue)
    page = text(client.get(QUALITY))
    assert "not defined: all judgements are the same" in page
    assert page.count("1 of 1") == 3  # all, and each of the two
    assert '<td class="number">30 s</td>' in page
    other = alert(0.8)
    labelling.close_review(review=other, is_fraud=False, reviewer=alice)
    client.post(second_of(other), {"decide": "fraud"})
    page = text(client.get(QUALITY, {"days": "7"}))
    assert "0.00" in page
    assert "1 of 2" in page


@pytest.mark.parametrize("person", ["alice", "mel", "rita"])
def test_the_page_of_quality_is_not_for_others(client, person, request):
    client.force_login(request.getfixturevalue(person))
    assert client.get(QUALITY).status_code == 403


def test_kappa_is_that_of_a_worked_example_and_its_interval_covers_it():
    pairs = Counter({(True, True): 20, (True, False): 5, (False, True): 10, (False, False): 15})
    kappa = kappa_of(pairs.elements())
    assert kappa.value == pytest.approx(0.4)
    assert 0.1 < kappa.low < 0.4 < kappa.high < 0.65
    assert (kappa.cases, kappa.agreed) == (50, 35)


def test_a_handful_of_cases_that_all_agree_leaves_kappa_uncertain():
    few = kappa_of([(True, True), (False, False)] * 2)
    many = kappa_of([(True, True), (False, False)] * 200)
    assert few.value == many.value == 1.0
    assert few.low < 0.6 < 0.95 < many.low
    assert kappa_of([]) is None
