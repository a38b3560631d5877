import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from training.core.evaluation import (
    METRIC_NAMES,
    Ranking,
    card_precision,
    evaluate,
    paired,
    threshold_for_precision,
)

# Few different scores, so that equal ones meet often.
SCORES = st.integers(0, 12).map(lambda tenth: tenth / 12) | st.floats(0, 1)
# Both kinds of transaction, each with its score.
SCORED = st.lists(st.tuples(st.booleans(), SCORES), min_size=2, max_size=60).filter(
    lambda rows: len({fraud for fraud, _ in rows}) == 2
)


def arrays(rows):
    labels, scores = zip(*rows, strict=True)
    return np.array(labels, np.int8), np.array(scores, np.float64)


def precision_at(labels, scores, threshold):
    return labels[scores >= threshold].mean()


@given(SCORED, st.floats(0.01, 1))
def test_the_threshold_for_a_precision_attains_it_and_no_lower_one_does(rows, target):
    labels, scores = arrays(rows)
    threshold = threshold_for_precision(labels, scores, target)
    attaining = [score for score in np.unique(scores) if precision_at(labels, scores, score) >= target]
    if threshold is None:
        assert not attaining
    else:
        assert 0 <= threshold <= 1
        np.testing.assert_array_equal(scores >= threshold, scores >= min(attaining))


def test_the_threshold_lies_midway_between_two_scores():
    assert threshold_for_precision(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.4, 0.9]), 1.0) == pytest.approx(0.3)


def test_the_threshold_stays_above_a_neighbouring_float():
    below, above = 0.5, float(np.nextafter(0.5, 1))
    for _ in range(2):  # the middle of two neighbours rounds to the even one, whichever that is
        assert threshold_for_precision(np.array([0, 1]), np.array([below, above]), 1.0) == above
        below, above = above, float(np.nextafter(above, 1))


@given(SCORED, st.data())
def test_the_metrics_of_a_draw_are_scikit_learns(rows, data):
    labels, scores = arrays(rows)
    weights = data.draw(st.lists(st.integers(0, 4), min_size=len(rows), max_size=len(rows)).map(np.array))
    threshold = data.draw(SCORES)
    alerts = scores >= threshold
    if not (weights[labels == 1].sum() and weights[labels == 0].sum()):
        return  # without both kinds there is nothing to compare; `bootstrap` leaves it out
    ours = Ranking(labels, scores, threshold=threshold).metrics(weights.astype(float))
    theirs = {
        "recall": sklearn.recall_score(labels, alerts, sample_weight=weights),
        "accuracy": sklearn.accuracy_score(labels, alerts, sample_weight=weights),
        "roc_auc": sklearn.roc_auc_score(labels, scores, sample_weight=weights),
        "auprc": sklearn.average_precision_score(labels, scores, sample_weight=weights),
        "precision": sklearn.precision_score(labels, alerts, sample_weight=weights, zero_division=np.nan),
        "f1": sklearn.f1_score(labels, alerts, sample_weight=weights),
        "brier": sklearn.brier_score_loss(labels, scores, sample_weight=weights),
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


@given(SCORED, SCORES, SCORES)
def test_raising_the_threshold_never_adds_alerts_nor_recall(rows, one, other):
    labels, scores = arrays(rows)
    low, high = (
        evaluate(labels, scores, threshold=threshold, resamples=0, seed=0) for threshold in sorted((one, other))
    )
    assert high.recall.value <= low.recall.value
    assert high.confusion[0][1] <= low.confusion[0][1]
    assert high.confusion[1][1] <= low.confusion[1][1]


@pytest.fixture
def scored():
    random = np.random.default_rng(5)
    labels = (random.random(3000) < 0.1).astype(np.int8)
    return labels, np.clip(random.normal(0.3 + 0.4 * labels, 0.15), 0, 1)


def test_it_counts_the_confusion_by_truth_and_alert():
    labels, scores = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.8, 0.4, 0.5, 0.9])
    metrics = evaluate(labels, scores, threshold=0.5, resamples=0, seed=0)
    assert metrics.confusion == [[2, 1], [1, 2]]
    assert metrics.precision.value == metrics.recall.value == pytest.approx(2 / 3)
    assert metrics.rows == 6


def test_each_metric_lies_in_its_interval(scored):
    metrics = evaluate(*scored, threshold=0.5, resamples=200, seed=0)
    for name in METRIC_NAMES:
        metric = metrics.measured(name)
        assert metric.low < metric.value < metric.high, name


def test_an_interval_is_as_wide_as_theory_says(scored):
    labels, scores = scored
    accuracy = evaluate(labels, scores, threshold=0.5, resamples=2000, seed=0).accuracy
    expected = 2 * 1.96 * np.sqrt(accuracy.value * (1 - accuracy.value) / len(labels))
    assert accuracy.high - accuracy.low == pytest.approx(expected, rel=0.1)


def test_the_same_seed_draws_the_same_rows(scored):
    first, again, other = (
        Ranking(*scored, threshold=0.5).bootstrap(resamples=20, seed=seed)["auprc"] for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_model_is_no_better_than_itself(scored):
    labels, scores = scored
    differences = paired(labels, (scores, 0.5), (scores, 0.5), resamples=20, seed=0)
    assert differences.keys() == METRIC_NAMES.keys()
    assert all(found == {"value": 0.0, "low": 0.0, "high": 0.0} for found in differences.values())


def test_a_paired_difference_is_surer_than_the_two_intervals_beside_each_other(scored):
    labels, scores = scored
    worse = np.clip(scores + np.random.default_rng(0).normal(0, 0.02, len(scores)), 0, 1)
    difference = paired(labels, (scores, 0.5), (worse, 0.5), resamples=300, seed=0)["auprc"]
    ours, theirs = (evaluate(labels, each, threshold=0.5, resamples=300, seed=0).auprc for each in (scores, worse))
    assert difference["low"] > 0
    assert theirs.high > ours.low
    assert difference["value"] == pytest.approx(ours.value - theirs.value)


def test_without_resamples_there_are_no_intervals(scored):
    metrics = evaluate(*scored, threshold=0.5, resamples=0, seed=0)
    assert metrics.auprc.interval is None


def test_a_draw_without_alerts_has_no_precision_and_does_not_count_as_zero():
    labels, scores = np.array([0] * 9 + [1]), np.array([0.1] * 9 + [0.9])
    precision = evaluate(labels, scores, threshold=0.5, resamples=50, seed=0).precision
    assert precision.interval == (1.0, 1.0)


def test_without_any_alert_nothing_can_be_said_of_the_interval_of_precision():
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.1, 0.2])
    precision = evaluate(labels, scores, threshold=0.9, resamples=20, seed=0).precision
    assert (precision.value, precision.interval) == (0.0, None)


def test_a_draw_without_fraud_or_with_nothing_else_defines_no_curve():
    labels, scores = np.array([0, 1]), np.array([0.1, 0.9])  # half of the draws are of one kind
    drawn = Ranking(labels, scores, threshold=0.5).bootstrap(resamples=100, seed=0)
    assert 20 < np.isnan(drawn["roc_auc"]).sum() < 80
    assert set(drawn["auprc"][~np.isnan(drawn["auprc"])]) == {1.0}


def cards_of(*rows, top):
    """The card precision of rows (day, card, score, fraud)."""
    days, cards, scores, labels = np.array(rows, float).T
    return card_precision(labels.astype(int), scores, days.astype(int), cards.astype(int), top=top)


def test_a_card_has_its_highest_score_and_counts_once():
    assert cards_of((0, 1, 0.9, 0), (0, 1, 0.1, 1), (0, 2, 0.8, 0), (0, 3, 0.7, 1), top=2) == 0.5


def test_days_count_alike_and_a_card_that_was_found_is_not_looked_at_again():
    rows = [(0, 1, 0.9, 1), (0, 2, 0.1, 0), (1, 1, 0.9, 1), (1, 2, 0.2, 1), (1, 3, 0.1, 0)]
    assert cards_of(*rows, top=1) == 1.0
    assert cards_of(*rows[:3], top=1) == 0.5


def test_who_looks_at_more_cards_than_there_are_finds_few_of_them_fraud():
    assert cards_of((0, 1, 0.9, 1), (0, 2, 0.1, 0), top=4) == 0.25


def test_kerass_roc_auc_is_an_estimate_that_is_good_on_scores_that_spread(scored):
    found = Ranking(*scored, threshold=0.5).metrics()
    assert found["roc_auc_keras_binned"] == pytest.approx(found["roc_auc"], abs=0.001)


def test_kerass_roc_auc_falls_short_where_scores_crowd_at_zero():
    # As of a good model of rare fraud: what lies below the first of 200 thresholds counts as one.
    scores = np.concatenate([np.linspace(0, 1e-4, 1000), np.linspace(5e-5, 1e-3, 20)])
    found = Ranking(np.repeat([0, 1], [1000, 20]), scores, threshold=0.5).metrics()
    assert found["roc_auc_keras_binned"] < found["roc_auc"] - 0.1


def test_the_calibration_error_is_how_far_scores_are_from_what_came_true():
    scores = np.repeat([0.1, 0.5, 0.9], 100)
    labels = np.concatenate([np.arange(100) < share for share in (10, 70, 80)]).astype(np.int8)
    found = Ranking(labels, scores, threshold=0.5).metrics()
    assert found["calibration_error"] == pytest.approx((0.0 + 0.2 + 0.1) / 3)


def test_of_equal_scores_the_top_100_has_what_they_have_on_average():
    scores = np.repeat([0.9, 0.5], [50, 100])
    labels = np.concatenate([np.ones(50), np.arange(100) < 30]).astype(np.int8)
    assert Ranking(labels, scores, threshold=0.5).metrics()["precision_100"] == pytest.approx((50 + 15) / 100)
