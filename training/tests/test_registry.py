import importlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from django.apps import apps
from django.db import IntegrityError, connection

from training import registry
from training.core.bundle import write_bundle
from training.core.exceptions import BundleRefused, DatasetError, NoChampion, StageRefused
from training.core.schema import load_schema
from training.core.scored import ScoredRows
from training.models import ModelVersion, Stage, StageChange
from training.tests.support import made_up_rows, store_made_up_dataset


def version(name, **fields):
    return ModelVersion.objects.create(version=name, schema="ulb", review_threshold=0.5, **fields)


@pytest.mark.django_db
def test_a_registered_bundle_is_a_candidate_until_it_is_promoted(bundle):
    registered = registry.register(bundle, promote=False)
    assert registered.stage == Stage.CANDIDATE
    with pytest.raises(NoChampion, match=r"manage\.py train"):
        registry.champion("ulb")
    registry.promote(registered, by="mel")
    assert registry.champion("ulb") == registered
    assert registered.promoted_at is not None


@pytest.mark.django_db
def test_there_is_one_champion_and_the_one_before_retires():
    first, second = version("first"), version("second")
    first.promote(by="mel")
    retired, promoted = second.promote(by="mel")
    assert (retired.version, promoted.version) == (first, second)
    first.refresh_from_db()
    assert (registry.champion("ulb"), first.stage) == (second, Stage.RETIRED)


def stages(*versions):
    return [ModelVersion.objects.get(pk=version.pk).stage for version in versions]


@pytest.fixture
def whole(monkeypatch, bundle):
    """A register whose versions all have a bundle: the same."""
    monkeypatch.setattr(ModelVersion, "bundle_dir", bundle.path)


@pytest.mark.django_db
def test_rolling_back_goes_to_the_champion_before_and_once_more_to_the_one_before_that(whole):
    first, second, third = versions = [version(f"version-{number}") for number in range(3)]
    for each in versions:
        registry.promote(each, by="mel")
    registry.roll_back("ulb", by="mel")
    assert registry.champion("ulb") == second
    registry.roll_back("ulb", by="mel")
    assert registry.champion("ulb") == first
    with pytest.raises(StageRefused, match="none to go back to"):
        registry.roll_back("ulb", by="mel")
    registry.promote(third, by="mel")
    registry.roll_back("ulb", by="mel")
    assert stages(*versions) == [Stage.CHAMPION, Stage.RETIRED, Stage.RETIRED]


@pytest.mark.django_db
def test_nothing_is_rolled_back_to_a_bundle_that_is_gone():
    first, second = version("first"), version("second")
    first.promote(by="mel")
    second.promote(by="mel")
    with pytest.raises(BundleRefused):
        registry.roll_back("ulb", by="mel")
    assert registry.champion("ulb") == second


@pytest.mark.django_db
def test_a_shadow_becomes_champion_or_retires_and_can_come_back(whole):
    champion, challenger = version("champion"), version("challenger")
    registry.promote(champion, by="mel")
    registry.shadow(challenger, by="mel")
    assert stages(champion, challenger) == [Stage.CHAMPION, Stage.SHADOW]
    challenger.retire(by="mel")
    registry.shadow(challenger, by="mel")
    registry.promote(challenger, by="mel")
    assert stages(champion, challenger) == [Stage.RETIRED, Stage.CHAMPION]


@pytest.mark.django_db
def test_the_champion_neither_retires_nor_becomes_a_shadow(whole):
    champion = version("champion")
    registry.promote(champion, by="mel")
    with pytest.raises(StageRefused, match="promote another version"):
        champion.retire(by="mel")
    with pytest.raises(StageRefused, match="is the champion already"):
        registry.shadow(champion, by="mel")
    assert stages(champion) == [Stage.CHAMPION]


@pytest.mark.django_db
def test_which_version_decided_at_a_time_is_known(whole, monkeypatch):
    first, second, third = versions = [version(f"version-{number}") for number in range(3)]
    clock = iter(datetime(2026, 1, day, tzinfo=UTC) for day in (1, 3, 5, 7, 9))
    monkeypatch.setattr("django.utils.timezone.now", lambda: next(clock))
    for each in versions[:2]:
        registry.promote(each, by="mel")  # on days 1 and 3
    registry.roll_back("ulb", by="mel")
    registry.shadow(third, by="mel")
    registry.promote(third, by="mel")
    decided = [registry.live_at("ulb", datetime(2026, 1, day, tzinfo=UTC)) for day in (1, 2, 3, 4, 5, 8, 9)]
    assert decided == [first, first, second, second, first, first, third]
    assert registry.live_at("ulb", datetime(2025, 12, 31, tzinfo=UTC)) is None
    assert registry.live_at("moon", datetime(2026, 1, 9, tzinfo=UTC)) is None


@pytest.mark.django_db
def test_each_change_says_who_when_and_why_and_is_never_changed(whole):
    first, second = version("first"), version("second")
    registry.promote(first, by="mel")
    registry.promote(second, by="ada", reason="More recall.")
    audit = [
        (change.version, change.before, change.after, change.by, str(change)) for change in StageChange.objects.all()
    ]
    assert audit == [
        (second, "candidate", "champion", "ada", "Promoted. More recall."),
        (first, "champion", "retired", "ada", "Retired. second is the champion."),
        (first, "candidate", "champion", "mel", "Promoted."),
    ]
    change = StageChange.objects.first()
    with pytest.raises(TypeError):
        change.save()
    with pytest.raises(TypeError):
        change.delete()


def rewritten(bundle, settings, name, *, scores=None, order=None, data=None, keeps_scores=True):
    """A version like that of the bundle, but for the scores of its test rows, their order, or the data."""
    test, rows = bundle.scored["test"], bundle.test_rows
    test = test._replace(scores=test.scores if scores is None else scores(test))
    if order is not None:
        test, rows = ScoredRows(*(array[order] for array in test)), rows[order]
    made = write_bundle(
        settings.BUNDLES_DIR / name,
        description=msgspec.structs.replace(
            bundle.description, data=msgspec.structs.replace(bundle.description.data, **(data or {}))
        ),
        model_files=bundle.files,
        reference=bundle.reference,
        test_rows=rows,
        scored=bundle.scored | {"test": test} if keeps_scores else {},
        plots={},
        signing_key=settings.BUNDLE_SIGNING_KEY,
    )
    return registry.register(made, promote=False)


def worthless(test):
    return np.random.default_rng(0).random(len(test.scores))


@pytest.fixture
def own_bundles(champion, bundle, settings, tmp_path):
    settings.BUNDLES_DIR = tmp_path
    shutil.copytree(bundle.path, champion.bundle_dir)


def test_a_version_that_is_worse_than_the_champion_is_refused(own_bundles, champion, bundle, settings):
    worse = rewritten(bundle, settings, "worse", scores=worthless)
    with pytest.raises(StageRefused, match=r"AUPRC on 800 test rows is -0\.\d+ .* 95 % interval .*: worse\."):
        registry.promote(worse, by="mel")
    assert registry.champion("ulb") == champion


def test_it_can_be_forced_with_a_reason_and_the_audit_has_what_was_known(own_bundles, champion, bundle, settings):
    worse = rewritten(bundle, settings, "worse", scores=worthless)
    with pytest.raises(StageRefused, match="Give the reason"):
        registry.promote(worse, by="mel", force=True)
    registry.promote(worse, by="mel", force=True, reason="The data of the others was wrong.")
    change = worse.changes.first()
    assert change.reason == "The data of the others was wrong."
    assert "worse." in change.evidence


def test_rows_are_compared_with_themselves_in_whatever_order_they_lie(own_bundles, champion, bundle, settings):
    order = np.random.default_rng(0).permutation(len(bundle.test_rows))
    alike = rewritten(bundle, settings, "alike", order=order)
    registry.promote(alike, by="mel")
    assert "is +0.0000 against the champion" in alike.changes.first().evidence


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"data": {"sha256": "1" * 64}}, "other data"),
        ({"order": slice(1, None)}, "tested on other rows"),
        ({"keeps_scores": False}, "keeps no scores"),
    ],
)
def test_what_cannot_be_compared_is_refused(own_bundles, champion, bundle, settings, difference, message):
    other = rewritten(bundle, settings, "other", **difference)
    with pytest.raises(StageRefused, match=message):
        registry.promote(other, by="mel")
    registry.promote(other, by="mel", force=True, reason="New data.")
    assert registry.champion("ulb") == other


@pytest.mark.django_db
def test_the_upgrade_writes_down_what_is_known_of_earlier_promotions():
    first, second = (version(name, created_at=datetime(2026, 1, 1, tzinfo=UTC)) for name in ("first", "second"))
    ModelVersion.objects.filter(pk="first").update(stage="retired", promoted_at=datetime(2026, 1, 2, tzinfo=UTC))
    ModelVersion.objects.filter(pk="second").update(stage="champion", promoted_at=datetime(2026, 1, 4, tzinfo=UTC))
    upgrade = importlib.import_module("training.migrations.0002_stagechange")
    upgrade.write_what_is_known(apps, None)
    decided = [registry.live_at("ulb", datetime(2026, 1, day, tzinfo=UTC)) for day in (1, 3, 5)]
    assert decided == [None, first, second]
    assert registry.previous_champion(second) == first


@pytest.mark.django_db
def test_a_promotion_that_was_overtaken_by_another_changes_nothing(whole, monkeypatch):
    first, second, third = version("first"), version("second"), version("third")
    registry.promote(first, by="mel")
    meanwhile = lambda bundle, champion: second.promote(by="ada") and registry.Verdict(True, "")  # noqa: E731
    monkeypatch.setattr(registry, "compare", meanwhile)
    with pytest.raises(StageRefused, match="in the meantime"):
        registry.promote(third, by="mel")
    assert stages(first, second, third) == [Stage.RETIRED, Stage.CHAMPION, Stage.CANDIDATE]


@pytest.mark.django_db
def test_a_retired_champion_can_return():
    first, second = version("first"), version("second")
    first.promote(by="mel")
    second.promote(by="mel")
    first.promote(by="mel")
    assert registry.champion("ulb") == first


@pytest.mark.django_db
def test_each_schema_has_its_own_champion():
    ours, other = version("ours"), ModelVersion.objects.create(version="other", schema="moon", review_threshold=0.5)
    ours.promote(by="mel")
    other.promote(by="mel")
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
    versions[0].promote(by="mel")

    def promote(candidate):
        try:
            candidate.promote(by="mel")
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
    rows = registry.test_rows(champion)
    made_up, made_up_labels = made_up_rows()
    amounts = made_up[:, load_schema("ulb").amount_index]
    np.testing.assert_array_equal(rows["Class"], made_up_labels[bundle.test_rows])
    np.testing.assert_array_equal(rows["Amount"], amounts[bundle.test_rows])


def test_test_rows_of_another_dataset_are_refused(champion, settings, tmp_path):
    settings.DATASETS_DIR = tmp_path
    with pytest.raises(DatasetError, match=r"manage\.py ingest"):
        registry.test_rows(champion)
    store_made_up_dataset(tmp_path, source_sha256="1" * 64)
    with pytest.raises(DatasetError, match="not the one this model was trained on"):
        registry.test_rows(champion)
