"""The page *At work*: which workers have a version loaded, and how a shadow compares with the decisions."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone

from monitoring import shadow_comparison
from monitoring.tests.support import predict
from scoring.models import Decision, Label, ShadowScore
from scoring.reviews import labelling
from scoring.worker import workers
from training.models import ModelVersion

pytestmark = pytest.mark.django_db


@pytest.fixture
def shadow(champion):
    return ModelVersion.objects.create(version="challenger", schema="ulb", stage="shadow", review_threshold=0.4)


def beside(champion, shadow, acme, pairs, *, labels=()):
    """Predictions and shadow scores with these scores; the first ones have labels."""
    now = timezone.now()
    made = []
    for decided, given in pairs:
        decision = Decision.REVIEW if decided >= 0.5 else Decision.APPROVE
        made += predict(champion, acme, [now], decision=decision, fraud_scores=[decided])
        ShadowScore.objects.create(
            transaction=made[-1].transaction, model_version=shadow, fraud_score=given, created_at=now
        )
    for prediction, is_fraud in zip(made, labels, strict=False):
        labelling.add_label(transaction_id=prediction.pk, is_fraud=is_fraud, source=Label.Source.CHARGEBACK)
    return made


def page(client, version):
    return client.get(reverse("at_work", args=[version.pk]))


def test_it_counts_who_alerts(champion, shadow, acme):
    beside(champion, shadow, acme, [(0.9, 0.9), (0.9, 0.1), (0.1, 0.45), (0.1, 0.1), (0.2, 0.1)])
    found = shadow_comparison.compare(shadow)
    assert found.alerts == {"both": 1, "decided": 1, "shadow": 1, "neither": 2}
    assert (found.agreement, found.decided_rate, found.shadow_rate) == (0.6, 0.4, 0.4)


def test_what_labels_are_known_judge_both(champion, shadow, acme):
    pairs = [(0.9, 0.9), (0.8, 0.1), (0.1, 0.8), (0.1, 0.1), (0.6, 0.2)]
    beside(champion, shadow, acme, pairs, labels=[True, False, True, False])
    found = shadow_comparison.compare(shadow)
    assert (found.labelled, found.frauds) == (4, 2)
    measures = {name: (decided, given) for name, decided, given, _ in found.measures}
    assert measures["precision"] == (0.5, 1.0)
    assert measures["recall"] == (0.5, 1.0)
    assert measures["AUPRC"][1] == 1.0 > measures["AUPRC"][0]


def test_the_latest_word_on_a_transaction_counts(champion, shadow, acme):
    [prediction] = beside(champion, shadow, acme, [(0.9, 0.9)], labels=[True])
    later = timezone.now() + timedelta(seconds=1)
    Label.objects.create(
        transaction=prediction.transaction,
        is_fraud=False,
        verdict=False,
        source=Label.Source.CHARGEBACK,
        created_at=later,
    )
    assert shadow_comparison.compare(shadow).frauds == 0


def test_the_page_of_a_model_leads_here_once(client, mel, champion):
    client.force_login(mel)
    model = client.get(reverse("admin:training_modelversion_change", args=[champion.pk])).content.decode()
    assert model.count(reverse("at_work", args=[champion.pk])) == 1


def test_the_page_shows_the_comparison(client, mel, champion, shadow, acme):
    made = beside(champion, shadow, acme, [(0.9, 0.9), (0.9, 0.1), (0.1, 0.1), (0.0, 1.0)], labels=[True, False])
    client.force_login(mel)
    response = page(client, shadow)
    text = response.content.decode()
    assert "<dd>50.00%</dd>" in text
    assert str(made[3].pk) in text
    assert text.count("<circle") == 4
    assert "style=" not in text
    assert "unsafe" not in response["Content-Security-Policy"]


def test_it_says_what_workers_have_loaded_and_why_they_refuse(worker, client, mel, champion):
    refusal = workers.Refusal("altered", "weights have been altered")
    workers.publish(workers.Status("realtime@elsewhere 1", {"ulb": champion.pk}, {"ulb": refusal}))
    client.force_login(mel)
    text = page(client, champion).content.decode()
    assert "realtime@elsewhere 1" in text
    assert "weights have been altered" in text


def test_without_traffic_and_without_redis_the_page_is_shown_all_the_same(client, alice, shadow, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    client.force_login(alice)
    text = page(client, shadow).content.decode()
    assert "scored nothing yet" in text
    assert "Redis does not answer" in text


def test_others_do_not_see_it_and_what_is_not_registered_is_not_found(client, mel, shadow):
    client.force_login(User.objects.create_user("olga", is_staff=True))
    assert page(client, shadow).status_code == 403
    client.force_login(mel)
    assert client.get(reverse("at_work", args=["absent"])).status_code == 404
