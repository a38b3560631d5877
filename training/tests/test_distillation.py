"""What students learn of boosted trees."""

import numpy as np
import pytest
from safetensors.numpy import load
from scipy.special import logit

from training.core import configuration, families
from training.core.configuration.sections import NetworkHyperparameters
from training.core.families import distillation
from training.core.families.distillation import Lessons
from training.core.families.networks import FILE, fit
from training.core.families.networks.architectures import bag
from training.tests.support import made_up_rows

TEACHER = families.hyperparameters(
    configuration.read(overrides={"model.architecture": "xgboost", "xgboost.epochs": 60, "xgboost.learning_rate": 0.3})
)


@pytest.fixture(scope="module")
def rows():
    """Float32 as models see them, and labels."""
    features, labels = made_up_rows()
    return features.astype(np.float32), labels


@pytest.fixture(scope="module")
def teacher(rows):
    return families.train(TEACHER, rows, made_up_rows(seed=1)).scorer


@pytest.fixture
def lessons(rows, teacher):
    return Lessons(rows[0], rows[1], teacher, np.random.default_rng(0))


@pytest.fixture
def small_lessons(monkeypatch, rows, teacher):
    for name, count in (("HARDEST", 50), ("DRAWN", 100), ("MADE_UP", 200), ("HARDEST_TO_MIX", 20)):
        monkeypatch.setattr(distillation, name, count)
    return Lessons(rows[0], rows[1], teacher, np.random.default_rng(0))


def among(rows, others):
    """[n] bool: which of `rows` are among `others`."""
    known = {row.tobytes() for row in others}
    return np.array([row.tobytes() in known for row in rows])


def test_a_lesson_has_every_fraud_and_the_legitimate_rows_that_the_teacher_finds_hardest(small_lessons, rows, teacher):
    features, labels = rows
    drawn, _ = small_lessons.draw()
    assert len(drawn) == len(small_lessons) == 120 + 50 + 100 + 200
    assert among(features[labels == 1], drawn).all()
    legitimate = features[labels == 0]
    assert among(legitimate[np.argsort(-teacher.score(legitimate))[:50]], drawn).all()


def test_every_lesson_is_drawn_anew(small_lessons):
    first, second = (small_lessons.draw()[0] for _ in range(2))
    assert 120 + 50 <= among(first, second).sum() < 300


def test_every_value_of_a_made_up_row_is_that_of_a_training_row(lessons, rows):
    features, _ = rows
    drawn, _ = lessons.draw()
    made_up = drawn[~among(drawn, features)]
    assert len(made_up) > 1000
    assert all(np.isin(made_up[:, feature], features[:, feature]).all() for feature in range(features.shape[1]))


def test_of_every_row_the_teachers_logit_is_learnt_within_bounds(lessons, teacher):
    drawn, logits = lessons.draw()
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(scores, teacher.score(drawn).clip(1e-4, 1 - 1e-4), atol=2e-4)
    assert np.abs(logits).max() <= distillation.FURTHEST_LOGIT


def fit_bag(rows, **overrides):
    """A learner and a student. Returns their hyperparameters, and what was found."""
    chosen = {"units": [64], "members": 2, "students": 1, "bins": 8, "batch_size": 256, "epochs": 8, "draws": 2}
    hyperparameters = NetworkHyperparameters(
        **{"architecture": "bag", "learning_rate": 0.01, "dropout": 0.5, "teacher": TEACHER, **chosen, **overrides}
    )
    return hyperparameters, fit(hyperparameters, rows, made_up_rows(seed=1), lambda epoch, logs: None)


def test_a_batch_may_be_larger_than_a_lesson(rows):
    _, found = fit_bag(rows, batch_size=2**20, epochs=2)
    assert np.isfinite(found.history["loss"]).all()
    weights = load(found.files[FILE])
    assert all(np.isfinite(array).all() for array in weights.values())
    assert weights["2_logit/bias"].any()


def test_a_student_comes_to_say_what_the_teacher_says(rows, teacher):
    hyperparameters, found = fit_bag(rows)
    network, weights = bag(30, hyperparameters), load(found.files[FILE])
    for variable in network.variables:
        variable.assign(weights[variable.path])
    unseen, _ = made_up_rows(seed=2)
    wanted = logit(teacher.score(unseen.astype(np.float32)))
    student, learner = (
        np.corrcoef(network.from_rows(head).predict(unseen, verbose=0)[:, 0], wanted)[0, 1]
        for head in (network.students, network.learners)
    )
    assert student > 0.9
    assert student > learner
