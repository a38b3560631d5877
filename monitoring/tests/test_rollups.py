"""Roll-ups agree with the predictions, however often and however late these are counted."""

from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from monitoring.models import LATENCY_EDGES_MS, SCORE_BINS, TrafficRollup
from monitoring.rollups import CHUNK, update_rollups
from monitoring.tests.support import NOON, moments, predict
from scoring.models import Decision, Prediction

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def score(champion, acme):
    def at(*times, **outcome):
        return predict(champion, acme, times, **outcome)

    return at


def counted():
    """The table as it stands: minute to everything that is counted of it."""
    return {
        rollup.minute: (
            rollup.transactions,
            rollup.reviewed,
            rollup.blocked,
            pytest.approx(rollup.latency_sum_ms),
            rollup.latency_histogram,
            rollup.score_histogram,
        )
        for rollup in TrafficRollup.objects.all()
    }


def counted_directly():
    """The same, from the predictions one by one."""
    score_edges = [i / SCORE_BINS for i in range(1, SCORE_BINS)]
    minutes: dict = {}
    for prediction in Prediction.objects.all():
        minutes.setdefault(prediction.created_at.replace(second=0, microsecond=0), []).append(prediction)
    return {
        minute: (
            len(rows),
            sum(row.decision == Decision.REVIEW for row in rows),
            sum(row.decision == Decision.BLOCK for row in rows),
            sum(row.latency_ms for row in rows),
            in_bins(LATENCY_EDGES_MS, [row.latency_ms for row in rows]),
            in_bins(score_edges, [row.fraud_score for row in rows]),
        )
        for minute, rows in minutes.items()
    }


def in_bins(edges, values):
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_it_counts_what_counting_one_by_one_would(score, seed):
    random = np.random.default_rng(seed)
    for decision in Decision:
        count = int(random.integers(0, 120))
        score(
            *moments(count, before=NOON, within=timedelta(hours=int(random.choice([1, 20]))), seed=seed),
            decision=decision,
            fraud_scores=random.uniform(0, 1, count).tolist(),
            latencies_ms=random.lognormal(2, 2, count).tolist(),
        )
    assert update_rollups(now=NOON) == len(counted()) > 1
    assert counted() == counted_directly()


def test_the_edge_of_a_bin_belongs_to_the_bin_above(score):
    scores = [0.0, *[i / SCORE_BINS for i in range(1, SCORE_BINS)], 1.0]
    score(*[NOON] * len(scores), fraud_scores=scores)
    edges = [0.0, *LATENCY_EDGES_MS, 60_000.0]
    score(*[NOON + MINUTE] * len(edges), latencies_ms=edges)
    update_rollups(now=NOON + MINUTE)
    assert counted() == counted_directly()
    first, second = TrafficRollup.objects.order_by("minute")
    assert first.score_histogram == [1] * (SCORE_BINS - 1) + [2]
    assert second.latency_histogram == [1] * len(LATENCY_EDGES_MS) + [2]


def test_a_minute_ends_before_the_next_begins(score):
    score(NOON - timedelta(microseconds=1), NOON)
    update_rollups(now=NOON)
    assert {minute: row[0] for minute, row in counted().items()} == {NOON - MINUTE: 1, NOON: 1}


def test_counting_again_changes_nothing(score):
    score(*moments(50, before=NOON, within=timedelta(minutes=10)))
    update_rollups(now=NOON)
    before = counted()
    for _ in range(3):
        update_rollups(now=NOON)
    assert counted() == before


def test_nothing_is_counted_twice_while_traffic_goes_on(score):
    for second in range(0, 300, 20):
        now = NOON + timedelta(seconds=second)
        score(*moments(4, before=now, within=timedelta(seconds=20), seed=second))
        update_rollups(now=now)
    assert sum(row[0] for row in counted().values()) == Prediction.objects.count() == 60
    assert counted() == counted_directly()


def test_a_row_that_is_committed_after_its_minute_is_counted_by_the_next_run(score):
    score(NOON)
    update_rollups(now=NOON)
    score(NOON - timedelta(seconds=90), NOON - timedelta(seconds=1))
    update_rollups(now=NOON + timedelta(seconds=5))
    assert counted() == counted_directly()
    assert sum(row[0] for row in counted().values()) == 3


def test_after_a_standstill_it_counts_everything_since(score):
    score(NOON)
    update_rollups(now=NOON)
    later = NOON + 5 * CHUNK
    score(*moments(100, before=later, within=4 * CHUNK))
    update_rollups(now=later)
    assert counted() == counted_directly()


def test_a_year_without_traffic_costs_no_more_than_a_minute(
    score, django_assert_num_queries, django_assert_max_num_queries
):
    score(NOON)
    with django_assert_max_num_queries(8):
        update_rollups(now=NOON + timedelta(days=365))
    score(NOON + timedelta(days=365))
    with django_assert_max_num_queries(14):
        update_rollups(now=NOON + timedelta(days=365))
    assert counted() == counted_directly()


def test_a_worker_whose_clock_is_ahead_hides_nobody_elses_rows(score):
    score(NOON, NOON + timedelta(minutes=10))
    update_rollups(now=NOON)
    score(NOON + MINUTE)
    update_rollups(now=NOON + MINUTE)
    assert counted() == counted_directly()
    assert len(counted()) == 3


def test_without_a_prediction_it_counts_nothing(db):
    assert update_rollups() == 0
    assert not TrafficRollup.objects.exists()


def test_it_counts_up_to_this_moment_unless_it_is_told_another(score):
    score(timezone.now())
    assert update_rollups() == 1
