"""`manage.py train` on made-up rows."""

import pandas as pd
import pytest
from django.core.management import CommandError, call_command

from training import registry
from training.core.datasets import parquet_path, storage, validation
from training.core.evaluation import METRIC_NAMES
from training.core.schema import load_schema
from training.models import ModelVersion
from training.tests.support import store_made_up_dataset

pytestmark = pytest.mark.django_db

# Trees are grown in a third of the time that a network takes to train: a network is for what only it shows.
SMALL = ["model.architecture=xgboost", "xgboost.epochs=9", "evaluation.bootstrap_resamples=20"]
NETWORK = ["model.architecture=mlp", "model.epochs=12", "model.batch_size=128"]


@pytest.fixture(autouse=True)
def house(settings, tmp_path):
    settings.DATASETS_DIR, settings.BUNDLES_DIR = tmp_path / "datasets", tmp_path / "models"
    store_made_up_dataset(settings.DATASETS_DIR)


@pytest.fixture
def train(capsys):
    """Trains a small model. Returns its version and what was printed."""

    def run(*overrides, **options):
        capsys.readouterr()
        call_command("train", set=[*SMALL, *overrides], **options)
        return ModelVersion.objects.latest("created_at"), capsys.readouterr().out

    return run


def refusal(*overrides, **options):
    with pytest.raises(CommandError) as refused:
        call_command("train", set=list(overrides), **options)
    assert not ModelVersion.objects.exists()
    return str(refused.value)


def test_it_registers_a_signed_bundle_with_its_metrics_and_thresholds(train):
    version, _ = train(*NETWORK)
    bundle = registry.load(version)
    assert bundle.path == version.bundle_dir
    assert {part: version.metrics_of(part) for part in version.metrics} == bundle.metrics
    assert version.protocol == "stratified"
    assert (version.review_threshold, version.block_threshold) == (bundle.review_threshold, bundle.block_threshold)
    assert bundle.plots.keys() == {"precision_recall", "reliability", "roc", "scores", "training"}


def test_what_is_shipped_for_ulb_is_a_bag_with_students(train):
    quick = ["units=[16]", "members=2", "binless_members=1", "students=1", "epochs=3", "learning_rate=0.01"]
    quick += ["batch_size=128"]
    version, _ = train("model.architecture=bag", *[f"model.{setting}" for setting in quick], "xgboost.epochs=50")
    assert version.metrics_of("test").auprc.value > 0.9
    assert registry.load(version).hyperparameters["teacher"]["epochs"] == 50


def test_it_prints_every_metric_of_validation_and_test_and_the_device(train):
    version, output = train()
    for name in METRIC_NAMES.values():
        assert name in output
    for part in ("validation", "test"):
        assert part in output
        assert f"{version.metrics_of(part).auprc.value:.4f}" in output
    assert f"Trained on {registry.load(version).description.device}" in output
    assert f"review threshold {version.review_threshold:.4f}" in output
    assert str(version.bundle_dir) in output


def test_the_first_model_becomes_the_champion_and_the_next_a_candidate(train):
    first, output = train()
    assert "registered as champion" in output
    second, output = train("model.seed=1")
    assert "registered as candidate" in output
    assert (registry.champion("ulb"), second.stage) == (first, "candidate")


def test_a_model_remembers_the_champion_that_it_follows(train):
    first, _ = train()
    second, _ = train("model.seed=1")
    assert [registry.load(version).description.parent for version in (first, second)] == [None, first.pk]


def test_boosted_trees_are_trained_registered_and_promoted_like_any_model(train):
    version, output = train("model.architecture=xgboost", "xgboost.epochs=40", promote="always")
    assert "registered as champion" in output
    assert registry.champion("ulb") == version
    bundle = registry.load(version)
    assert (bundle.architecture, bundle.files.keys()) == ("xgboost", {"trees.ubj"})
    assert bundle.hyperparameters["epochs"] == 40


def test_promotion_can_be_forbidden_or_forced(train):
    first, _ = train(promote="never")
    assert first.stage == "candidate"
    second, _ = train("model.seed=1")
    assert registry.champion("ulb") == second
    third, _ = train("model.seed=2", promote="always")
    assert registry.champion("ulb") == third


def test_options_go_over_overrides_and_overrides_over_the_file(train, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[model]\ndropout = 0.1\nlearning_rate = 0.01\nseed = 3\n")
    version, _ = train(*NETWORK, "model.dropout=0.05", "model.seed=4", config=path, seed=5)
    used = registry.load(version).hyperparameters
    assert (used["learning_rate"], used["dropout"], used["seed"]) == (0.01, 0.05, 5)


def test_the_seed_protocol_prints_the_published_figures_beside_ours(train):
    version, output = train(protocol="seed")
    rows = {line[:18].strip(): line.split()[-1] for line in output.splitlines() if line.strip()}
    assert "published" in output
    assert rows["precision"] == "0.8889"
    assert rows["recall"] == "0.7347"
    assert rows["ROC-AUC by Keras"] == "0.9432"
    assert rows["accuracy"] == "0.9994"
    assert (version.protocol, version.review_threshold, version.block_threshold) == ("seed", 0.5, None)


def test_it_says_what_became_of_duplicates(train, settings):
    made_up = parquet_path(settings.DATASETS_DIR, "ulb")
    schema = load_schema("ulb")
    dataset = storage.read(made_up, schema)
    frame = pd.DataFrame(dataset.features, columns=schema.feature_names).assign(**{schema.label: dataset.labels})
    report = dataset.report
    doubled = pd.concat([frame, frame[:25]])
    storage.write(doubled, schema, validation.validate(doubled, schema, source_sha256=report.source_sha256), made_up)
    _, output = train()
    assert "Rows: 2,560 train, 640 validation, 800 test; 25 duplicates left out." in output
    _, output = train(protocol="seed")
    assert "Rows: 2,576 train, 644 validation, 805 test; duplicates kept." in output


def test_other_protocols_are_not_compared_with_what_was_published(train):
    _, output = train()
    assert "published" not in output


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.dropuot=0.3", "There is no setting model.dropuot"),
        ("model.dropout=high", "model.dropout must be of type float"),
        ("model.dropout=2", "model.dropout must lie between"),
        ("model.dropout", "Write section.key=value"),
        ("split.protocol=leaky", "split.protocol must be stratified, seed or time"),
        ("policy.choose=dice", "policy.choose must be precision, f1, cost or alerts_per_day"),
        ("model.architecture=resnet", "model.architecture must be one of"),
        ("data.schema=moon", "There is no schema 'moon'"),
        ("data.parquet=elsewhere.parquet", "run `manage.py ingest`"),
        ("data.parquet=../../etc/passwd", "data.parquet must name a file in DATASETS_DIR"),
        ("data.parquet=/etc/passwd", "data.parquet must name a file in DATASETS_DIR"),
        ("policy.review_precision=1.01", "policy.review_precision must lie between"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_registered(override, message):
    assert message in refusal(override)


def test_an_unreadable_configuration_file_is_refused(tmp_path):
    assert "absent.toml" in refusal(config=tmp_path / "absent.toml")


def test_without_a_dataset_it_says_how_to_get_one(settings, tmp_path):
    settings.DATASETS_DIR = tmp_path / "empty"
    assert "run `manage.py ingest`" in refusal()
