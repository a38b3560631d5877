from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from django.db import IntegrityError, connection

from training import registry
from training.exceptions import BundleRefused, DatasetError, NoChampion
from training.models import ModelVersion, Stage
from training.schema import load_schema
from training.tests.support import made_up_rows, store_made_up_dataset


def version(name, **fields):
    return ModelVersion.objects.create(version=name, schema="ulb", review_threshold=0.5, **fields)


@pytest.mark.django_db
def test_a_registered_bundle_is_a_candidate_until_it_is_promoted(bundle):
    registered = registry.register(bundle, promote=False)
    assert registered.stage == Stage.CANDIDATE
    with pytest.raises(NoChampion, match=r"manage\.py train"):
        registry.champion("ulb")
    assert registered.promote() is None
    assert registry.champion("ulb") == registered
    assert registered.promoted_at is not None


@pytest.mark.django_db
def test_there_is_one_champion_and_the_one_before_retires():
    first, second = version("first"), version("second")
    first.promote()
    assert second.promote() == first
    first.refresh_from_db()
    assert (registry.champion("ulb"), first.stage) == (second, Stage.RETIRED)


@pytest.mark.django_db
def test_a_retired_champion_can_return():
    first, second = version("first"), version("second")
    first.promote()
    second.promote()
    first.promote()
    assert registry.champion("ulb") == first


@pytest.mark.django_db
def test_each_schema_has_its_own_champion():
    ours, other = version("ours"), ModelVersion.objects.create(version="other", schema="moon", review_threshold=0.5)
    ours.promote()
    other.promote()
    assert (registry.champion("ulb"), registry.champion("moon")) == (ours, other)


@pytest.mark.django_db
def test_the_database_itself_refuses_a_second_champion():
    version("first", stage=Stage.CHAMPION)
    with pytest.raises(IntegrityError):
        version("second", stage=Stage.CHAMPION)


@pytest.mark.django_db
def test_the_database_itself_refuses_to_block_below_review():
    with pytest.raises(IntegrityError):
        version("first", block_threshold=0.4)


@pytest.mark.django_db(transaction=True)
def test_promotions_at_the_same_time_leave_one_champion():
    versions = [version(f"version-{number}") for number in range(6)]
    versions[0].promote()

    def promote(candidate):
        try:
            candidate.promote()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(versions)) as pool:
        list(pool.map(promote, versions))
    assert sorted(ModelVersion.objects.values_list("stage", flat=True)) == [Stage.CHAMPION] + 5 * [Stage.RETIRED]


@pytest.mark.django_db
def test_a_version_whose_bundle_is_gone_cannot_be_loaded():
    with pytest.raises(BundleRefused):
        registry.load(version("without-a-bundle"))


def test_test_rows_are_those_that_the_model_never_saw(champion, bundle):
    features, labels = registry.test_rows(champion)
    made_up, made_up_labels = made_up_rows()
    names = load_schema("ulb").feature_names
    np.testing.assert_array_equal(labels, made_up_labels[bundle.test_rows])
    np.testing.assert_array_equal(
        features[:, names.index("Amount")], made_up[bundle.test_rows][:, names.index("Amount")]
    )


def test_test_rows_of_another_dataset_are_refused(champion, settings, tmp_path):
    settings.DATASETS_DIR = tmp_path
    with pytest.raises(DatasetError, match=r"manage\.py ingest"):
        registry.test_rows(champion)
    store_made_up_dataset(tmp_path, source_sha256="1" * 64)
    with pytest.raises(DatasetError, match="not the one this model was trained on"):
        registry.test_rows(champion)
