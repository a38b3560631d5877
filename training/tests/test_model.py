"""The networks as the worker runs them, held against the same sums in plain numpy."""

import numpy as np
import pytest
from django.conf import settings as django_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from training.calibration import Calibration
from training.evaluation import Ranking
from training.exceptions import BundleRefused
from training.families import scorer_of
from training.model import Scorer
from training.tests.support import made_up_rows, tiny_bundle

BAG = {"model.architecture": "bag", "model.members": 3, "model.bins": 8, "model.legitimate_per_fraud": 5}


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
        encoded = np.concatenate([np.arcsinh(encoded)[:, :, None], bins], axis=2).reshape(len(rows), -1)
        members = [f"{member}_" for member in range(1, bundle.hyperparameters["members"] + 1)]
    outputs = []
    for member in members:
        hidden = encoded
        for name in (f"{member}dense_1", f"{member}dense_2"):
            hidden = np.maximum(hidden @ weights[f"{name}/kernel"] + weights[f"{name}/bias"], 0)
        outputs.append(hidden @ weights[f"{member}logit/kernel"] + weights[f"{member}logit/bias"])
    return np.mean(outputs, axis=0)[:, 0]


def test_it_computes_the_declared_network_with_the_preprocessing_inside(bundle, scorer, rows):
    calibrate = Calibration.from_json(bundle.description["calibration"])
    expected = calibrate((1 / (1 + np.exp(-logits(bundle, rows)))).astype(np.float32))
    np.testing.assert_allclose(scorer.score(rows), expected, atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(0, 599), max_size=600))
def test_a_row_has_the_same_score_in_any_batch_and_at_any_place(scorer, rows, alone, chosen):
    # To the last bit: a repeated transaction must not meet another score because it came in other company.
    np.testing.assert_array_equal(scorer.score(rows[chosen]), alone[chosen])


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 255, 256, 257, 600])
def test_every_row_gets_one_score(scorer, rows, alone, size):
    np.testing.assert_array_equal(scorer.score(rows[:size]), alone[:size])


def test_a_warm_scorer_scores_as_a_cold_one(bundle, rows, alone):
    warmed = scorer_of(bundle)
    warmed.warm()
    np.testing.assert_array_equal(warmed.score(rows[:600]), alone)


def test_scores_lie_between_0_and_1_however_strange_the_row(scorer):
    strange = np.array([[-200] * 30, [200] * 30, [3e38] * 30, [0] * 30], np.float32)
    scores = scorer.score(strange[[0, 1, 3]])
    assert ((scores >= 0) & (scores <= 1)).all()


def test_contributions_add_up_to_the_difference_from_the_average_row(bundle, scorer, rows):
    explained = scorer.explain(rows[:200])
    expected = logits(bundle, rows[:200]) - logits(bundle, bundle.weights["standardise/mean"][None])
    np.testing.assert_allclose(explained.sum(axis=1), expected, rtol=0.03, atol=0.1)


def test_the_average_row_has_nothing_to_explain(bundle, scorer):
    assert not scorer.explain(bundle.weights["standardise/mean"][None]).any()


def test_the_reasons_of_a_fraud_are_the_features_that_make_frauds(bundle, scorer):
    features, labels = made_up_rows(seed=2)
    strongest = scorer.explain(features[labels == 1].astype(np.float32)).mean(axis=0).argsort()[::-1][:4]
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
        Scorer(architecture, mlp.hyperparameters | hyperparameters, weights)


@pytest.mark.parametrize("hyperparameters", [{"members": 2, "bins": 9}, {"members": 4}])
def test_weights_of_another_bag_are_refused(bag, hyperparameters):
    with pytest.raises(BundleRefused, match="do not fit the architecture"):
        Scorer("bag", bag.hyperparameters | hyperparameters, bag.weights)


def test_the_members_of_a_bag_learn_different_things(bag):
    kernels = [bag.weights[f"{member}_dense_1/kernel"] for member in (1, 2, 3)]
    assert np.abs(kernels[0] - kernels[1]).mean() > 0.01
    assert np.abs(kernels[1] - kernels[2]).mean() > 0.01


def test_a_sample_of_the_legitimate_rows_leaves_scores_that_are_probabilities(bag):
    # One row in six of the sample is fraud, 3 % of all rows are: the mean score says which of them was learnt.
    features, labels = made_up_rows(seed=3)
    assert scorer_of(bag).score(features.astype(np.float32)).mean() == pytest.approx(labels.mean(), rel=0.3)


def test_a_bag_keeps_its_last_epoch(bag):
    history = bag.description["history"]
    assert bag.description["kept_epoch"] == len(history["val_loss"]) == len(history["val_auprc"]) == 12


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
