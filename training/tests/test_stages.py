"""No long command is silent: where there is no terminal, a line every few seconds says what is done."""

import io
import time

import pytest
from django.core.management import call_command

from training.core import stages
from training.tests.support import store_made_up_dataset

SMALL = ["model.architecture=bag", "model.units=[16]", "model.members=2", "model.binless_members=1"]
SMALL += ["model.students=1", "model.epochs=3", "evaluation.bootstrap_resamples=20", "xgboost.epochs=50"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def heard():
    """What is entered, from first to last."""
    entered: list[str] = []
    with stages.reported_to(entered.append):
        yield entered


def test_the_stage_of_now_is_printed_again_and_again():
    out = io.StringIO()
    with stages.printed(out, every_s=0.02):
        stages.enter("Growing trees")
        while out.getvalue().count("s: Growing trees\n") < 3:
            time.sleep(0.01)
    before = out.getvalue()
    stages.enter("Nobody listens")
    time.sleep(0.05)
    assert out.getvalue() == before


def test_a_line_comes_at_least_every_ten_seconds():
    assert stages.EVERY_S <= 10


def test_a_terminal_is_left_to_its_bars():
    out = Terminal()
    with stages.printed(out, every_s=0.01):
        stages.enter("Growing trees")
        time.sleep(0.05)
    assert out.getvalue() == ""


@pytest.mark.django_db
def test_training_tells_each_of_its_stages_and_the_trees_of_the_teacher(heard, monkeypatch, settings, tmp_path):
    settings.DATASETS_DIR, settings.BUNDLES_DIR = tmp_path / "datasets", tmp_path / "models"
    store_made_up_dataset(settings.DATASETS_DIR)
    monkeypatch.setattr(stages, "printed", lambda out: stages.reported_to(heard.append))
    call_command("train", set=SMALL)
    first = [next(index for index, text in enumerate(heard) if text.startswith(stage)) for stage in STAGES]
    assert first == sorted(first)


STAGES = (
    "Reading the dataset",
    "Loading the model's library",
    "Training the model (bag)",
    "Training the teacher (xgboost), epoch 1 of 50",
    "Training, epoch 1, validation loss",
    "Scoring",
    "Calibrating",
    "Evaluating, on 20 resamples",
    "Measuring",
    "Drawing",
)


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["train", "tune", "ingest", "evaluate"])
def test_every_long_command_prints_its_stages(command, monkeypatch, settings, tmp_path, capsys):
    settings.DATASETS_DIR = tmp_path
    printed = stages.printed
    monkeypatch.setattr(stages, "printed", lambda out: printed(out, every_s=0.001))

    def wait(*_args, **_options):
        stages.enter("Waiting")
        time.sleep(0.1)
        raise SystemExit

    module = __import__(f"training.management.commands.{command}", fromlist=["Command"])
    inner = "_ingest_ulb" if command == "ingest" else "run"
    monkeypatch.setattr(module.Command, inner, wait)
    with pytest.raises(SystemExit):
        call_command(command)
    assert "s: Waiting\n" in capsys.readouterr().out
