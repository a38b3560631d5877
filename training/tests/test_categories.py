"""Categories and missing values: from the texts of training rows to scores."""

import dataclasses

import numpy as np
import pytest
from django.conf import settings as django_settings
from msgspec.structs import replace

from training.core import families
from training.core.bundle import load_bundle
from training.core.configuration.sections import Hyperparameters, NetworkHyperparameters, TreeHyperparameters
from training.core.families import encoding, scorer_of
from training.core.families.encoding import FEWEST_ROWS
from training.core.schema import load_schema
from training.core.schema.kinds import KINDS
from training.core.schema.kinds.categories import code_of
from training.tests.support import bundle_of_purchases, made_up_purchases, purchases, with_purchases

KEY = django_settings.BUNDLE_SIGNING_KEY
TREES = {"model.architecture": "xgboost", "xgboost.epochs": 60, "xgboost.learning_rate": 0.3}
HYPERPARAMETERS: dict[str, Hyperparameters] = {
    "mlp": NetworkHyperparameters(learning_rate=0.01, batch_size=128, epochs=15),
    "bag": NetworkHyperparameters(
        architecture="bag",
        learning_rate=0.01,
        batch_size=128,
        epochs=15,
        members=3,
        binless_members=1,
        students=1,
        bins=4,
        teacher=TreeHyperparameters(epochs=60, learning_rate=0.3),
    ),
    "xgboost": TreeHyperparameters(epochs=60, learning_rate=0.3, seed=0),
}
CATEGORY = 2  # the column


@pytest.fixture(scope="module", autouse=True)
def schema(tmp_path_factory):
    with with_purchases(tmp_path_factory.mktemp("declared")) as declared:
        yield declared


def of_categories(counts):
    """Purchases that differ in nothing but their category."""
    values = [[10.0, 1.0, name, None] for name, count in counts.items() for _ in range(count)]
    return purchases(values, np.zeros(len(values), np.int8))


def everything(dataset):
    return np.arange(len(dataset.labels))


def scored(architecture, dataset, rows):
    """The scores of rows, after training on a dataset."""
    encode = encoding.learn(dataset, everything(dataset))
    hyperparameters = replace(HYPERPARAMETERS[architecture], columns=encode.columns)
    train = encode.applied_to(dataset).rows(everything(dataset))
    return families.train(hyperparameters, train, train).score(encode(rows.features))


def test_a_value_has_the_number_of_its_place_among_the_values_of_training_rows_the_most_frequent_first():
    dataset = of_categories({"rare": FEWEST_ROWS - 1, "b": 20, "a": 20, "frequent": 30, "few": FEWEST_ROWS})
    encode = encoding.learn(dataset, everything(dataset))
    assert encode.vocabularies == {"category": ["frequent", "a", "b", "few"], "country": []}
    rows = encode(of_categories(dict.fromkeys(["few", "frequent", "rare", "never seen"], 1)).features)
    assert rows[:, CATEGORY].tolist() == [4, 1, 0, 0]
    assert np.isnan(rows[:, 3]).all()


def test_only_training_rows_are_counted():
    dataset = of_categories({"early": 10, "late": 10})
    assert encoding.learn(dataset, np.arange(10)).vocabularies["category"] == ["early"]


def test_of_very_many_values_only_the_most_frequent_are_learned(schema):
    dataset = of_categories({f"value {number}": FEWEST_ROWS + (number < 200) for number in range(300)})
    learned = encoding.learn(dataset, everything(dataset)).vocabularies["category"]
    assert sorted(learned) == sorted(f"value {number}" for number in range(200))
    assert schema.features[CATEGORY].max_values == 200


def test_a_schema_of_required_numbers_is_not_encoded_at_all():
    dataset = made_up_purchases(10)
    plain = encoding.Encoding(load_schema("ulb"), {})
    assert plain(dataset.features) is dataset.features
    assert plain.columns is None


@pytest.mark.parametrize("architecture", HYPERPARAMETERS)
def test_a_category_alone_can_be_learned(architecture):
    random = np.random.default_rng(0)
    names = np.array([f"shop {number}" for number in random.integers(0, 30, 3000)])
    labels = np.isin(names, ["shop 3", "shop 7", "shop 19"]).astype(np.int8)
    dataset = purchases([[10.0, 1.0, name, None] for name in names.tolist()], labels)
    scores = scored(architecture, dataset, dataset)
    assert scores[labels == 1].min() > 0.5 > scores[labels == 0].max()


@pytest.mark.parametrize("architecture", HYPERPARAMETERS)
def test_a_missing_value_is_told_apart_from_0(architecture):
    random = np.random.default_rng(0)
    days = [[None, 0.0, 100.0, 300.0][number] for number in random.integers(0, 4, 3000)]
    labels = np.array([value is None for value in days], np.int8)
    labels[random.random(3000) < 0.4] = 0
    dataset = purchases([[10.0, value, "toys", "DE"] for value in days], labels)
    missing, zero = scored(
        architecture, dataset, purchases([[10.0, None, "toys", "DE"], [10.0, 0.0, "toys", "DE"]], labels[:2])
    )
    assert missing > 0.2
    assert zero < 0.1


@pytest.mark.parametrize("architecture", HYPERPARAMETERS)
def test_a_value_that_nobody_has_seen_is_scored_like_a_rare_one(architecture):
    dataset = made_up_purchases(1500)
    unseen, rare = scored(
        architecture,
        purchases_with(dataset, [10.0, 1.0, "rare", "DE"]),
        purchases([[10.0, 1.0, "never seen", "DE"], [10.0, 1.0, "rare", "DE"]], np.zeros(2, np.int8)),
    )
    assert np.isfinite(unseen)
    assert unseen == rare


def purchases_with(dataset, values):
    """The dataset, and a few legitimate rows of these values."""
    more = purchases([values] * (FEWEST_ROWS - 1), np.zeros(FEWEST_ROWS - 1, np.int8))
    return dataclasses.replace(
        dataset,
        features=np.concatenate([dataset.features, more.features]),
        labels=np.concatenate([dataset.labels, more.labels]),
        texts={name: {**texts, **more.texts[name]} for name, texts in dataset.texts.items()},
    )


def test_a_bundle_keeps_the_texts_and_scores_by_them(tmp_path):
    bundle = bundle_of_purchases(tmp_path, KEY, **TREES)
    again = load_bundle(bundle.path, signing_key=KEY)
    assert again.description.vocabularies["category"][:2] == ["grocery", "fuel"]
    assert set(again.description.vocabularies["country"]) == {"DE", "FR", "IT"}
    rows = encoding.of_bundle(again)(made_up_purchases(seed=1).features[:50]).astype(np.float32)
    assert rows[:, CATEGORY].max() == 6
    np.testing.assert_array_equal(scorer_of(again).score(rows), scorer_of(bundle).score(rows))
    assert max(again.description.importance.features.items(), key=lambda item: item[1].value)[0] in (
        "device_days",
        "category",
    )


def test_the_reference_for_drift_has_a_bin_for_missing_values(tmp_path):
    bundle = bundle_of_purchases(tmp_path, KEY, **TREES)
    proportions = {name: histogram["proportions"] for name, histogram in bundle.reference["features"].items()}
    assert proportions["device_days"][-1] == pytest.approx(0.25, abs=0.03)
    assert proportions["country"][-1] == pytest.approx(0.25, abs=0.03)
    assert code_of("grocery") not in bundle.reference["features"]["category"]["edges"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.is_category], ids=lambda kind: kind.example)
def test_what_is_learned_of_a_text_has_the_code_of_the_text(kind):
    assert code_of(kind.learned(kind.example)) == kind.encode(kind.example)
