"""The random sample of approved traffic: how it is drawn, shown, and weighed in estimates of recall."""

import threading
from datetime import timedelta
from html import unescape
from uuid import UUID

import numpy as np
import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from scoring.decisions import Decision
from scoring.models import Label, Prediction, Review, SampledPeriod
from scoring.policies import control, missed
from scoring.reviews import labelling, sampling, tasks
from training.core.schema import load_schema

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:scoring_review_changelist")


@pytest.fixture
def decided(transaction, champion):
    """Predictions with a decision, made some seconds ago."""

    def make(number=1, decision=Decision.APPROVE, *, seconds=20.0, **changes):
        created_at = timezone.now() - timedelta(seconds=seconds)
        return [
            Prediction.objects.create(
                transaction=transaction(),
                model_version=champion,
                fraud_score=0.1,
                decision=decision,
                threshold=0.5,
                latency_ms=4.0,
                created_at=created_at,
                **changes,
            )
            for _ in range(number)
        ]

    return make


@pytest.fixture
def sampled(settings):
    """A sample that began a minute ago: share, limit a day."""

    def make(share, limit=100):
        settings.SAMPLE_SHARE, settings.SAMPLE_DAILY_LIMIT = share, limit
        began = timezone.now() - timedelta(seconds=60)
        SampledPeriod.objects.create(since=began, until=began)

    return make


def test_without_a_share_nothing_is_drawn(decided):
    decided(3)
    tasks.draw_sample()
    assert not Review.objects.exists()


def test_approved_traffic_becomes_reviews_that_are_marked_and_keep_their_probability(client, alice, decided, sampled):
    sampled(1.0)
    [approved] = decided()
    decided(decision=Decision.CHALLENGE)
    decided(evidence={"basis": "control", "control": {"would": "block", "propensity": 0.1, "let_through": True}})
    decided(seconds=0.0)  # may not be committed yet: for the next run
    tasks.draw_sample()
    review = Review.objects.get()
    assert (review.pk, review.state, review.is_sample, review.sample_probability) == (approved.pk, "open", True, 1.0)
    client.force_login(alice)
    for address in (QUEUE, reverse("admin:scoring_review_change", args=[review.pk])):
        assert "random sample" in unescape(client.get(address).content.decode())


def test_a_share_is_drawn_by_the_hash_of_the_id_and_the_seed(settings):
    keys = [UUID(int=number) for number in range(20_000)]
    places = np.array([sampling.place_of(key) for key in keys])
    assert (places < 0.05).mean() == pytest.approx(0.05, abs=0.006)
    assert [sampling.place_of(key) for key in keys[:50]] == places[:50].tolist()
    settings.SAMPLE_SEED = "another"
    assert sampling.place_of(keys[0]) != places[0]


def test_a_day_has_no_more_than_its_limit_and_every_part_of_it_a_chance(decided, sampled):
    sampled(1.0, limit=4)
    decided(60)
    tasks.draw_sample()
    chances = [chance or 0.0 for chance in Review.objects.values_list("sample_probability", flat=True)]
    assert 2 < len(chances) <= 4
    assert max(chances) == 1.0
    assert min(chances) < 1.0
    assert min(sampling.probability(drawn) for drawn in range(4)) > 0
    assert sampling.probability(4) == 0


def test_repeats_and_parallel_runs_draw_the_same_once(transactional_db, decided, sampled):
    sampled(0.5)
    rows = decided(40)
    wanted = {row.pk for row in rows if sampling.place_of(row.pk) < 0.5}
    start = threading.Barrier(2)

    def draw():
        start.wait()
        tasks.draw_sample()
        connection.close()

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tasks.draw_sample()
    assert set(Review.objects.values_list("pk", flat=True)) == wanted
    assert sum(SampledPeriod.objects.values_list("drawn", flat=True)) == len(wanted)


def test_after_a_standstill_old_traffic_is_left_out_and_is_in_no_period(decided, settings):
    settings.SAMPLE_SHARE = 1.0
    long_ago = timezone.now() - timedelta(hours=3)
    SampledPeriod.objects.create(since=long_ago, until=long_ago)
    decided(seconds=2 * 3_600)
    [recent] = decided(seconds=60)
    for _ in range(2):
        tasks.draw_sample()
    assert Review.objects.get().pk == recent.pk
    [before, now] = SampledPeriod.objects.order_by("since")
    assert before.until < now.since


def traffic(seed):
    """20,000 approved transactions whose truth is known: 1 % are fraud, of which two in five are reported. Returns the
    estimate, its variance, the truth, and what is known without weights."""
    random = np.random.default_rng(seed)
    fraud = random.random(20_000) < 0.01
    reported = fraud & (random.random(20_000) < 0.4)
    # The limit of the day lowers the probability while the sample is drawn.
    drawn, chances = 0, np.zeros(20_000)
    for place, luck in enumerate(random.random(20_000)):
        chance = sampling.probability(drawn)
        if luck < chance:
            drawn, chances[place] = drawn + 1, chance
    seen = chances > 0
    total, variance = missed.estimate(int(reported.sum()), chances[seen], fraud[seen], reported[seen])
    return total, variance, int(fraud.sum()), int((reported | (fraud & seen)).sum())


def test_missed_frauds_are_estimated_without_bias_where_counting_the_known_ones_is_not(settings):
    settings.SAMPLE_SHARE, settings.SAMPLE_DAILY_LIMIT = 0.2, 4_000
    runs = np.array([traffic(seed) for seed in range(60)])
    errors = runs[:, 0] - runs[:, 2]
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(len(errors))
    covered = np.abs(errors) < 1.96 * np.sqrt(runs[:, 1])
    assert covered.mean() > 0.85
    assert np.all(runs[:, 3] < 0.7 * runs[:, 2]), "what is known alone makes recall look far better than it is"


def test_recall_counts_each_judged_transaction_of_the_sample_by_its_weight(alice, alert, decided, sampled, champion):
    sampled(1.0)
    rows = decided(5)
    tasks.draw_sample()
    Review.objects.update(sample_probability=0.25)
    stolen, honest, reported, *_ = (Review.objects.get(pk=row.pk) for row in rows)
    labelling.close_review(review=stolen, is_fraud=True, reviewer=alice)
    labelling.close_review(review=honest, is_fraud=False, reviewer=alice)
    labelling.add_label(transaction_id=reported.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
    Review.objects.filter(pk=rows[3].pk).update(state="fraud", decided_by_default=True)
    found = _missed()
    # 1 is reported; each of the 2 judged stands for 4 x 5/2 transactions, and 1 of them is fraud.
    assert (found.known, found.sampled, found.judged, found.value) == (2, 5, 2, 11.0)
    estimates = control.of_period(load_schema("ulb"), *_period())
    assert (estimates.missed, estimates.all_missed.value) == (2, 11.0)


def test_without_a_sample_missed_frauds_are_the_known_ones(decided):
    for row in decided(2):
        labelling.add_label(transaction_id=row.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
    found = _missed()
    assert (found.known, found.value, found.variance, found.sampled) == (2, 2.0, 0.0, 0)


def _missed():
    since, until = _period()
    return missed.of_period(load_schema("ulb"), since, until, set())


def _period():
    return timezone.now() - timedelta(hours=1), timezone.now() + timedelta(hours=1)
