"""What is expected without labels holds at the promised rate, and known outcomes correct it where scores mislead."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.label_free.estimator import (
    DRAWS,
    FEWEST_ALERTS,
    SHIFTS,
    Counted,
    Expected,
    Judged,
    Scores,
    Shift,
    expect,
    frauds,
    moved,
    shift,
)

ALERTS = np.array([0.3, 0.5, 0.7, 0.9, 0.98])
OTHERS = np.array([0.0001, 0.001, 0.01, 0.05, 0.2])
CALIBRATED = Shift(np.zeros(DRAWS), is_known=False)


def day(random, *, alerts=60, others=4_000, off=0.0):
    """The scores of a day's decisions, and the truth: how many frauds are caught and missed. True log odds are `off`
    from those of the scores."""
    caught = Scores(random.multinomial(alerts, [0.2] * 5), ALERTS)
    missed = Scores(random.multinomial(others, [0.7, 0.2, 0.07, 0.02, 0.01]), OTHERS)
    truth = [random.binomial(part.rows, moved(part.mean, np.array(off))).sum() for part in (caught, missed)]
    return caught, missed, truth


def judged(random, number, off):
    """So many alerts with a known outcome."""
    rows = random.multinomial(number, [0.2] * 5)
    return Judged(rows.astype(float), random.binomial(rows, moved(ALERTS, np.array(off))) * 1.0, ALERTS, float(number))


def sampled(random, rows, off, share):
    """The estimate of the frauds among other decisions, of which a share was drawn and judged."""
    scores = Scores(random.multinomial(rows, [0.7, 0.2, 0.07, 0.02, 0.01]), OTHERS)
    found = random.binomial(random.binomial(scores.rows, moved(OTHERS, np.array(off))).sum(), share)
    return Counted(scores, found / share, found / share**2, 1 / share)


def coverage(days, off=0.0, evidence=None):
    """How often precision and recall were within their intervals, and their mean errors."""
    random, within, errors = np.random.default_rng(3), [], []
    for _ in range(days):
        shifts = [shift(each, random) for each in evidence(random)] if evidence else [CALIBRATED, CALIBRATED]
        caught, missed, (stopped, lost) = day(random, off=off)
        found = expect([(caught, shifts[0])], (missed, shifts[1]), random)
        truths = stopped / caught.rows.sum(), stopped / (stopped + lost)
        pairs = list(zip((found.precision, found.recall), truths, strict=True))
        within.append([share.low <= truth <= share.high for share, truth in pairs])
        errors.append([share.value - truth for share, truth in pairs])
    return np.mean(within, axis=0), np.mean(errors, axis=0)


def test_with_calibrated_scores_the_intervals_hold_at_their_rate():
    within, errors = coverage(400)
    assert within.min() >= 0.925
    assert within.max() <= 0.985
    assert np.abs(errors).max() < 0.01


def test_scores_that_are_too_low_mislead_without_known_outcomes_and_are_corrected_by_them():
    def known(random):
        return judged(random, 400, 1.2), sampled(random, 200_000, 1.2, 0.05)

    misled, _ = coverage(150, off=1.2)
    corrected, errors = coverage(150, off=1.2, evidence=known)
    assert misled.max() < 0.6
    assert (corrected >= 0.92).all(), corrected
    assert np.abs(errors).max() < 0.02


def test_the_doubt_of_a_shift_is_as_large_as_its_prior_and_its_sample_say():
    # A credible interval holds at its rate if the truth comes from the prior.
    random, within = np.random.default_rng(8), []
    for _ in range(400):
        truth = random.normal(0.0, np.log(2))
        found = shift(judged(random, 40, truth), random)
        low, high = np.quantile(found.draws, [0.025, 0.975])
        within.append(low <= truth <= high)
    assert 0.925 <= np.mean(within) <= 0.98


def test_a_small_sample_moves_little_and_a_large_one_all_the_way():
    random = np.random.default_rng(1)
    small, large = (abs(np.median(shift(judged(random, number, 1.5), random).draws)) for number in (12, 5_000))
    assert small < 1.2
    assert large == pytest.approx(1.5, abs=0.15)


def test_with_hardly_any_known_outcome_scores_are_taken_as_calibrated():
    random = np.random.default_rng(1)
    few = judged(random, int(FEWEST_ALERTS) - 1, 2.0)
    nothing = Counted(Scores(np.array([10.0]), np.array([0.001])), 0.0, 0.0, 20.0)
    for evidence in (None, few, nothing):
        found = shift(evidence, random)
        assert not found.is_known
        assert not found.draws.any()


def test_a_sample_without_a_fraud_tells_that_there_are_few():
    scores = Scores(np.array([50_000.0]), np.array([0.01]))
    found = shift(Counted(scores, 0.0, 0.0, 20.0), np.random.default_rng(1))
    assert np.quantile(found.draws, 0.975) < 0


def test_days_that_share_a_shift_are_no_more_certain_together_and_chance_averages_out():
    random = np.random.default_rng(2)
    doubtful = Shift(random.permutation(np.linspace(-0.5, 0.5, DRAWS)), is_known=True)
    scores = Scores(np.array([4_000.0]), np.array([0.5]))
    for moves, low, high in ((doubtful, 0.9, 1.1), (CALIBRATED, 0.2, 0.45)):
        one, *rest = [Expected(4_000, frauds(scores, moves, random), np.zeros(DRAWS)) for _ in range(10)]
        together = Expected.together([one, *rest])
        assert low < width(together.precision) / width(one.precision) < high


def width(share):
    return share.high - share.low


@given(
    rows=st.lists(st.integers(0, 500), min_size=5, max_size=5),
    means=st.lists(st.floats(0, 1), min_size=5, max_size=5),
    seed=st.integers(0, 100),
)
def test_no_more_frauds_are_expected_than_decisions_whatever_their_scores(rows, means, seed):
    scores = Scores(np.array(rows), np.array(means))
    found = expect([(scores, CALIBRATED)], (scores, CALIBRATED), np.random.default_rng(seed))
    assert 0 <= found.caught.min() <= found.caught.max() <= sum(rows)
    if sum(rows):
        assert 0 <= found.precision.low <= found.precision.value <= found.precision.high <= 1
        assert abs(found.caught.mean() - scores.expected) <= 1 + 5 * np.sqrt(scores.expected / DRAWS + 1)
    else:
        assert found.precision.value is found.recall.value is None


@given(chance=st.floats(1e-6, 1 - 1e-6), by=st.sampled_from(SHIFTS.tolist()), more=st.floats(0.01, 2.0))
def test_a_larger_shift_never_lowers_a_chance_and_moving_back_restores_it(chance, by, more):
    there = moved(np.array([chance]), np.array([by]))
    assert moved(np.array([chance]), np.array([by + more]))[0] >= there[0]
    assert moved(there, np.array([-by]))[0] == pytest.approx(chance, rel=1e-4)


@given(
    frauds=st.integers(0, 30),
    more=st.integers(1, 30),
    weight=st.floats(1.0, 20.0),
    mean=st.sampled_from([0.1, 0.5, 0.9]),
)
def test_more_frauds_among_as_many_judged_never_lower_the_shift(frauds, more, weight, mean):
    def median(found):
        evidence = Judged(np.array([60 * weight]), np.array([found * weight]), np.array([mean]), 60 * weight**2)
        return np.median(shift(evidence, np.random.default_rng(0)).draws)

    assert median(frauds + more) >= median(frauds)
