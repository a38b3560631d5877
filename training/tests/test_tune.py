"""`manage.py tune`: searches on validation rows, resumes, and writes what `train` takes."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command

from fraudsite.testing import worker_environment
from training import studies
from training.core import configuration, search
from training.core.datasets import storage
from training.models import ModelVersion

QUICK = ["model.architecture=mlp", "model.epochs=2", "evaluation.bootstrap_resamples=5"]


@pytest.fixture
def name(bundle, request):
    """A study's name that no other test has."""
    yield request.node.name[:90]
    for path in (django_settings.VAR_DIR / "studies").glob("*"):
        path.unlink()


def tune(name, *overrides, **options):
    call_command("tune", name=name, set=[*QUICK, *overrides], **options)
    return search.open_study(studies.path_of(name))


@pytest.mark.django_db
def test_the_best_configuration_is_written_and_trains(name, capsys, tmp_path):
    study = tune(name, trials=3, out=tmp_path / "best.toml")
    assert len(study.trials) == 3
    assert f"{study.best_value:.4f}" in capsys.readouterr().out
    config = configuration.read(tmp_path / "best.toml")
    assert config == search.best(study)
    assert config.model.epochs == 2
    # After two epochs the best of three trials may rank badly, and any precision is to do.
    call_command("train", config=tmp_path / "best.toml", promote="never", set=["policy.review_precision=0.01"])
    assert ModelVersion.objects.count() == 1


def test_it_goes_on_where_it_was_and_does_no_more_than_is_wanted(name):
    tune(name, trials=2)
    assert len(tune(name, trials=3).trials) == 3
    assert len(tune(name, trials=3).trials) == 3


def test_another_configuration_is_another_study(name):
    tune(name, trials=1)
    with pytest.raises(CommandError, match="choose another name"):
        tune(name, "split.seed=1", trials=2)


@pytest.mark.parametrize("wrong", ["../elsewhere", "a/b", "", ".hidden"])
def test_a_study_is_a_file_of_its_directory(wrong):
    with pytest.raises(Exception, match="letters, digits"):
        studies.path_of(wrong)


def test_test_rows_are_never_seen(name, monkeypatch):
    """The values of test rows could not matter less: they are not numbers."""
    study = tune(name, trials=1)
    dataset = storage.read_chosen(django_settings.DATASETS_DIR, search.begun_with(study))
    config = search.begun_with(study).split
    split = search.splits.split_rows(config, dataset)
    monkeypatch.setattr(search.splits, "split_rows", lambda *_: split)
    spoilt = dataset.features.copy()
    spoilt[split.test] = np.nan
    for features in (dataset.features, spoilt):
        study.enqueue_trial(study.best_params)
        search.run_trial(study, dataclasses.replace(dataset, features=features))
    assert study.trials[-1].value == study.trials[-2].value == study.best_value


def test_a_trial_that_fails_is_not_counted(name, monkeypatch):
    study = tune(name, trials=1)
    monkeypatch.setattr(search.families, "family_of", lambda architecture: None)
    with pytest.raises(AttributeError):
        studies.take_part(name)
    assert search.done(study) == 1


@pytest.mark.parametrize("architecture", search.SPACES)
def test_what_is_searched_is_in_the_configuration_and_within_its_bounds(architecture):
    for key, space in search.SPACES[architecture].items():
        for value in [space.low, space.high] if isinstance(space, search.Between) else space:
            configuration.read(overrides={key: value})


def test_workers_do_trials_side_by_side(name, redis_server, transactional_db, tmp_path):
    command = [sys.executable, "-m", "celery", "-A", "fraudsite", "worker", "-Q", "training", "--pool", "solo"]
    with (tmp_path / "log").open("wb") as log:
        workers = [
            subprocess.Popen([*command, "--hostname", f"{number}@%h"], env=worker_environment(), stdout=log, stderr=log)
            for number in range(2)
        ]
        try:
            study = tune(name, trials=4, workers=True)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    assert search.done(study) >= 4
