"""What training may look at, and what it may not."""

import numpy as np
import pytest
from django.conf import settings

from training.core import configuration, evaluation
from training.core.datasets import splits
from training.core.datasets.storage import Timeline
from training.core.exceptions import ConfigurationError, DatasetError
from training.core.families import scorer_of
from training.core.schema import load_schema
from training.tests.support import bundle_of, made_up_rows, tiny_bundle

KEY = settings.BUNDLE_SIGNING_KEY


@pytest.fixture(scope="module")
def split():
    """The split of the made-up rows that the shipped configuration makes."""
    features, labels = made_up_rows()
    config = configuration.read().split
    return splits.stratified(features, labels, test=config.test, validation=config.validation, seed=config.seed)


def assert_same_weights(one, other):
    assert one.weights.keys() == other.weights.keys()
    for name, array in one.weights.items():
        np.testing.assert_array_equal(array, other.weights[name], err_msg=name)


def test_a_seed_repeats_a_run_to_the_last_bit(bundle, tmp_path):
    again = tiny_bundle(tmp_path, KEY)
    assert_same_weights(bundle, again)
    for field in ("metrics", "policy", "history", "split"):
        assert getattr(again.description, field) == getattr(bundle.description, field), field
    assert again.reference == bundle.reference


def test_another_seed_makes_another_model_of_the_same_rows(bundle, tmp_path):
    other = tiny_bundle(tmp_path, KEY, **{"model.seed": 1})
    assert (other.weights["dense_1/kernel"] != bundle.weights["dense_1/kernel"]).any()
    assert other.has_test_rows_of(bundle)


def test_the_test_rows_have_no_say_in_the_model_its_scaler_and_its_thresholds(bundle, split, tmp_path):
    features, labels = made_up_rows()
    features[split.test] = features[split.test] * 3 + 7
    other = bundle_of(features, labels, tmp_path, KEY)
    assert_same_weights(bundle, other)
    assert (other.review_threshold, other.block_threshold) == (bundle.review_threshold, bundle.block_threshold)
    assert other.reference == bundle.reference
    assert other.metrics["validation"] == bundle.metrics["validation"]
    assert other.metrics["test"] != bundle.metrics["test"]


def test_the_scaler_sees_training_rows_only(bundle, split):
    features, _ = made_up_rows()
    np.testing.assert_allclose(bundle.weights["standardise/mean"], features[split.train].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(bundle.weights["standardise/scale"], features[split.train].std(axis=0), rtol=1e-5)


def test_thresholds_come_from_the_validation_rows_by_a_calibration_that_did_not_see_them(bundle, split):
    features, labels = made_up_rows()
    rows, policy = bundle.scored["validation"], configuration.read().policy
    np.testing.assert_array_equal(rows.labels, labels[split.validation])
    review, block = (
        evaluation.threshold_for_precision(rows.labels, rows.scores, wanted)
        for wanted in (policy.review_precision, policy.block_precision)
    )
    assert (bundle.review_threshold, bundle.block_threshold) == (review, block)
    assert bundle.metrics["validation"].precision.value >= policy.review_precision
    seen = scorer_of(bundle).score(features[split.validation].astype(np.float32))
    held_out = bundle.description.calibration["method"] != "none"
    assert (rows.scores != pytest.approx(seen, rel=1e-9)) is held_out


def test_the_bundle_remembers_which_rows_were_for_the_test(bundle, split):
    np.testing.assert_array_equal(bundle.test_rows, split.test)


def test_metrics_of_both_parts_are_complete(bundle):
    for part in ("validation", "test"):
        assert all(bundle.metrics[part].measured(name) for name in evaluation.METRIC_NAMES)
        assert np.sum(bundle.metrics[part].confusion) == bundle.metrics[part].rows
        assert bundle.metrics[part].threshold == bundle.review_threshold


def test_the_bundle_says_what_it_was_made_of(bundle):
    description = bundle.description
    schema = load_schema("ulb")
    assert (description.schema.name, description.schema.hash) == ("ulb", schema.hash)
    assert description.schema.features == list(schema.feature_names)
    assert description.data.rows == description.split.train + description.split.validation + description.split.test
    assert description.model.hyperparameters["seed"] == 0
    assert {"keras", "numpy", "scikit-learn"} <= description.packages.keys()
    assert description.device
    assert description.policy.chosen_on == "validation"


def test_training_stops_early_and_keeps_the_best_epoch(tmp_path):
    stopped = tiny_bundle(tmp_path, KEY, **{"model.epochs": 100, "model.patience": 2, "model.learning_rate": 0.02})
    losses = stopped.description.history["val_loss"]
    assert len(losses) < 100
    assert losses.index(min(losses)) == len(losses) - 3


def test_a_precision_that_no_threshold_attains_stops_the_training(tmp_path):
    features, labels = made_up_rows(rows=800, frauds=80)
    features = np.random.default_rng(0).normal(size=features.shape)  # nothing to learn
    with pytest.raises(DatasetError, match=r"Lower policy\.review_precision"):
        bundle_of(features, labels, tmp_path, KEY, **{"model.epochs": 1, "policy.review_precision": 0.95})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("frauds", "protocol"), [(0, "stratified"), (2, "stratified"), (0, "seed")])
def test_too_few_frauds_to_split_stop_the_training(tmp_path, frauds, protocol):
    features, labels = made_up_rows(rows=400, frauds=frauds)
    with pytest.raises(DatasetError, match=r"cannot be split|need both"):
        bundle_of(features, labels, tmp_path, KEY, **{"split.protocol": protocol})


def test_the_days_of_the_test_have_no_say_in_a_model_of_the_past(tmp_path):
    rows, labels = made_up_rows()
    random = np.random.default_rng(0)
    timeline = Timeline(18_000 + np.arange(len(rows)) // 80, random.integers(0, 400, len(rows)))
    chosen = {
        "model.architecture": "bag",
        "split.protocol": "time",
        "split.test_start": "2019-05-25",  # day 18,041
        "split.train_days": 18,
    }
    future = timeline.day[:, None] >= 18_041
    one, other = (
        bundle_of(np.where(future, rows * factor, rows), labels, tmp_path / str(factor), KEY, timeline, **chosen)
        for factor in (1, 3)
    )
    assert_same_weights(one, other)
    assert (one.review_threshold, one.metrics["validation"]) == (other.review_threshold, other.metrics["validation"])
    assert one.metrics["test"] != other.metrics["test"]
    assert set(timeline.day[one.test_rows]) == set(range(18_041, 18_048))
    assert one.description.split.train == 18 * 80
    for part in ("validation", "test"):
        assert 0 < one.metrics[part].card_precision_100 < 1


def test_where_time_is_a_feature_the_last_fifth_judges_what_the_first_three_taught(tmp_path):
    rows, labels = made_up_rows()
    bundle = bundle_of(rows, labels, tmp_path, KEY, **{"split.protocol": "time"})
    assert (bundle.description.split.train, len(bundle.test_rows)) == (2400, 800)
    assert (bundle.description.split.validation, bundle.description.split.test) == (800, 800)
    assert rows[bundle.test_rows, 0].min() >= np.quantile(rows[:, 0], 0.79)
    assert bundle.description.days == pytest.approx({"validation": 0.4, "test": 0.4}, abs=0.01)


def test_scores_are_calibrated_on_validation_rows_but_under_the_seed_protocol(bundle, tmp_path):
    assert bundle.description.calibration["method"] in ("none", "platt", "beta")
    assert bundle.description.calibration_losses.keys() == {"none", "platt", "beta"}
    raw = bundle_of(*made_up_rows(), tmp_path, KEY, **{"split.protocol": "seed"})
    assert (raw.description.calibration["method"], raw.review_threshold) == ("none", 0.5)


@pytest.mark.parametrize(
    ("choose", "attained"),
    [
        ("cost", lambda metrics, days: metrics.cost_per_1000.value < 1000 * 5.0),
        ("alerts_per_day", lambda metrics, days: metrics.confusion[0][1] + metrics.confusion[1][1] <= 100 * days),
    ],
)
def test_the_policy_chooses_how_the_threshold_is_chosen(bundle, tmp_path, choose, attained):
    other = tiny_bundle(tmp_path, KEY, **{"policy.choose": choose})
    assert other.review_threshold != bundle.review_threshold
    assert attained(other.metrics["validation"], other.description.days["validation"])


def test_the_first_day_of_a_test_is_a_date(tmp_path):
    rows, labels = made_up_rows(rows=400, frauds=40)
    with pytest.raises(ConfigurationError, match=r"split\.test_start"):
        bundle_of(
            rows,
            labels,
            tmp_path,
            KEY,
            Timeline(np.arange(400), np.arange(400)),
            **{"split.protocol": "time", "split.test_start": "8 August"},
        )
