"""Permutation importance, on scores whose importance is known."""

import numpy as np
from sklearn.metrics import average_precision_score

from training.core.description import Loss
from training.core.evaluation.importance import DRAWN_ROWS, HIGHEST_ROWS, REPEATS, permutation_importance

NAMES = ("signal", "echo", "noise")


def made_up(rows=20_000, frauds=200):
    random = np.random.default_rng(0)
    labels = np.zeros(rows, np.int8)
    labels[:frauds] = 1
    return random.normal(size=(rows, len(NAMES))) + 3 * labels[:, None] * [1, 0.3, 0], labels


def measure(score, features, labels, seed=0):
    return permutation_importance(score, features, labels, lean(features), names=NAMES, seed=seed)


def lean(rows):
    return 1 / (1 + np.exp(-(rows[:, 0] + 0.2 * rows[:, 1])))


def test_what_the_score_leans_on_most_loses_most_and_what_it_ignores_loses_nothing():
    found = measure(lean, *made_up()).features
    assert found["signal"].low > found["echo"].high
    assert found["echo"].value > 0
    assert found["noise"] == Loss(value=0.0, low=0.0, high=0.0)


def test_the_mean_lies_between_the_least_and_the_most_of_the_repeats():
    for lost in measure(lean, *made_up()).features.values():
        assert lost.low <= lost.value <= lost.high


def test_the_rows_that_take_part_stand_for_all_rows():
    features, labels = made_up()
    found = measure(lean, features, labels)
    assert found.rows == HIGHEST_ROWS + DRAWN_ROWS + labels.sum()
    assert abs(found.auprc - average_precision_score(labels, lean(features))) < 0.001


def test_the_work_is_bounded_whatever_the_number_of_rows():
    scored = []

    def count(rows):
        scored.append(len(rows))
        return lean(rows)

    features, labels = made_up()
    measure(count, features, labels)
    assert len(scored) == 1 + REPEATS * len(NAMES)
    assert max(scored) == HIGHEST_ROWS + DRAWN_ROWS + labels.sum()


def test_a_seed_repeats_it():
    features, labels = made_up()
    assert measure(lean, features, labels) == measure(lean, features, labels)
    assert measure(lean, features, labels) != measure(lean, features, labels, seed=1)
