"""Training from the admin: started in a form, done by a worker, watched on a page."""

import json
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import redis
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from fraudsite.celery import app
from fraudsite.testing import suspended, worker_environment
from training import run_queue, runs, tasks
from training.core import configuration
from training.core.configuration.sections import SETTINGS
from training.core.datasets import storage
from training.core.exceptions import TrainingRefused
from training.core.schema import load_schema
from training.models import TrainingRun
from training.tests.test_own_schema import DECLARED

START = reverse("admin:training_trainingrun_add")
LIST = reverse("admin:training_trainingrun_changelist")
QUICK = "[model]\narchitecture = 'mlp'\nepochs = 2\n[evaluation]\nbootstrap_resamples = 5"
State = TrainingRun.State


@pytest.fixture
def sent(monkeypatch):
    """The runs that workers were asked for; none comes to a worker."""
    asked: list[int] = []
    monkeypatch.setattr("training.tasks.train.apply_async", lambda arguments, **_: asked.extend(arguments))
    return asked


def quick(**overrides):
    return configuration.read(overrides=configuration.parse(QUICK) | overrides)


def waiting(**overrides):
    kept = configuration.as_json(quick(**overrides))
    return TrainingRun.objects.create(schema="ulb", configuration=kept, epochs=2, by="mel")


def answers(**changes):
    return {"schema": "ulb", "protocol": "", "seed": "", "changes": QUICK, "promote": "never"} | changes


def page_of(run):
    return reverse("admin:training_trainingrun_change", args=[run.pk])


def progress_of(client, run):
    return client.get(reverse("admin:training_trainingrun_progress", args=[run.pk])).json()


@pytest.mark.django_db
def test_a_form_starts_a_run_with_what_was_chosen(client, mel, sent, django_capture_on_commit_callbacks):
    client.force_login(mel)
    assert client.get(START).status_code == 200
    with django_capture_on_commit_callbacks(execute=True):
        response = client.post(START, answers(seed="7", protocol="seed"))
    run = TrainingRun.objects.get()
    assert response["Location"] == page_of(run)
    assert sent == [run.pk]
    assert (run.by, run.promote, run.epochs, run.state) == ("mel", "never", 2, State.QUEUED)
    assert configuration.from_json(run.configuration) == quick(**{"model.seed": 7, "split.protocol": "seed"})
    assert "No worker of the queue" in client.get(page_of(run)).content.decode()


@pytest.mark.django_db
def test_the_form_lists_every_setting_that_may_be_changed(client, mel):
    client.force_login(mel)
    page = client.get(START).content.decode()
    for setting in SETTINGS.values():
        assert f"<td>{setting.name}</td>" in page
        assert escape(setting.meaning.replace("`", "")) in page
    assert "`" not in page


@pytest.mark.django_db
def test_a_run_that_was_queued_before_a_setting_was_declared_is_trained_with_its_default(bundle):
    kept = configuration.as_json(quick())
    del kept["model"]["draws"], kept["policy"]["review_cost"]
    run = TrainingRun.objects.create(schema="ulb", configuration=kept, epochs=2, by="mel")
    runs.perform(run.pk)
    run.refresh_from_db()
    assert (run.state, run.failure) == (State.DONE, "")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"changes": "[model]\ndropuot = 0.3"}, "There is no setting model.dropuot"),
        ({"changes": "[model]\ndropout = 3.0"}, "model.dropout must lie between"),
        ({"changes": "[model]\narchitecture = 'tree'"}, "model.architecture must be one of"),
        ({"changes": "[model"}, "Expected"),
        ({"changes": "[data]\nschema = 'handbook'"}, "Two schemas are named"),
        ({"seed": "-1"}, "greater than or equal to 0"),
        ({"schema": "moon"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_the_form(client, mel, sent, wrong, message):
    client.force_login(mel)
    assert message in client.post(START, answers(**wrong)).content.decode()
    assert not TrainingRun.objects.exists()


@pytest.mark.django_db
def test_one_run_of_a_schema_is_under_way_at_a_time(client, mel, sent):
    client.force_login(mel)
    run = waiting()
    assert "is being trained already" in client.post(START, answers()).content.decode()
    run_queue.cancel(run)
    assert client.post(START, answers()).status_code == 302


@pytest.mark.django_db
def test_a_worker_trains_registers_and_tells_how_it_goes(bundle, client, mel):
    run = waiting()
    runs.perform(run.pk)
    run.refresh_from_db()
    assert (run.state, run.failure) == (State.DONE, "")
    assert run.version.stage == "champion"  # the first of its schema
    assert run.version.changes.last().by == "mel"
    assert [len(run.history[name]) for name in ("loss", "val_loss", "val_auprc")] == [2, 2, 2]
    client.force_login(mel)
    progress = progress_of(client, run)
    assert (progress["state"], progress["version"], progress["history"]) == ("done", run.version_id, run.history)
    assert run.version_id in client.get(page_of(run)).content.decode()


@pytest.mark.django_db
def test_a_run_is_taken_once(bundle, monkeypatch):
    taken: list[TrainingRun] = []
    monkeypatch.setattr(runs, "_train", taken.append)
    run = waiting()
    runs.perform(run.pk)
    runs.perform(run.pk)
    assert taken == [run]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.parquet": "absent.parquet"}, "manage.py ingest"),
        ({"data.parquet": "../../var/secret.parquet"}, "data.parquet must name a file in DATASETS_DIR"),
        ({"model.architecture": "resnet"}, "model.architecture must be"),
    ],
)
def test_a_run_that_fails_says_why(bundle, client, mel, overrides, message):
    run = waiting(**overrides)
    runs.perform(run.pk)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert message in run.failure
    client.force_login(mel)
    assert progress_of(client, run)["failure"] == run.failure


@pytest.mark.django_db
def test_a_cancelled_run_ends_with_its_epoch_and_registers_nothing(bundle, client, mel, monkeypatch):
    monkeypatch.setattr(runs, "WRITTEN_EVERY_S", 0.0)
    run = waiting(**{"model.epochs": 1000, "model.patience": 1000})
    client.force_login(mel)
    monkeypatch.setattr(storage, "read_chosen", cancelling(client, run, storage.read_chosen))
    runs.perform(run.pk)
    run.refresh_from_db()
    assert (run.state, run.version) == (State.CANCELLED, None)


def cancelling(client, run, then):
    def read(directory, config):
        assert client.post(page_of(run)).status_code == 302
        return then(directory, config)

    return read


@pytest.mark.django_db(transaction=True)
def test_a_run_whose_worker_was_killed_says_so(bundle, redis_server, client, mel, settings, tmp_path):
    run = run_queue.start(quick(**{"model.epochs": 100_000, "model.patience": 100_000}), promote="never", by="mel")
    command = [sys.executable, "-m", "celery", "-A", "fraudsite", "worker", "-Q", "training", "--pool", "solo"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=worker_environment(), stdout=log, stderr=subprocess.STDOUT)
        try:
            give_up = time.monotonic() + 120
            while not TrainingRun.objects.get().history:
                assert time.monotonic() < give_up, (tmp_path / "worker.log").read_text()
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
    client.force_login(mel)
    assert progress_of(client, run)["state"] == "running"
    settings.TRAINING_SILENCE_S = 0
    progress = progress_of(client, run)
    assert progress["state"] == "failed"
    assert "killed for memory" in progress["failure"]
    run_queue.start(quick(), promote="never", by="mel")  # and another can be started


@pytest.mark.django_db(transaction=True)
def test_a_run_that_could_not_be_sent_says_so_and_keeps_no_other_from_being_started(redis_server, settings):
    with redis.Redis.from_url(settings.REDIS_URL) as connection:
        process_id = connection.info("server")["process_id"]
    with suspended(process_id):
        run = run_queue.start(quick(), promote="never", by="mel")
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert "broker" in run.failure
    again = run_queue.start(quick(), promote="never", by="mel")
    assert TrainingRun.objects.get(pk=again.pk).state == State.QUEUED


@pytest.mark.django_db
def test_a_run_that_is_heard_of_is_not_given_up(bundle):
    run = waiting()
    now = timezone.now()
    TrainingRun.objects.update(state=State.RUNNING, started_at=now - timedelta(hours=5), heard_at=now)
    run_queue.give_up_the_lost()
    run.refresh_from_db()
    assert run.state == State.RUNNING
    with pytest.raises(TrainingRefused):
        run_queue.start(quick(), promote="never", by="mel")


def test_it_goes_to_a_queue_of_its_own_and_is_not_begun_twice():
    app.loader.import_default_modules()
    assert app.amqp.router.route({}, "training.tasks.train")["queue"].name == "training"
    assert app.tasks["training.tasks.train"].acks_late is False


@pytest.mark.django_db
def test_an_analyst_watches_and_starts_nothing(client, alice, sent):
    client.force_login(alice)
    run = waiting()
    assert client.get(LIST).status_code == 200
    page = client.get(page_of(run))
    assert "Cancel the run" not in page.content.decode()
    assert "style=" not in page.content.decode()
    assert progress_of(client, run)["state"] == "queued"
    assert client.get(START).status_code == 403
    assert client.post(START, answers()).status_code == 403
    assert client.post(page_of(run)).status_code == 403
    client.force_login(User.objects.create_user("olga", is_staff=True))
    assert client.get(page_of(run)).status_code == 403
    assert client.get(reverse("admin:training_trainingrun_progress", args=[run.pk])).status_code == 403


@pytest.mark.django_db
def test_what_is_told_to_the_page_is_plain_json(client, mel):
    client.force_login(mel)
    run = waiting()
    TrainingRun.objects.update(failure="</script><script>alert(1)</script>", state=State.FAILED)
    page = client.get(page_of(run)).content.decode()
    assert "<script>alert" not in page
    assert json.dumps(progress_of(client, run))


@pytest.mark.django_db
def test_a_run_reads_the_file_of_its_schema_as_it_is_when_the_run_begins(own_schemas):
    path = own_schemas / "shop.toml"
    path.write_text(DECLARED)
    load_schema("shop")
    kept = configuration.as_json(quick(**{"data.schema": "shop"}))
    run = TrainingRun.objects.create(schema="shop", configuration=kept, epochs=2, by="mel")
    path.write_text("title =")
    tasks.train(run.pk)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert "Schema shop: Invalid value" in run.failure
