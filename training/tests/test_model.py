"""The networks as the worker runs them, held against the same sums in plain numpy."""

from copy import deepcopy

import numpy as np
import pytest
from django.conf import settings as django_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from scipy.special import logit

from training.core import families
from training.core.configuration.sections import NetworkHyperparameters
from training.core.evaluation import Ranking
from training.core.evaluation.calibration import Calibration
from training.core.exceptions import BundleRefused
from training.core.families import scorer_of
from training.core.families.networks.architectures import BUILD
from training.core.families.networks.scorer import Scorer
from training.tests.support import made_up_rows, networks_of, tiny_bundle

BAG = {
    "model.architecture": "bag",
    "model.members": 3,
    "model.binless_members": 1,
    "model.students": 1,
    "xgboost.epochs": 60,
    "xgboost.learning_rate": 0.3,
    "model.bins": 8,
    "model.legitimate_per_fraud": 5,
    "model.draws": 2,
    "model.learning_rate": 0.01,
    "model.log_amount": True,
    "model.time_of_day": True,
}


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("bag"), django_settings.BUNDLE_SIGNING_KEY, **BAG)


@pytest.fixture(scope="module", params=["mlp", "bag"])
def bundle(request):
    return request.getfixturevalue("bag" if request.param == "bag" else "mlp")


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("mlp"), django_settings.BUNDLE_SIGNING_KEY)


@pytest.fixture(scope="module")
def scorer(bundle):
    return scorer_of(bundle)


@pytest.fixture(scope="module")
def rows():
    return made_up_rows(seed=1)[0].astype(np.float32)


@pytest.fixture(scope="module")
def alone(scorer, rows):
    """The score of each of the first 600 rows, when it comes alone."""
    return np.concatenate([scorer.score(row[None]) for row in rows[:600]])


def logits(bundle, rows):
    """[n] float64: what the architecture computes before the sigmoid."""
    weights = {name: array.astype(np.float64) for name, array in bundle.weights.items()}
    encoded = (rows - weights["standardise/mean"]) / weights["standardise/scale"]
    members = [""]
    if bundle.architecture == "bag":
        edges = weights["bins/edges"]
        width = np.maximum(np.diff(edges), 1e-6)
        bins = np.clip((rows[:, :, None] - edges[:, :-1]) / width, 0, 1)
        encoded = np.concatenate([np.arcsinh(encoded)[:, :, None], bins], axis=2)
        angle = rows[:, 0].astype(np.float64) / 86_400 * 2 * np.pi
        encoded[:, 0] = 0
        encoded[:, 0, :2] = np.column_stack([np.sin(angle), np.cos(angle)])
        encoded[:, -1, 0] = np.log1p(rows[:, -1].clip(0).astype(np.float64)) / 2 - 1.5
        binless = np.concatenate([encoded[:, :, 0], encoded[:, 0, 1:2]], axis=1)
        encoded = encoded.reshape(len(rows), -1)
        members = [f"{member}_" for member in range(1, bundle.hyperparameters["members"] + 1)]
    outputs = []
    for member in members:
        hidden = binless if member == "1_" else encoded
        for name in (f"{member}dense_1", f"{member}dense_2"):
            hidden = np.maximum(hidden @ weights[f"{name}/kernel"] + weights[f"{name}/bias"], 0)
        outputs.append(hidden @ weights[f"{member}logit/kernel"] + weights[f"{member}logit/bias"])
    return np.mean(outputs, axis=0)[:, 0]


def test_it_computes_the_declared_network_with_the_preprocessing_inside(bundle, scorer, rows):
    calibrate = Calibration.from_json(bundle.description.calibration)
    expected = calibrate((1 / (1 + np.exp(-logits(bundle, rows)))).astype(np.float32))
    np.testing.assert_allclose(scorer.score(rows), expected, atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(0, 599), max_size=600))
def test_a_row_has_the_same_score_in_any_batch_and_at_any_place(scorer, rows, alone, chosen):
    # To the last bit: a repeated transaction must not meet another score because it came in other company.
    np.testing.assert_array_equal(scorer.score(rows[chosen]), alone[chosen])


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 31, 32, 33, 40, 64, 128, 144, 255, 256, 257, 600])
def test_every_row_gets_one_score(scorer, rows, alone, size):
    np.testing.assert_array_equal(scorer.score(rows[:size]), alone[:size])


@pytest.mark.parametrize("size", [32, 40, 64, 128, 144, 256])
def test_a_row_has_the_same_score_at_every_place_of_a_full_batch(scorer, rows, alone, size):
    for start in range(0, 600 - size, size):
        np.testing.assert_array_equal(scorer.score(rows[start : start + size]), alone[start : start + size])


def test_a_warm_scorer_scores_as_a_cold_one(bundle, rows, alone):
    families._kept.clear()
    warmed = scorer_of(bundle)
    warmed.warm()
    np.testing.assert_array_equal(warmed.score(rows[:600]), alone)


def test_scores_lie_between_0_and_1_however_strange_the_row(scorer):
    strange = np.array([[-200] * 30, [200] * 30, [3e38] * 30, [0] * 30], np.float32)
    scores = scorer.score(strange[[0, 1, 3]])
    assert ((scores >= 0) & (scores <= 1)).all()


def test_contributions_add_up_to_the_difference_from_the_average_row(bundle, scorer, rows):
    explained = scorer._scorer.explain(rows[:200])  # before calibration
    expected = logits(bundle, rows[:200]) - logits(bundle, bundle.weights["standardise/mean"][None])
    np.testing.assert_allclose(explained.sum(axis=1), expected, rtol=1e-4, atol=1e-4)


def test_contributions_are_the_integrated_gradients_that_ever_smaller_steps_approach(bundle, scorer, rows):
    import tensorflow as tf

    family, row = scorer._scorer, rows[:1]
    start, end = (family._encode(tf.constant(some)).numpy() for some in (bundle.weights["standardise/mean"][None], row))
    path = start + (np.arange(4096, dtype=np.float32)[:, None] + 0.5) / 4096 * (end - start)
    head = BUILD[bundle.architecture](rows.shape[1], networks_of(bundle)).head
    for variable in head.variables:
        if "seed_generator" not in variable.path:
            variable.assign(bundle.weights[variable.path])
    with tf.GradientTape() as tape:
        tape.watch(path := tf.constant(path))
        summed = tf.reduce_sum(tf.reduce_mean(head(path), axis=1))
    stepwise = np.bincount(family._column_of, (end - start)[0] * np.mean(tape.gradient(summed, path), axis=0))
    np.testing.assert_allclose(family.explain(row)[0], stepwise, rtol=0, atol=2e-3)


@pytest.mark.parametrize("units", [[], [16], [16, 8, 8]])
def test_contributions_add_up_with_any_number_of_hidden_layers(bag, rows, units):
    hyperparameters = NetworkHyperparameters(architecture="bag", members=2, bins=4, units=units)
    untrained = {variable.path: variable.numpy() for variable in BUILD["bag"](rows.shape[1], hyperparameters).variables}
    fitted = {name: bag.weights[name] for name in ("standardise/mean", "standardise/scale")}
    scorer = Scorer(hyperparameters, untrained | fitted | {"bins/edges": bag.weights["bins/edges"][:, ::2]})
    scored = logit(scorer.score(rows[:50]).astype(np.float64))
    np.testing.assert_allclose(scorer.baseline + scorer.explain(rows[:50]).sum(axis=1), scored, rtol=1e-4, atol=1e-4)


def test_the_average_row_has_nothing_to_explain(bundle, scorer):
    assert not scorer._scorer.explain(bundle.weights["standardise/mean"][None]).any()


def test_the_reasons_of_a_fraud_are_the_features_that_make_frauds(bundle, scorer):
    features, labels = made_up_rows(seed=2)
    strongest = scorer._scorer.explain(features[labels == 1].astype(np.float32)).mean(axis=0).argsort()[::-1][:4]
    assert {bundle.feature_names[i] for i in strongest} <= {"V3", "V4", "V10", "V12", "V14", "V17"}


@pytest.mark.parametrize(
    ("architecture", "hyperparameters", "lost"),
    [
        ("resnet", {}, None),
        ("mlp", {"units": [32, 17]}, None),
        ("mlp", {"units": [32, 16, 8]}, None),
        ("mlp", {}, "dense_1/kernel"),
        ("mlp", {}, "standardise/mean"),
    ],
)
def test_weights_that_do_not_fit_the_architecture_are_refused(mlp, architecture, hyperparameters, lost):
    weights = {name: array for name, array in mlp.weights.items() if name != lost}
    with pytest.raises(BundleRefused, match="do not fit the architecture"):
        Scorer(replace(networks_of(mlp), architecture=architecture, **hyperparameters), weights)


@pytest.mark.parametrize("hyperparameters", [{"members": 2, "bins": 9}, {"members": 4}])
def test_weights_of_another_bag_are_refused(bag, hyperparameters):
    with pytest.raises(BundleRefused, match="do not fit the architecture"):
        Scorer(replace(networks_of(bag), **hyperparameters), bag.weights)


def test_the_members_of_a_bag_learn_different_things(bag):
    second, third = (bag.weights[f"{member}_dense_1/kernel"] for member in (2, 3))
    assert np.abs(second - third).mean() > 0.01


def test_a_binless_member_sees_of_each_feature_one_number_and_of_the_moment_two(bag):
    widths = [len(bag.weights[f"{member}_dense_1/kernel"]) for member in (1, 2)]
    assert widths == [30 + 1, 30 * 9]


def test_a_sample_of_the_legitimate_rows_leaves_scores_that_are_probabilities(bag):
    # One row in six of the sample is fraud, 3 % of all rows are: the mean score says which of them was learnt.
    features, labels = made_up_rows(seed=3)
    assert scorer_of(bag).score(features.astype(np.float32)).mean() == pytest.approx(labels.mean(), rel=0.3)


def test_a_transaction_scores_the_same_at_the_same_time_of_another_day(bag, rows):
    scorer = scorer_of(bag)
    days = np.zeros(rows.shape[1], np.float32)
    days[bag.feature_names.index("Time")] = 86_400
    early = np.where(days > 0, np.floor(rows % np.maximum(days, 1)), rows)
    np.testing.assert_array_equal(scorer.score(early + days), scorer.score(early))
    np.testing.assert_array_equal(scorer.score(early + 180 * days), scorer.score(early))
    assert (scorer.score(early + days / 2) != scorer.score(early)).any()


def test_a_bag_from_before_there_were_choices_of_encoding_scores_as_ever(tmp_path, rows):
    small = {"model.architecture": "bag", "model.members": 2, "model.bins": 4, "model.epochs": 1}
    bundle = tiny_bundle(tmp_path, django_settings.BUNDLE_SIGNING_KEY, **small)
    newer = {"log_amount", "time_of_day", "binless_members", "draws", "students"}
    known = {name: value for name, value in bundle.hyperparameters.items() if name not in newer}
    assert bundle.weights["1_dense_1/kernel"].shape == (30 * 5, 32)
    older = deepcopy(bundle)
    older.hyperparameters.clear()
    older.hyperparameters.update(known)
    as_ever, now = (Scorer(networks_of(one), bundle.weights) for one in (older, bundle))
    np.testing.assert_array_equal(as_ever.score(rows), now.score(rows))


def test_a_bag_keeps_its_last_epoch(bag):
    history = bag.description.history
    assert bag.description.kept_epoch == len(history["val_loss"]) == len(history["val_auprc"]) == 12


def test_a_seed_repeats_a_bag_to_the_last_bit(bag, tmp_path):
    again = tiny_bundle(tmp_path, django_settings.BUNDLE_SIGNING_KEY, **BAG)
    for name, array in bag.weights.items():
        np.testing.assert_array_equal(array, again.weights[name], err_msg=name)


@pytest.mark.parametrize("crowded", [False, True])
def test_we_estimate_the_roc_auc_as_keras_does(crowded):
    import keras

    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 5000)
    scores = random.integers(0, 400, 5000) / 1e6 if crowded else np.clip(random.normal(0.4 + 0.2 * labels, 0.15), 0, 1)
    metric = keras.metrics.AUC()
    metric.update_state(labels, scores)
    ours = Ranking(labels, scores, threshold=0.5).metrics()
    assert ours["roc_auc_keras_binned"] == pytest.approx(float(metric.result()), abs=1e-4)
