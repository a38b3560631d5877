"""Bundles in the store that machines share: a directory, or a bucket. Each machine has a VAR_DIR of its own."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from fraudsite.testing import PROCESS_START_S, free_port, worker_environment
from scoring.worker import predictor
from training import bundles, registry, store
from training.core.bundle import SIGNATURE, load_bundle
from training.core.exceptions import BundleRefused, StoreUnavailable
from training.core.families import scorer_of
from training.models import ModelVersion
from training.tests.support import made_up_rows, store_made_up_dataset, tiny_bundle

SCORE_THERE = """
import sys, django
django.setup()
import numpy as np
from scoring.worker import predictor
scored = predictor.current("ulb")
print(scored.version.pk, scored.score(np.load(sys.argv[1])).tobytes().hex())
"""


@pytest.fixture(params=["directory", "bucket"])
def shared(request, settings, tmp_path):
    """The store."""
    if request.param == "bucket":
        request.getfixturevalue("bucket")
    else:
        settings.STORAGE_URL = str(tmp_path / "store")


@pytest.fixture
def machine(settings, tmp_path, monkeypatch):
    """Goes over to a machine, where nothing is loaded. Returns its directory of bundles."""

    def go_to(name):
        monkeypatch.setattr(predictor, "_loaded", {})
        monkeypatch.setattr(predictor, "_refused", {})
        monkeypatch.setattr(bundles, "_failed", {})
        settings.BUNDLES_DIR = tmp_path / name / "models"
        settings.BUNDLES_DIR.mkdir(parents=True, exist_ok=True)
        return settings.BUNDLES_DIR

    return go_to


@pytest.fixture
def register(settings):
    """Registers a bundle, with its directory on this machine."""

    def run(bundle, *, promote):
        path = shutil.copytree(bundle.path, settings.BUNDLES_DIR / bundle.version)
        return registry.register(load_bundle(path, signing_key=settings.BUNDLE_SIGNING_KEY), promote=promote)

    return run


@pytest.fixture
def trained(db, shared, machine, register, bundle):
    """A champion that was trained on the machine `one`, seen from the machine `two`."""
    machine("one")
    version = register(bundle, promote=True)
    machine("two")
    return version


def some_rows():
    return made_up_rows(rows=20, frauds=4)[0].astype(np.float32)


def files_of(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def stored(version, file):
    return f"models/{version.pk}/{file}"


def test_a_model_that_was_trained_on_one_machine_scores_on_another_to_the_last_bit(trained, bundle):
    scores = predictor.current("ulb").score(some_rows())
    assert scores.tobytes() == scorer_of(bundle).score(some_rows()).astype(np.float64).tobytes()
    assert files_of(trained.bundle_dir) == files_of(bundle.path)
    assert [path.name for path in trained.bundle_dir.parent.iterdir() if path.is_dir()] == [trained.pk]


def test_a_training_here_decides_in_a_process_that_shares_no_directory_with_it(
    transactional_db, bucket, machine, tmp_path, settings
):
    machine("one")
    settings.DATASETS_DIR = tmp_path / "one" / "datasets"
    store_made_up_dataset(settings.DATASETS_DIR)
    small = ["model.architecture=mlp", "model.epochs=12", "model.batch_size=128", "evaluation.bootstrap_resamples=20"]
    call_command("train", set=small)
    np.save(tmp_path / "rows.npy", some_rows())
    there = {"VAR_DIR": str(tmp_path / "two"), "BUNDLE_SIGNING_KEY": settings.BUNDLE_SIGNING_KEY}
    done = subprocess.run(
        [sys.executable, "-c", SCORE_THERE, str(tmp_path / "rows.npy")],
        env=worker_environment() | bucket.environment | there,
        check=True,
        capture_output=True,
        text=True,
        timeout=4 * PROCESS_START_S,
    )
    champion = registry.champion("ulb")
    scores = scorer_of(registry.load(champion)).score(some_rows()).astype(np.float64)
    assert done.stdout.split() == [champion.pk, scores.tobytes().hex()]
    assert not (tmp_path / "two" / "datasets").exists()


def test_who_needs_only_the_declaration_of_a_model_fetches_nothing(trained):
    assert registry.declaration(trained).name == "ulb"
    assert not trained.bundle_dir.exists()


def test_processes_that_fetch_at_once_do_not_hurt_each_other(trained, bundle):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(bundles.load, [trained.bundle_dir] * 16))
    assert {each.version for each in found} == {trained.pk}
    assert files_of(trained.bundle_dir) == files_of(bundle.path)
    assert [path.name for path in trained.bundle_dir.parent.iterdir() if path.is_dir()] == [trained.pk]


def test_a_copy_that_was_altered_is_fetched_again(trained, bundle):
    registry.load(trained)
    (trained.bundle_dir / "weights.safetensors").write_bytes(b"altered")
    assert registry.load(trained).files == bundle.files


@pytest.mark.parametrize("file", ["weights.safetensors", "manifest.json", SIGNATURE])
def test_what_was_altered_in_the_store_is_refused_and_never_reaches_a_machine(trained, file):
    store.write(stored(trained, file), b"altered")
    with pytest.raises(BundleRefused, match=r"altered|signature"):
        predictor.current("ulb")
    assert not list(trained.bundle_dir.parent.rglob("*.*"))


def test_an_upload_that_was_cut_off_counts_as_nothing_and_is_made_up_for_by_the_next(
    db, shared, machine, register, bundle, monkeypatch
):
    machine("one")
    write = store.write

    def cut_off(name, content):
        if name.endswith(SIGNATURE):
            raise StoreUnavailable
        write(name, content)

    monkeypatch.setattr(store, "write", cut_off)
    with pytest.raises(StoreUnavailable, match=f"manage.py models register {bundle.version}"):
        register(bundle, promote=True)
    assert not ModelVersion.objects.exists()
    monkeypatch.setattr(store, "write", write)
    call_command("models", "register", bundle.version)
    version = ModelVersion.objects.get()
    machine("two")
    assert registry.load(version).version == bundle.version


def test_a_worker_goes_on_with_what_it_has_while_the_store_is_away_and_takes_over_when_it_is_back(
    trained, machine, register, successor_bundle, settings, monkeypatch, caplog
):
    before, there = predictor.current("ulb"), (settings.STORAGE_URL, settings.STORAGE_OPTIONS)
    loaded = dict(predictor._loaded)
    machine("one")
    successor = register(successor_bundle, promote=False)
    successor.promote(by="mel")
    machine("two")
    predictor._loaded |= loaded
    away(settings)
    for _ in range(3):
        assert predictor.refresh("ulb") is before
    [message] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert f"{before.version} goes on" in message
    assert "The store, which should have it, cannot be asked" in predictor._refused["ulb"].fault
    settings.STORAGE_URL, settings.STORAGE_OPTIONS = there
    assert predictor.refresh("ulb") is before  # a store that was away is not asked all the time
    monkeypatch.setattr(bundles, "RETRY_S", 0.0)
    assert predictor.refresh("ulb").version == successor
    assert not predictor._refused


def away(settings):
    """Have the store be away: nothing listens at its address, or a file is in the way of its directory."""
    if settings.STORAGE_URL.startswith("s3://"):
        settings.STORAGE_OPTIONS = settings.STORAGE_OPTIONS | {"endpoint": f"http://127.0.0.1:{free_port()}"}
    else:
        settings.STORAGE_URL = f"{__file__}/store"


@pytest.fixture(scope="module")
def successor_bundle():
    from django.conf import settings as site

    trees = {"model.architecture": "xgboost", "xgboost.epochs": 9, "model.seed": 7}
    return tiny_bundle(site.BUNDLES_DIR, site.BUNDLE_SIGNING_KEY, **trees)


def test_copies_that_were_not_used_for_long_make_room_for_others_and_the_champions_stays(
    trained, machine, register, successor_bundle, settings
):
    machine("one")
    others = [register(successor_bundle, promote=False)]
    here = machine("two")
    for version in (trained, *others):
        registry.load(version)
    only_here = shutil.copytree(trained.bundle_dir, here / "never-uploaded")
    settings.BUNDLES_LIMIT_BYTES = 1_024
    shutil.rmtree(trained.bundle_dir)
    registry.load(trained)
    assert {path for path in here.iterdir() if path.is_dir()} == {trained.bundle_dir, only_here}
    assert registry.load(others[0]).version == others[0].pk


def test_bundles_of_before_the_store_are_uploaded_by_a_command(db, shared, machine, bundle, capsys):
    shutil.copytree(bundle.path, machine("one") / bundle.version)
    version = ModelVersion.objects.create(version=bundle.version, schema="ulb", review_threshold=0.5)
    machine("two")
    with pytest.raises(BundleRefused, match=r"On the machine that has it, run `manage.py models share`"):
        registry.load(version)
    with pytest.raises(CommandError, match=f"{version}: neither here nor in the store"):
        call_command("models", "share")
    machine("one")
    call_command("models", "share")
    assert "1 uploaded" in capsys.readouterr().out
    version.refresh_from_db()
    assert version.schema_hash == bundle.description.schema.hash
    machine("two")
    assert registry.load(version).version == version.pk
    call_command("models", "share")
    assert "0 uploaded" in capsys.readouterr().out


def test_a_command_tells_which_bundles_are_intact_and_mends_those_of_the_store(trained, machine, capsys):
    call_command("models", "verify")
    assert capsys.readouterr().out.split()[-5:] == [trained.pk, "champion", "not", "here", "intact"]
    store.write(stored(trained, "weights.safetensors"), b"altered")
    with pytest.raises(CommandError, match=f"{trained}: not intact in the store"):
        call_command("models", "verify")
    assert "weights.safetensors has been altered" in capsys.readouterr().out
    machine("one")
    call_command("models", "share")
    call_command("models", "verify")


@pytest.mark.parametrize("name", ["absent", "../models", "."])
def test_only_a_bundle_of_the_directory_can_be_registered(db, machine, name):
    machine("one")
    with pytest.raises(CommandError, match="There is no bundle"):
        call_command("models", "register", name)


def test_a_version_is_registered_once(trained, machine):
    machine("one")
    with pytest.raises(CommandError, match="is registered already"):
        call_command("models", "register", trained.pk)
