"""What every family of models promises, whichever architecture."""

import shutil

import numpy as np
import pytest
from django.conf import settings as django_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import expit

from training.core import configuration, families
from training.core.bundle import load_bundle
from training.core.evaluation.calibration import Calibration
from training.core.exceptions import BundleRefused, ConfigurationError
from training.core.families import FAMILIES, Calibrated, encoding, scorer_of
from training.tests.support import (
    bundle_of_purchases,
    made_up_purchases,
    made_up_rows,
    tiny_bundle,
    with_purchases,
)

KEY = django_settings.BUNDLE_SIGNING_KEY
SMALL = {
    "model.members": 2,
    "model.bins": 4,
    "model.learning_rate": 0.01,
    "xgboost.epochs": 60,
    "xgboost.learning_rate": 0.3,
}
# As large and as small as a schema lets in; of purchases also what is missing and what nobody has seen.
STRANGE = {
    "ulb": np.array([[-200] * 30, [200] * 30, [0] * 30], np.float32),
    "purchases": np.array([[0, np.nan, 0, 0], [1e5, 0, 0, np.nan], [0, 1e4, 6, 3]], np.float32),
}
REASONS = {"ulb": {"V3", "V4", "V10", "V12", "V14", "V17"}, "purchases": {"device_days", "category"}}


@pytest.fixture(scope="module", params=["ulb", "purchases"])
def schema(request, tmp_path_factory):
    """A schema of numbers, and one that also has categories and values that may be missing."""
    with with_purchases(tmp_path_factory.mktemp("declared")):
        yield request.param


@pytest.fixture(scope="module", params=FAMILIES)
def bundle(request, schema, tmp_path_factory):
    return trained(schema, tmp_path_factory.mktemp("bundles"), request.param)


def trained(schema, directory, architecture):
    make = {"ulb": tiny_bundle, "purchases": bundle_of_purchases}[schema]
    return make(directory, KEY, **SMALL | {"model.architecture": architecture})


def made_up(bundle, seed=0):
    """Rows as the family takes them, and labels."""
    if bundle.schema == "ulb":
        features, labels = made_up_rows(seed=seed)
        return features.astype(np.float32), labels
    dataset = made_up_purchases(seed=seed)
    return encoding.of_bundle(bundle)(dataset.features).astype(np.float32), dataset.labels


@pytest.fixture(scope="module")
def scorer(bundle):
    return scorer_of(bundle)


@pytest.fixture(scope="module")
def rows(bundle):
    return made_up(bundle, seed=1)[0][:600]


@pytest.fixture(scope="module")
def alone(scorer, rows):
    """The score of each row when it comes alone."""
    return np.concatenate([scorer.score(row[None]) for row in rows])


def test_it_finds_what_there_is_to_find(bundle):
    assert bundle.metrics["test"].auprc.value > 0.9


def test_scores_are_finite_and_lie_between_0_and_1_however_strange_the_row(bundle, scorer, rows):
    scores = scorer.score(np.concatenate([rows, STRANGE[bundle.schema]]))
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_row_that_misses_a_number_has_no_score_and_the_others_have_theirs(scorer, rows, alone):
    broken = rows[:3].copy()
    broken[1, 0] = np.nan
    np.testing.assert_array_equal(scorer.score(broken), [alone[0], np.nan, alone[2]])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 599), max_size=600))
def test_a_row_has_the_same_score_in_any_batch_and_at_any_place(scorer, rows, alone, chosen):
    np.testing.assert_array_equal(scorer.score(rows[chosen]), alone[chosen])


def test_a_warm_scorer_read_from_disk_scores_as_a_cold_one(bundle, rows, alone):
    families._kept.clear()
    warmed = scorer_of(load_bundle(bundle.path, signing_key=KEY))
    warmed.warm()
    np.testing.assert_array_equal(warmed.score(rows), alone)


def test_a_model_that_comes_back_is_not_restored_again(bundle):
    first, second = (scorer_of(load_bundle(bundle.path, signing_key=KEY)) for _ in range(2))
    assert first._scorer is second._scorer


def test_the_bundle_keeps_what_was_said_of_validation_and_test_rows(bundle, scorer):
    features, labels = made_up(bundle)
    test = bundle.scored["test"]
    np.testing.assert_array_equal(test.labels, labels[bundle.test_rows])
    np.testing.assert_array_equal(test.scores, scorer.score(features[bundle.test_rows]))
    amounts = features[bundle.test_rows, {"ulb": 29, "purchases": 0}[bundle.schema]]
    np.testing.assert_array_equal(test.amounts, amounts)
    assert len(bundle.scored["validation"].labels) == bundle.metrics["validation"].rows


def test_the_reasons_of_a_fraud_are_the_features_that_make_frauds(bundle, scorer):
    features, labels = made_up(bundle, seed=2)
    contributions = explained(scorer, features[labels == 1]).contributions
    assert contributions.shape == (labels.sum(), len(bundle.feature_names))
    strongest = contributions.mean(axis=0).argsort()[::-1][: 3 if bundle.schema == "ulb" else 2]
    assert {bundle.feature_names[i] for i in strongest} <= REASONS[bundle.schema]


def explained(scorer, rows):
    return scorer.explain(rows, scorer.score(rows))


CALIBRATIONS = [
    Calibration(),
    Calibration("platt", a=0.6, b=0.6, c=-2.5),
    Calibration("beta", a=0.4, b=1.7, c=-4.0),
    Calibration("beta", a=2.0, b=0.0, c=1.0),
]


def perturbed(bundle, rows, seed):
    """Rows whose numbers lie anywhere between the others', a few of them as far out as a schema lets them; with what
    is missing and what nobody has seen, where the schema has such."""
    random = np.random.default_rng(seed)
    mixed = np.where(random.random((40, rows.shape[1])) < 0.5, rows[random.integers(0, 600, 40)], rows[:40])
    return np.concatenate([mixed, STRANGE[bundle.schema], rows[random.integers(0, 600, 20)]])


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.sampled_from(CALIBRATIONS))
def test_base_and_contributions_add_up_to_the_logit_of_the_score_that_is_answered(
    bundle, scorer, rows, seed, calibration
):
    calibrated, rows = Calibrated(scorer._scorer, calibration), perturbed(bundle, rows, seed)
    scores = calibrated.score(rows)
    base, contributions, logits = calibrated.explain(rows, scores)
    assert np.isfinite(contributions).all()
    np.testing.assert_allclose(base + contributions.sum(axis=1), logits, rtol=0, atol=1e-3)
    inside = (scores > 0) & (scores < 1)
    np.testing.assert_allclose(expit(logits[inside]), scores[inside], rtol=1e-6)


def test_scores_of_0_and_1_are_explained_by_finite_contributions(scorer, rows):
    for calibration in CALIBRATIONS:
        base, contributions, logits = Calibrated(scorer._scorer, calibration).explain(rows[:2], np.array([0.0, 1.0]))
        assert logits[0] < -80
        assert logits[1] > 17
        np.testing.assert_allclose(base + contributions.sum(axis=1), logits, rtol=0, atol=1e-3)


def test_calibration_changes_neither_the_order_of_reasons_nor_their_shares(scorer, rows):
    calibrated = Calibrated(scorer._scorer, Calibration("beta", a=0.4, b=1.7, c=-4.0))
    plain, stretched = scorer._scorer.explain(rows), explained(calibrated, rows).contributions
    before, after = (contributions.argsort(axis=1, kind="stable") for contributions in (plain, stretched))
    np.testing.assert_array_equal(before, after)
    # Of every two features of a row, the ratio stays.
    total, stretched_total = (contributions.sum(axis=1, keepdims=True) for contributions in (plain, stretched))
    np.testing.assert_allclose(plain * stretched_total, stretched * total, rtol=1e-4, atol=1e-4)


def test_nothing_has_no_reasons(scorer, rows):
    assert len(explained(scorer, rows[:0]).contributions) == len(scorer.score(rows[:0])) == 0


def test_a_seed_repeats_a_run_to_the_last_bit(bundle, tmp_path):
    again = trained(bundle.schema, tmp_path, bundle.architecture)
    assert again.files == bundle.files
    assert again.metrics == bundle.metrics


def test_it_says_what_each_epoch_brought_and_which_one_is_kept(bundle):
    history, kept = bundle.description.history, bundle.description.kept_epoch
    assert {"loss", "val_loss", "val_auprc"} <= history.keys()
    assert 1 <= kept <= len(history["val_loss"]) == len(history["loss"]) == len(history["val_auprc"])


def test_it_knows_the_hyperparameters_that_it_was_given_and_no_others(bundle):
    section = configuration.as_json(configuration.read())[FAMILIES[bundle.architecture].section]
    told = {"columns"} if bundle.schema == "purchases" else set()
    assert bundle.hyperparameters.keys() == section.keys() | {"architecture", "seed"} | told
    assert bundle.hyperparameters["epochs"] in (12, 60)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\0" * 100])
def test_files_that_are_not_a_model_are_refused(bundle, content):
    family = families.family_of(bundle.architecture)
    files = {name: content for name in bundle.files if content is not None}
    with pytest.raises(BundleRefused):
        family.restore(families.hyperparameters_of(bundle), files)


def test_an_architecture_that_nobody_knows_is_refused(bundle, tmp_path):
    with pytest.raises(ConfigurationError, match=r"model\.architecture must be one of .*xgboost"):
        tiny_bundle(tmp_path, KEY, **{"model.architecture": "resnet"})


def test_what_it_learned_is_refused_when_a_byte_of_it_was_altered(bundle, tmp_path):
    for name in bundle.files:
        directory = shutil.copytree(bundle.path, tmp_path / name / bundle.version)
        content = bytearray((directory / name).read_bytes())
        content[len(content) // 2] ^= 1
        (directory / name).write_bytes(content)
        with pytest.raises(BundleRefused, match=f"{name} has been altered"):
            load_bundle(directory, signing_key=KEY)


def test_it_is_kept_in_formats_that_hold_data_only(bundle):
    suffixes = {path.suffix for path in bundle.path.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".ubj", ".png", ".sig"}
