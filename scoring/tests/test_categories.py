"""Transactions with categories and missing values, as workers score them."""

import time
import tracemalloc

import numpy as np
import pytest
from django.apps import apps
from django.conf import settings

from fraudsite.testing import submission
from scoring.messages.replies import Kind, Stages
from scoring.policies.expressions import Case
from scoring.worker import batches, scorer
from scoring.worker.predictor import Predictor
from training import registry
from training.core.families import encoding, scorer_of
from training.core.schema.kinds.kind import REMEMBERED
from training.tests.support import bundle_of_purchases, made_up_purchases, with_purchases

pytestmark = pytest.mark.django_db
FRAUD = [250.0, None, "jewels", "DE"]


@pytest.fixture(scope="module")
def purchases_bundle(tmp_path_factory):
    trees = {"model.architecture": "xgboost", "xgboost.epochs": 60, "xgboost.learning_rate": 0.3}
    with with_purchases(tmp_path_factory.mktemp("declared")):
        yield bundle_of_purchases(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY, **trees)


@pytest.fixture
def predictor(purchases_bundle):
    return Predictor(registry.register(purchases_bundle, promote=False))


def cases(count):
    return [Case([], [], 0.0)] * count


def score(predictor, *values):
    given = predictor.schema.encode(values)
    return scorer.score(predictor, cases(len(values)), given, scorer.nothing_derived(len(values)), Stages())


def test_a_worker_gives_the_score_that_training_gave_to_the_last_bit(predictor, purchases_bundle):
    dataset = made_up_purchases(seed=1)
    stored = encoding.of_bundle(purchases_bundle)(dataset.features).astype(np.float32)
    derived = scorer.nothing_derived(len(dataset.labels))
    online = scorer.score(predictor, cases(len(derived)), dataset.features, derived, Stages())
    offline = scorer_of(purchases_bundle).score(stored)
    np.testing.assert_array_equal([each.fraud_score for each in online], offline)


def test_a_missing_value_and_a_category_are_reasons_by_the_names_of_their_fields(predictor):
    [fraud] = score(predictor, FRAUD)
    assert fraud.is_alert
    assert {reason["feature"] for reason in fraud.reasons[:2]} == {"device_days", "category"}


def test_reasons_tell_the_value_and_what_is_usual(predictor):
    [fraud] = score(predictor, FRAUD)
    texts = {reason["feature"]: reason["text"] for reason in fraud.reasons}
    assert "jewels, as in " in texts["category"]
    assert "missing, as in " in texts["device_days"]


def test_a_category_that_nobody_has_seen_is_scored(predictor):
    unseen, other = score(predictor, [250.0, None, "a new one", "DE"], [250.0, None, "another", None])
    assert np.isfinite([unseen.fraud_score, other.fraud_score]).all()


def test_stored_transactions_are_scored_as_they_were(predictor):
    names = predictor.schema.feature_names
    [again] = predictor.score(scorer.stored_inputs(predictor.encode, [dict(zip(names, FRAUD, strict=True))], [{}]))
    assert again == score(predictor, FRAUD)[0].fraud_score


def test_many_new_categories_make_no_more_rows_than_one_does(predictor, acme):
    def rows_of(categories):
        before = {model: model._default_manager.count() for model in apps.get_models()}
        bodies = [{"schema": "purchases", "amount": 12.5, "category": category} for category in categories]
        batch = [submission(acme.pk, body) for body in bodies]
        outcomes, _ = batches.score_batch(submissions=batch, predictor=predictor, started_at=time.time())
        assert {outcome.kind for outcome in outcomes} == {Kind.SCORED}
        return {model: model._default_manager.count() - count for model, count in before.items()}

    assert rows_of([f"new {number}" for number in range(50)]) == rows_of(["unheard of"] * 50)


def test_a_flood_of_new_categories_takes_no_more_memory(predictor):
    def flood(first):
        for start in range(first, first + REMEMBERED, 1_000):
            score(predictor, *([12.5, None, f"new {number}", "DE"] for number in range(start, start + 1_000)))

    flood(0)
    tracemalloc.start()
    flood(1_000_000)
    before, _ = tracemalloc.get_traced_memory()
    flood(2_000_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 100_000
