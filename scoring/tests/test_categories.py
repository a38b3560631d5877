"""Transactions with categories and missing values, as workers score them."""

import numpy as np
import pytest
from django.conf import settings

from scoring.messages.replies import Stages
from scoring.policies.expressions import Case
from scoring.worker import scorer
from scoring.worker.predictor import Predictor
from training import registry
from training.core.families import encoding, scorer_of
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
