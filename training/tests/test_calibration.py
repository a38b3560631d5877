"""Calibration turns scores into probabilities and keeps their order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from training.core.evaluation import Ranking
from training.core.evaluation.calibration import METHODS, Calibration
from training.core.evaluation.fitting import FOLDS, choose, fit
from training.core.exceptions import BundleRefused

SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50).map(lambda values: np.array(values, np.float32))
SLOPES = st.floats(0.001, 50)


def drawn(distort, rows=20_000, seed=0):
    """Labels drawn by probabilities [rows], and scores with distorted log odds."""
    random = np.random.default_rng(seed)
    odds = random.normal(-5, 2.5, rows)
    return (random.random(rows) < expit(odds)).astype(np.int8), expit(distort(odds))


@given(SCORES, SLOPES, st.floats(0, 50), st.floats(-20, 20))
def test_probabilities_lie_between_0_and_1_and_rise_with_the_score(scores, a, b, c):
    probabilities = Calibration("beta", a, b, c)(np.sort(scores))
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diff(probabilities) >= 0).all()


@given(SCORES, SLOPES, st.integers(0, 49))
def test_a_score_is_calibrated_alike_alone_and_among_others(scores, a, place):
    calibrate = Calibration("platt", a, a, 0.5)
    alone = scores[place % len(scores)]
    assert calibrate(scores)[place % len(scores)] == calibrate(np.array([alone]))[0]


def test_none_leaves_every_score_as_it_is():
    scores = np.array([0, 1e-38, 0.3, 1], np.float32)
    np.testing.assert_array_equal(Calibration()(scores), scores)


def test_a_score_that_is_no_number_stays_so():
    assert np.isnan(Calibration("platt", 2, 2, 0)(np.array([np.nan, 0.5]))[0])


@pytest.mark.parametrize("method", ["platt", "beta"])
def test_scores_that_are_too_sure_come_true_after_calibration(method):
    labels, scores = drawn(lambda odds: 3 * odds + 4)
    before = Ranking(labels, scores, threshold=0.5).metrics()
    after = Ranking(labels, fit(method, labels, scores)(scores), threshold=0.5).metrics()
    assert after["calibration_error"] < before["calibration_error"] / 5
    assert after["brier"] < before["brier"]
    assert after["auprc"] == pytest.approx(before["auprc"], abs=1e-9)


def test_platt_finds_the_slope_and_the_offset_that_undo_the_distortion():
    labels, scores = drawn(lambda odds: (odds + 1) / 2, rows=200_000)
    found = fit("platt", labels, scores)
    assert (found.a, found.b, found.c) == pytest.approx((2, 2, -1), abs=0.1)


def test_the_method_with_the_lowest_cross_validated_loss_is_chosen():
    for distort, expected in ((lambda odds: odds, "none"), (lambda odds: 2 * odds + 3, "platt")):
        labels, scores = drawn(distort)
        found, losses, _ = choose(labels, scores)
        assert losses.keys() == set(METHODS)
        assert losses[found.method] == min(losses.values())
        assert losses[expected] == pytest.approx(min(losses.values()), rel=0.002)


def test_frauds_that_are_perfectly_told_apart_do_not_make_it_certain():
    labels = np.repeat([0, 1], [5000, 40]).astype(np.int8)
    scores = np.concatenate([np.linspace(0.001, 0.1, 5000), np.linspace(0.6, 0.99, 40)])
    found, *_ = choose(labels, scores)
    assert found(scores).max() < 1 - 1e-4
    assert average_precision_score(labels, found(scores)) == 1


def test_of_too_few_frauds_nothing_is_concluded():
    scores = np.linspace(0, 1, 54)
    found, losses, held_out = choose(np.array([0] * 50 + [1] * 4), scores)
    assert (found, losses) == (Calibration(), {})
    assert held_out == pytest.approx(scores)


def test_a_rows_own_label_has_no_say_in_the_probability_that_thresholds_are_chosen_on():
    labels, scores = drawn(lambda odds: 2 * odds + 3)
    found, _, held_out = choose(labels, scores)
    fraud = int(np.flatnonzero(labels)[0])
    of_fold = next(rest for _, rest in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(scores, labels)
                   if fraud in rest)  # fmt: skip
    others = np.setdiff1d(np.arange(len(labels)), of_fold)
    without = fit(found.method, labels[others], scores[others])
    assert held_out[of_fold] == pytest.approx(without(scores[of_fold]))
    assert held_out[fraud] != found(scores[fraud : fraud + 1])[0]


def test_it_comes_back_from_a_bundle_as_it_was_written():
    found = Calibration("beta", 1.5, 0.25, -logit(0.3))
    assert Calibration.from_json(found.as_json()) == found
    assert Calibration.from_json(None) == Calibration()  # a bundle from before there was calibration


@pytest.mark.parametrize(
    "stored",
    [{"method": "isotonic"}, {"a": 0.0}, {"a": -1.0}, {"b": -0.1}, {"c": float("nan")}, {"d": 1.0}, {"a": "1"}],
)
def test_a_calibration_that_would_reverse_an_order_is_refused(stored):
    with pytest.raises(BundleRefused):
        Calibration.from_json(stored)


def test_the_odds_of_few_rows_count_one_fraud_and_one_legitimate_row_more():
    # Scores that are all the same tell nothing but the share of fraud, as Platt counts it.
    labels, scores = np.array([1] * 3 + [0] * 5), np.full(8, 0.5)
    share = (3 * (3 + 1) / (3 + 2) + 5 * 1 / (5 + 2)) / 8
    assert fit("platt", labels, scores)(scores) == pytest.approx(share, abs=1e-4)


def test_without_slopes_a_method_leaves_scores_as_they_are():
    scores = np.array([0.01, 0.3, 0.99])
    assert Calibration("beta")(scores) == pytest.approx(scores)


def test_no_fit_reverses_an_order_whatever_the_labels_say():
    random = np.random.default_rng(0)
    scores = random.uniform(0.01, 0.99, 20_000)
    # Where scores are high, a higher one is less often fraud.
    labels = (random.random(20_000) < expit(np.log(scores) + 0.5 * np.log1p(-scores))).astype(np.int8)
    found = fit("beta", labels, scores)
    assert found.b == 0
    assert Calibration.from_json(found.as_json()) == found
    falling = (random.random(20_000) < 1 - scores).astype(np.int8)
    assert fit("platt", falling, scores).a > 0
