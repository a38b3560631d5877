"""Why a transaction has its score: stored with every alert, and on demand for any transaction."""

import re
import time
from html import unescape
from uuid import UUID

import pytest
from celery import current_app
from django.urls import reverse
from django.utils import timezone
from scipy.special import logit

from fraudsite.testing import fraudulent_payload, free_port, seed_payload, submission
from scoring import explanations
from scoring.exceptions import NotExplained
from scoring.models import Prediction, Review, Transaction
from scoring.worker import batches
from scoring.worker import explanations as of_worker
from scoring.worker.predictor import Predictor
from training.core.schema import load_schema
from training.models import ModelVersion

NAMES = load_schema("ulb").feature_names


@pytest.fixture
def scored(acme, champion):
    """The predictions of an ordinary transaction and of a suspicious one."""
    batch = [submission(acme.pk, seed_payload()), submission(acme.pk, fraudulent_payload())]
    batches.score_batch(submissions=batch, predictor=Predictor(champion), started_at=time.time())
    return [Prediction.objects.select_related("transaction").get(pk=UUID(each.id)) for each in batch]


def address_of(prediction):
    return reverse("explanation", args=[prediction.pk])


def page_of(prediction):
    return reverse("admin:scoring_transaction_explanation", args=[prediction.pk])


def adds_up(answer, score):
    total = answer["base"] + sum(each["contribution"] for each in answer["contributions"]) + answer["residual"]
    assert abs(answer["residual"]) <= 1e-3
    return total == pytest.approx(logit(score), abs=1e-6)


def test_every_alert_is_stored_with_contributions_that_add_up_to_the_logit_of_its_score(scored):
    ordinary, fraud = scored
    assert ordinary.explanation is None
    stored = explanations.stored(fraud)
    assert set(stored.contributions) == set(NAMES)
    assert min(stored.contributions.values()) < 0 < max(stored.contributions.values())
    assert abs(stored.residual) <= 1e-3
    assert stored.logit == pytest.approx(logit(fraud.fraud_score), abs=1e-6)


def test_the_reasons_of_an_answer_are_the_strongest_raising_contributions(scored):
    fraud = scored[1]
    strongest = sorted(explanations.stored(fraud).contributions.items(), key=lambda each: -each[1])[:3]
    assert [reason["feature"] for reason in fraud.reasons] == [name for name, _ in strongest]
    assert [reason["contribution"] for reason in fraud.reasons] == [round(added, 4) for _, added in strongest]


def test_a_version_that_decides_no_more_explains_what_it_scored(scored):
    ordinary, fraud = scored
    again = of_worker.explain(fraud.pk)
    stored = explanations.stored(fraud)
    assert again.contributions == pytest.approx(stored.contributions, abs=1e-5)
    explained = of_worker.explain(ordinary.pk)
    assert explained.logit == pytest.approx(logit(ordinary.fraud_score), abs=1e-6)


def test_a_transaction_that_was_scored_under_an_older_declaration_cannot_be_explained(scored):
    row = scored[0].transaction
    Transaction.objects.filter(pk=row.pk).update(fields={"Amount": 12.5})
    with pytest.raises(NotExplained, match="older declaration of ulb"):
        of_worker.explain(row.pk)


def test_a_client_asks_why_any_of_its_transactions_has_its_score(worker, acme_api, globex_api):
    for payload in (seed_payload(), fraudulent_payload()):
        posted = acme_api.post("/predict", data=payload, content_type="application/json").json()
        address = f"/api/v1/predictions/{posted['id']}/explanation"
        answer = acme_api.get(address).json()
        assert adds_up(answer, posted["fraud_score"])
        assert {each["feature"] for each in answer["contributions"]} == set(NAMES)
        strengths = [abs(each["contribution"]) for each in answer["contributions"]]
        assert strengths == sorted(strengths, reverse=True)
        assert all(each["text"] for each in answer["contributions"])
        assert (answer["model_version"], answer["id"]) == (posted["model_version"], posted["id"])
        assert globex_api.get(address).status_code == 404


def test_where_the_version_that_scored_is_gone_the_answer_says_so(worker, acme_api, acme, transaction, client, ada):
    known = ModelVersion.objects.get()
    gone = ModelVersion.objects.create(version="gone", schema="ulb", review_threshold=0.5, metrics=known.metrics)
    prediction = Prediction.objects.create(
        transaction=transaction(), model_version=gone, fraud_score=0.1, decision="approve", threshold=0.5, latency_ms=1
    )
    answer = acme_api.get(address_of(prediction))
    assert (answer.status_code, answer.json()["title"]) == (422, "Score not explained")
    assert answer.json()["detail"] == "The version that scored it, gone, cannot be loaded."
    client.force_login(ada)
    assert "The version that scored it, gone, cannot be loaded." in client.get(page_of(prediction)).content.decode()


def test_without_a_worker_the_answer_and_the_page_say_so(redis_server, scored, acme_api, client, alice, settings):
    settings.EXPLAIN_DEADLINE_MS = 50
    ordinary = scored[0]
    answer = acme_api.get(address_of(ordinary))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "No worker has explained it in time" in answer.json()["detail"]
    client.force_login(alice)
    page = client.get(page_of(ordinary)).content.decode()
    assert "No worker has explained it in time" in page
    assert page_of(ordinary) in page


def test_without_redis_the_answer_comes_within_the_deadline(redis_server, scored, acme_api, monkeypatch, settings):
    settings.EXPLAIN_DEADLINE_MS = 4_000
    monkeypatch.setattr(current_app.conf, "broker_write_url", f"redis://127.0.0.1:{free_port()}/0")
    began = time.monotonic()
    answer = acme_api.get(address_of(scored[0]))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["detail"] == "The message broker does not answer."
    assert time.monotonic() - began < settings.EXPLAIN_DEADLINE_MS / 1000


def test_a_transaction_without_a_score_has_no_explanation_yet(acme, transaction, acme_api, client, alice):
    from scoring.models import Pending

    row = transaction()
    Pending.objects.create(transaction=row, due_at=timezone.now())
    assert acme_api.get(reverse("explanation", args=[row.pk])).status_code == 202
    client.force_login(alice)
    assert client.get(reverse("admin:scoring_transaction_explanation", args=[row.pk])).status_code == 404


def test_a_review_shows_what_raised_and_what_lowered_the_score(scored, client, alice):
    review = Review.objects.get()
    client.force_login(alice)
    page = unescape(client.get(reverse("admin:scoring_review_change", args=[review.pk])).content.decode())
    stored = explanations.stored(scored[1])
    for name, added in stored.by_strength():
        assert re.search(rf' {re.escape(f"{added:+.2f}")}</td><th scope="row">{name}\b', page)
    assert '<rect class="raised" x="40.0" width="40.0" height="12"/>' in page
    assert '<rect class="lowered"' in page
    assert "20 more, which add" in page
    assert f"In logits, an ordinary transaction has {stored.base:+.2f}." in page
    assert " % are at " in page


def test_a_page_explains_the_score_of_an_approved_transaction(worker, acme_api, client, alice):
    posted = acme_api.post("/predict", data=seed_payload(), content_type="application/json").json()
    client.force_login(alice)
    transaction = client.get(reverse("admin:scoring_transaction_change", args=[posted["id"]])).content.decode()
    address = reverse("admin:scoring_transaction_explanation", args=[posted["id"]])
    assert f'href="{address}"' in transaction
    page = client.get(address).content.decode()
    assert '<rect class="lowered"' in page
    assert "Principal component" in page
