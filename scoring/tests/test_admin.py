"""The admin as the analyst, the ML engineer and the administrator see it."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import api_of
from scoring.models import Client, Decision, Fallback, Label, Pending, Prediction
from scoring.reviews import labelling
from scoring.worker.opening import review_of

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")


@pytest.fixture
def waiting(transaction):
    """A transaction without a score; with a decision, one that a fallback answered."""

    def make(decision=None, **pending):
        row = transaction(transaction_id="order-1")
        Pending.objects.create(transaction=row, **{"due_at": timezone.now()} | pending)
        if decision:
            Fallback.objects.create(
                transaction=row, decision=decision, reason=Fallback.Reason.NO_WORKER, latency_ms=3.0
            )
        return row

    return make


def page_of(client, row):
    return client.get(reverse(f"admin:scoring_{row._meta.model_name}_change", args=[row.pk])).content.decode()


def decide(client, action, *reviews):
    chosen = {"action": action, "_selected_action": [str(review.pk) for review in reviews], "confirmed": "yes"}
    return client.post(QUEUE, chosen, follow=True)


def shown_scores(response):
    return [float(score) for score in re.findall(r"</meter> (\d\.\d+)", response.content.decode())]


def test_the_queue_shows_open_alerts_riskiest_first(client, alice, alert):
    low, high, closed = alert(0.61), alert(0.97), alert(0.8)
    labelling.close_review(review=closed, is_fraud=True, reviewer=alice)
    client.force_login(alice)
    response = client.get(QUEUE)
    assert shown_scores(response) == [high.fraud_score, low.fraud_score]
    assert "V14" in response.content.decode()
    assert len(shown_scores(client.get(QUEUE, {"state": "all"}))) == 3
    assert shown_scores(client.get(QUEUE, {"state": "fraud"})) == [closed.fraud_score]


@pytest.mark.parametrize(
    ("action", "is_fraud", "state"), [("confirm_fraud", True, "fraud"), ("mark_legitimate", False, "legitimate")]
)
def test_an_analyst_labels_alerts_and_the_label_names_her_and_the_time(client, alice, alert, action, is_fraud, state):
    first, second, untouched = alert(0.9), alert(0.8), alert(0.7)
    client.force_login(alice)
    before = timezone.now()
    response = decide(client, action, first, second)
    assert "2 labelled" in response.content.decode()
    for review in (first, second):
        review.refresh_from_db()
        assert (review.state, review.reviewer) == (state, alice)
        label = Label.objects.get(transaction_id=review.pk)
        assert (label.is_fraud, label.source, label.author) == (is_fraud, "analyst", alice)
        assert before <= label.created_at == review.closed_at <= timezone.now()
    untouched.refresh_from_db()
    assert untouched.state == "open"
    assert LogEntry.objects.filter(user=alice).count() == 2


def test_a_closed_review_keeps_its_first_label(client, alice, ada, alert):
    review = alert(0.9)
    labelling.close_review(review=review, is_fraud=True, reviewer=ada)
    client.force_login(alice)
    response = decide(client, "mark_legitimate", review)
    assert "had been closed already" in response.content.decode()
    review.refresh_from_db()
    assert (review.state, review.reviewer) == ("fraud", ada)
    assert Label.objects.count() == 1


def test_the_page_of_an_alert_labels_it_and_leads_to_the_next(client, alice, alert):
    first, second = alert(0.9), alert(0.8)
    client.force_login(alice)
    address = reverse("admin:scoring_review_change", args=[first.pk])
    assert "Confirm fraud" in client.get(address).content.decode()
    response = client.post(address, {"decide": "fraud"})
    assert response["Location"] == reverse("admin:scoring_review_change", args=[second.pk])
    assert client.post(response["Location"], {"decide": "legitimate"})["Location"] == QUEUE
    assert Label.objects.filter(is_fraud=True).get().transaction_id == first.pk
    assert Label.objects.filter(is_fraud=False).get().transaction_id == second.pk


def test_an_ml_engineer_sees_the_queue_but_decides_nothing(client, mel, alert):
    review = alert(0.9)
    client.force_login(mel)
    assert client.get(QUEUE).status_code == 200
    decide(client, "confirm_fraud", review)
    client.post(reverse("admin:scoring_review_change", args=[review.pk]), {"decide": "fraud"})
    assert not Label.objects.exists()


def test_every_page_says_how_many_reviews_are_open(client, alice, alert):
    client.force_login(alice)
    assert 'class="count"' not in client.get(QUEUE).content.decode()
    alert(0.9)
    alert(0.8)
    labelling.close_review(review=alert(0.7), is_fraud=True, reviewer=alice)
    start = client.get(reverse("admin:index")).content.decode()
    assert "2 open reviews" in start
    assert reverse("dashboard") in start
    for page in (start, client.get(reverse("admin:scoring_transaction_changelist")).content.decode()):
        assert '<span class="count">2</span>' in page


def test_a_long_queue_is_not_counted_to_its_end(client, alice, alert, monkeypatch):
    monkeypatch.setattr("fraudsite.admin.COUNTED_REVIEWS", 3)
    for score in (0.9, 0.8, 0.7, 0.6):
        alert(score)
    client.force_login(alice)
    assert '<span class="count">2+</span>' in client.get(QUEUE).content.decode()


def test_who_may_not_see_reviews_is_not_told_of_them(client, alice, alert):
    alert(0.9)
    alice.groups.clear()
    client.force_login(alice)
    page = client.get(reverse("admin:index")).content.decode()
    assert "Review queue" not in page
    assert "Dashboard" in page


def test_the_history_calls_a_closed_review_what_it_became(client, alice, alert):
    client.force_login(alice)
    decide(client, "confirm_fraud", alert(0.9))
    assert LogEntry.objects.get().object_repr == "Confirmed fraud, score 0.9000"


def test_the_fields_that_raised_the_score_stand_out(client, alice, alert):
    review = alert(0.9)
    client.force_login(alice)
    for row in (review, review.prediction, review.prediction.transaction):
        assert re.findall(r'<div class="raised" title="[^"]+"><dt>(\w+)</dt>', page_of(client, row)) == ["V14"]


def test_a_transaction_that_waits_says_so(client, alice, waiting):
    row = waiting()
    client.force_login(alice)
    for page in (page_of(client, row), client.get(reverse("admin:scoring_transaction_changelist")).content.decode()):
        assert "waits for its score" in page
    assert page_of(client, row).count(reverse("admin:scoring_pending_change", args=[row.pk])) == 1
    assert reverse("admin:scoring_fallback_change", args=[row.pk]) not in page_of(client, row)


def test_a_transaction_that_was_set_aside_says_why(client, alice, waiting, settings):
    row = waiting(attempts=settings.PENDING_ATTEMPTS_LIMIT, fault="The model has no finite score for these values.")
    client.force_login(alice)
    message = f"has no score after {settings.PENDING_ATTEMPTS_LIMIT} attempts: The model has no finite score"
    assert message in page_of(client, row)
    assert message in client.get(reverse("admin:scoring_pending_changelist")).content.decode()


def test_a_transaction_shows_what_a_fallback_decided_and_the_score_that_followed(client, alice, waiting, champion):
    row = waiting(Decision.REVIEW)
    client.force_login(alice)
    page = page_of(client, row)
    assert '<span class="badge review">review</span> <span class="quiet">without a score</span>' in page
    assert "No worker has answered for a while" in page
    assert "waits for its score" in page
    assert "waits for its score" in client.get(reverse("admin:scoring_fallback_changelist")).content.decode()
    row.pending.delete()
    prediction = Prediction.objects.create(
        transaction=row,
        model_version=champion,
        fraud_score=0.0123,
        decision=Decision.APPROVE,
        threshold=0.5,
        latency_ms=4.0,
    )
    review = review_of(prediction, answered=Decision.REVIEW)
    review.save(force_insert=True)
    for shown in (page_of(client, row), page_of(client, review), client.get(QUEUE).content.decode()):
        assert "without a score" in shown
        assert "waits" not in shown
    assert shown_scores(client.get(reverse("admin:scoring_fallback_changelist"))) == [0.0123]
    assert "approve at 0.0123" in page_of(client, row)


@pytest.mark.parametrize("model", ["fallback", "pending"])
def test_what_waits_can_be_searched_but_not_changed(client, ada, waiting, model):
    row = waiting(Decision.REVIEW)
    client.force_login(ada)
    change = reverse(f"admin:scoring_{model}_change", args=[row.pk])
    listing = reverse(f"admin:scoring_{model}_changelist")
    assert "1 result" in client.get(listing, {"q": "order-1"}).content.decode()
    assert "0 results" in client.get(listing, {"q": "order-2"}).content.decode()
    assert "order-1" in client.get(change).content.decode()
    assert client.post(change, {"decision": "approve", "attempts": 7, "_save": "Save"}).status_code in {302, 403}
    assert client.post(reverse(f"admin:scoring_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert client.get(reverse(f"admin:scoring_{model}_add")).status_code == 403
    assert (Pending.objects.get().attempts, Fallback.objects.get().decision) == (0, "review")


@pytest.mark.parametrize("model", ["transaction", "prediction", "review", "fallback"])
def test_a_longer_list_asks_the_database_no_more_often(client, alice, alert, waiting, model, django_assert_num_queries):
    client.force_login(alice)
    listing = reverse(f"admin:scoring_{model}_changelist")
    alert(0.9)
    waiting(Decision.REVIEW)
    client.get(listing)
    with CaptureQueriesContext(connection) as few:
        client.get(listing)
    for score in (0.8, 0.7, 0.6):
        alert(score)
    with django_assert_num_queries(len(few)):
        client.get(listing)


@pytest.mark.parametrize("model", ["transaction", "prediction", "label", "review"])
def test_the_record_can_be_searched_and_filtered_but_not_changed(client, ada, alert, model):
    review = alert(0.9, transaction_id="order-1")
    label = Label.objects.create(transaction_id=review.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
    client.force_login(ada)
    pk = label.pk if model == "label" else review.pk
    change = reverse(f"admin:scoring_{model}_change", args=[pk])
    listing = reverse(f"admin:scoring_{model}_changelist")
    assert client.get(listing).status_code == 200
    assert client.get(change).status_code == 200
    assert client.post(change, {"fraud_score": 0, "_save": "Save"}).status_code in {302, 403}
    assert client.post(reverse(f"admin:scoring_{model}_delete", args=[pk]), {"post": "yes"}).status_code == 403
    assert client.get(reverse(f"admin:scoring_{model}_add")).status_code == 403
    assert Prediction.objects.get().fraud_score == 0.9
    if model != "label":
        assert "1 result" in client.get(listing, {"q": "order-1"}).content.decode()
        assert "0 results" in client.get(listing, {"q": "order-2"}).content.decode()


def test_script_in_a_transaction_id_is_shown_as_text(client, ada, alert):
    alert(0.9, transaction_id="<script>alert(1)</script>")
    client.force_login(ada)
    for model in ("transaction", "review"):
        page = client.get(reverse(f"admin:scoring_{model}_changelist")).content.decode()
        assert "<script>alert(1)" not in page


def test_a_revoked_key_stops_working_within_a_second(client, ada, acme):
    import time

    api = api_of(acme)
    address = f"/api/v1/predictions/{'0' * 8}-0000-0000-0000-{'0' * 12}"
    assert api.get(address).status_code == 404
    client.force_login(ada)
    key = acme.keys.get()
    client.post(reverse("admin:scoring_apikey_changelist"), {"action": "revoke", "_selected_action": [key.pk]})
    time.sleep(1)
    assert api.get(address).status_code == 401


def test_a_disabled_client_is_refused(acme):
    api = api_of(acme)
    Client.objects.update(is_active=False)
    assert api.get(f"/api/v1/predictions/{'0' * 8}-0000-0000-0000-{'0' * 12}").status_code == 401


def test_there_is_a_group_for_each_role():
    assert set(Group.objects.values_list("name", flat=True)) == {
        "Fraud analyst",
        "Senior analyst",
        "Supervisor",
        "Risk manager",
        "ML engineer",
        "Operator",
        "Auditor",
        "Administrator",
    }


def test_guessing_passwords_locks_the_guesser_out_but_not_the_owner(client, alice):
    login = reverse("admin:login")
    for _ in range(6):
        blocked = client.post(login, {"username": "alice", "password": "guess"}, REMOTE_ADDR="203.0.113.9")
    assert blocked.status_code == 429
    right = {"username": "alice", "password": "alice-password"}
    assert client.post(login, right, REMOTE_ADDR="203.0.113.9").status_code == 429
    assert client.post(login, right, REMOTE_ADDR="198.51.100.7").status_code == 302
