"""Thresholds by precision, by cost and by alerts per day."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.core import configuration, evaluation
from training.core.evaluation import policy
from training.core.exceptions import ConfigurationError, NoThreshold
from training.core.scored import ScoredRows

ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 12).map(lambda twelfth: twelfth / 12), st.integers(0, 500)),
    min_size=1,
    max_size=40,
)


def arrays(rows):
    labels, scores, amounts = zip(*rows, strict=True)
    return ScoredRows(np.array(labels, np.int8), np.array(scores), np.array(amounts, np.float32))


def chosen(**asked):
    return configuration.read(overrides={f"policy.{name}": value for name, value in asked.items()}).policy


def cost(rows, threshold, review_cost):
    alerts = rows.scores >= threshold
    return review_cost * alerts.sum() + rows.amounts[(rows.labels == 1) & ~alerts].sum()


@given(ROWS, st.sampled_from([0.0, 1.0, 7.0, 100.0]))
def test_no_threshold_costs_less_than_the_one_chosen_by_cost(rows, review_cost):
    rows = arrays(rows)
    found = evaluation.threshold_for_cost(rows.labels, rows.scores, rows.amounts, review_cost=review_cost)
    lowest = min(cost(rows, threshold, review_cost) for threshold in [*rows.scores, 2.0])
    assert cost(rows, 2.0 if found is None else found, review_cost) == lowest


@given(ROWS, st.integers(0, 41))
def test_no_lower_threshold_has_so_few_alerts(rows, alerts):
    rows = arrays(rows)
    found = evaluation.threshold_for_alerts(rows.scores, alerts=alerts)
    attaining = [score for score in rows.scores if (rows.scores >= score).sum() <= alerts]
    if found is None:
        assert not attaining
    else:
        np.testing.assert_array_equal(rows.scores >= found, rows.scores >= min(attaining))


@pytest.fixture
def rows():
    return ScoredRows(
        np.array([0, 0, 0, 1, 0, 1], np.int8),
        np.array([0.0, 0.1, 0.2, 0.4, 0.6, 0.9]),
        np.array([10, 10, 10, 300, 10, 20], np.float32),
    )


@pytest.mark.parametrize(
    ("asked", "alerts"),
    [
        ({"choose": "precision", "review_precision": 0.6}, 3),
        ({"choose": "precision", "review_precision": 0.7}, 1),
        ({"choose": "f1"}, 3),
        ({"choose": "cost", "review_cost": 25.0}, 3),
        ({"choose": "cost", "review_cost": 0.0}, 6),
        ({"choose": "alerts_per_day", "alerts_per_day": 1.0}, 2),
        ({"choose": "alerts_per_day", "alerts_per_day": 2.5}, 5),
    ],
)
def test_the_review_threshold_is_chosen_as_the_policy_says(rows, asked, alerts):
    threshold = policy.review_threshold(chosen(**asked), rows, days=2.0)
    assert (rows.scores >= threshold).sum() == alerts


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"choose": "cost", "review_cost": 1000.0}, r"Lower policy\.review_cost"),
        ({"choose": "alerts_per_day", "alerts_per_day": 0.4}, r"Raise policy\.alerts_per_day"),
    ],
)
def test_what_no_threshold_attains_is_refused_with_the_remedy(rows, asked, message):
    with pytest.raises(NoThreshold, match=message):
        policy.review_threshold(chosen(**asked), rows, days=2.0)


def test_cost_needs_amounts_and_alerts_per_day_need_days(rows):
    blind = rows._replace(amounts=np.full(6, np.nan, np.float32))
    with pytest.raises(ConfigurationError, match="amount"):
        policy.review_threshold(chosen(choose="cost"), blind, days=2.0)
    with pytest.raises(ConfigurationError, match="days"):
        policy.review_threshold(chosen(choose="alerts_per_day"), rows, days=None)
    assert policy.metrics_at(chosen(), blind, threshold=0.5, resamples=0, seed=0).cost_per_1000 is None


def test_blocking_is_never_easier_than_reviewing(rows):
    asked = chosen(block_precision=0.5)
    assert policy.block_threshold(asked, rows, review=0.8) == 0.8


def test_cost_is_reviews_and_missed_amounts_per_thousand_transactions(rows):
    found = policy.metrics_at(chosen(review_cost=5.0), rows, threshold=0.5, resamples=0, seed=0)
    assert found.cost_per_1000.value == pytest.approx(1000 * (2 * 5 + 300) / 6)
