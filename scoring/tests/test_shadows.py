"""A shadow scores what was decided, decides nothing, and delays nobody."""

import time
from datetime import timedelta

import numpy as np
import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from fraudsite.celery import app
from fraudsite.testing import PROCESS_START_S
from monitoring.tests.support import made_up_fields, predict
from scoring import tasks
from scoring.models import Prediction, Review, ShadowScore
from scoring.worker import shadows
from scoring.worker.scorer import stored_inputs
from training import registry
from training.core.bundle import load_bundle
from training.core.families import scorer_of
from training.core.families.encoding import Encoding
from training.core.schema import load_schema
from training.tests.support import tiny_bundle

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def shadow_bundle(bundle):
    return tiny_bundle(django_settings.BUNDLES_DIR, django_settings.BUNDLE_SIGNING_KEY, **{"model.seed": 1})


@pytest.fixture
def shadow(champion, shadow_bundle, monkeypatch):
    monkeypatch.setattr(shadows, "_loaded", {})
    version = registry.register(shadow_bundle, promote=False)
    registry.shadow(version, by="mel")
    return version


def traffic(champion, acme, count=40, *, seconds_from_now=1.0):
    moment = timezone.now() + timedelta(seconds=seconds_from_now)
    return predict(champion, acme, [moment] * count, fields=made_up_fields(count))


def later():
    return timezone.now() + timedelta(minutes=1)


def test_it_has_the_scores_that_its_bundle_gives(champion, shadow, shadow_bundle, acme):
    predictions = traffic(champion, acme)
    before = list(Prediction.objects.order_by("pk").values())
    assert shadows.score_new_predictions(now=later()) == len(predictions)
    scorer = scorer_of(load_bundle(shadow_bundle.path, signing_key=django_settings.BUNDLE_SIGNING_KEY))
    names = load_schema("ulb").feature_names
    rows = np.array([[each.transaction.fields[name] for name in names] for each in predictions], np.float32)
    expected = dict(zip([each.pk for each in predictions], scorer.score(rows).astype(float).tolist(), strict=True))
    assert dict(ShadowScore.objects.values_list("transaction_id", "fraud_score")) == expected
    assert list(Prediction.objects.order_by("pk").values()) == before
    assert not Review.objects.exists()


def test_of_a_schema_with_computed_features_it_is_given_what_the_champion_was_given():
    schema = load_schema("handbook")
    derived = {feature.name: float(number) for number, feature in enumerate(schema.derived, start=1)}
    fields = dict.fromkeys(schema.feature_names, 12.5)
    [inputs] = stored_inputs(Encoding(schema, {}), [fields], [dict(reversed(derived.items()))])
    assert dict(zip(schema.input_names, inputs.tolist(), strict=True)) == {"amount": 12.5} | derived


def test_it_goes_on_where_it_was_and_scores_nothing_twice(champion, shadow, acme, monkeypatch):
    monkeypatch.setattr(shadows, "ROWS_AT_A_TIME", 10)
    for second in range(4):
        traffic(champion, acme, 8, seconds_from_now=1 + second)
    assert shadows.score_new_predictions(now=later()) == 32
    traffic(champion, acme, 15, seconds_from_now=10)  # more in one batch than are taken at a time
    assert shadows.score_new_predictions(now=later()) == 15
    assert shadows.score_new_predictions(now=later()) == 0
    assert ShadowScore.objects.count() == 47


def test_a_row_without_what_it_takes_is_passed_over(champion, shadow, acme):
    [old, *_] = traffic(champion, acme, 5)
    del old.transaction.fields["V14"]
    old.transaction.save()
    assert shadows.score_new_predictions(now=later()) == 4
    assert not ShadowScore.objects.filter(transaction=old.pk).exists()


def test_after_a_standstill_it_begins_where_the_setting_says(champion, shadow, acme, settings):
    settings.SHADOW_BEHIND_S = 20
    traffic(champion, acme, 3, seconds_from_now=1)
    traffic(champion, acme, 2, seconds_from_now=45)
    assert shadows.score_new_predictions(now=later()) == 2


def test_what_was_decided_before_it_became_a_shadow_is_none_of_its_business(champion, shadow, acme):
    traffic(champion, acme, seconds_from_now=-60)
    assert shadows.score_new_predictions(now=later()) == 0


def test_a_batch_that_may_not_be_committed_yet_is_left_for_later(champion, shadow, acme):
    [prediction] = traffic(champion, acme, 1)
    assert shadows.score_new_predictions(now=prediction.created_at + timedelta(seconds=1)) == 0
    assert shadows.score_new_predictions(now=prediction.created_at + timedelta(seconds=4)) == 1


@pytest.mark.parametrize(("share", "fewest", "most"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 200, 200)])
def test_it_scores_the_share_of_the_traffic_that_is_set(champion, shadow, acme, settings, share, fewest, most):
    settings.SHADOW_SHARE = share
    traffic(champion, acme, 200)
    assert fewest <= shadows.score_new_predictions(now=later()) <= most
    assert shadows.score_new_predictions(now=later()) == 0


def test_without_a_shadow_nothing_is_scored(champion, acme):
    traffic(champion, acme)
    assert shadows.score_new_predictions(now=later()) == 0


def test_a_bundle_that_is_refused_keeps_no_other_shadow_from_scoring(champion, shadow, acme, settings):
    broken = registry.ModelVersion.objects.create(version="broken", schema="ulb", review_threshold=0.5)
    broken.shadow(by="mel")
    traffic(champion, acme, 3)
    assert shadows.score_new_predictions(now=later()) == 3


def test_it_never_delays_the_realtime_queue():
    queue = app.amqp.router.route({}, "scoring.tasks.score_shadows")["queue"]
    assert queue.name == django_settings.BULK_QUEUE


def test_a_worker_scores_for_a_shadow(worker, champion, shadow, acme):
    traffic(champion, acme, 3, seconds_from_now=0.01)
    time.sleep(shadows.SETTLED.total_seconds() + 0.1)
    tasks.score_shadows.apply_async()
    give_up = time.monotonic() + PROCESS_START_S
    while ShadowScore.objects.count() < 3:
        assert time.monotonic() < give_up, "the shadow scored nothing"
        time.sleep(0.05)
