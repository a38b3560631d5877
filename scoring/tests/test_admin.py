"""The admin as the analyst, the ML engineer and the administrator see it."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import api_of, seed_payload
from scoring import services
from scoring.models import ApiKey, Client, Decision, Label, Prediction, Review, Transaction

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")


@pytest.fixture
def alert(acme, champion):
    def make(fraud_score, **changes):
        transaction = Transaction.objects.create(
            client=acme,
            schema="ulb",
            amount=12.5,
            fields=seed_payload(),
            body_sha256="0" * 64,
            event_time=timezone.now(),
            **changes,
        )
        prediction = Prediction.objects.create(
            transaction=transaction,
            model_version=champion,
            fraud_score=fraud_score,
            decision=Decision.REVIEW,
            threshold=0.5,
            reasons=[{"feature": "V14", "contribution": 3.25}],
            latency_ms=4.0,
        )
        return Review.objects.create(prediction=prediction, fraud_score=fraud_score)

    return make


def decide(client, action, *reviews):

    return client.post(
        QUEUE, {"action": action, "_selected_action": [str(review.pk) for review in reviews]}, follow=True
    )


def shown_scores(response):
    return [float(score) for score in re.findall(r"</meter> (\d\.\d+)", response.content.decode())]


def test_the_queue_shows_open_alerts_riskiest_first(client, alice, alert):
    low, high, closed = alert(0.61), alert(0.97), alert(0.8)
    services.close_review(review=closed, is_fraud=True, reviewer=alice)
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
    services.close_review(review=review, is_fraud=True, reviewer=ada)
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


def test_an_administrator_makes_a_key_that_is_shown_once(client, ada, acme):
    client.force_login(ada)
    address = reverse("admin:scoring_client_changelist")
    page = client.post(address, {"action": "create_key", "_selected_action": [acme.pk]}).content.decode()
    key = re.search(r"<code>(fs_[\w-]+)</code>", page)[1]
    assert ApiKey.objects.get().digest == ApiKey.digest_of(key)
    assert key not in client.get(reverse("admin:scoring_apikey_changelist")).content.decode()
    assert not any(key in str(value) for value in ApiKey.objects.values().get().values())


def test_a_client_has_two_active_keys_at_most(client, ada, acme):
    services.create_api_key(client=acme)
    services.create_api_key(client=acme)
    client.force_login(ada)
    address = reverse("admin:scoring_client_changelist")
    page = client.post(address, {"action": "create_key", "_selected_action": [acme.pk]}, follow=True)
    assert "at most two active keys" in page.content.decode()
    assert acme.keys.count() == 2


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
    assert set(Group.objects.values_list("name", flat=True)) == {"Fraud analyst", "ML engineer", "Administrator"}


def test_guessing_passwords_locks_the_guesser_out_but_not_the_owner(client, alice):
    login = reverse("admin:login")
    for _ in range(6):
        blocked = client.post(login, {"username": "alice", "password": "guess"}, REMOTE_ADDR="203.0.113.9")
    assert blocked.status_code == 429
    right = {"username": "alice", "password": "alice-password"}
    assert client.post(login, right, REMOTE_ADDR="203.0.113.9").status_code == 429
    assert client.post(login, right, REMOTE_ADDR="198.51.100.7").status_code == 302
