"""Processes end with the process that started them, and never share the port of another program."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from fraudsite import lifeline, ports
from fraudsite.testing import PROCESS_START_S, free_port, worker_environment
from training.tests.support import store_made_up_dataset, tiny_bundle

HOST = "127.0.0.1"
# The file of the made-up rows counts as the published one, there is a model of them, fewer payments are generated, and
# few trees are grown.
DEMO = """
import django, sys
from pathlib import Path
django.setup()
from django.conf import settings
from django.core.management import call_command
from fraudsite.command_line import main
from fraudsite.management.commands import demo
from training import registry
from training.core.bundle import load_bundle
from training.core.datasets import ulb
ulb.SHA256 = "0" * 64
call_command("migrate", verbosity=0)
bundle = load_bundle(Path(sys.argv.pop(1)), signing_key=settings.BUNDLE_SIGNING_KEY)
registry.register(bundle, promote=True)
demo.PAYMENT_ROWS = 12_000
demo.PAYMENT_TRAFFIC = demo.PAYMENT_TRAFFIC.replace("--speed 150 ", "--speed 3000 ")  # few cards sleep all at once
changes = ["xgboost.epochs=9", "evaluation.bootstrap_resamples=0", "policy.choose=alerts_per_day"]
manage, quick = demo._manage, [word for change in changes for word in ("--set", change)]
demo._manage = lambda *words, **options: manage(*words, *(quick if words[0] == "train" else []), **options)
main(["manage.py", "demo", *sys.argv[1:]])
"""


def processes():
    """The parent of each process, but for those that have ended and wait to be asked how."""
    output = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in output.splitlines())
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def descendants(process_id):
    parents, found = processes(), {process_id}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def await_that(condition, timeout_s=PROCESS_START_S):
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def answers(url):
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def started(command, tmp_path, **environment):
    """A program, whose output goes to a file; whatever is left of it and its children is killed in the end."""
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | environment, cwd=settings.BASE_DIR, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        for pid in descendants(process.pid) & processes().keys():
            os.kill(pid, signal.SIGKILL)
        process.wait()


def kill_and_await_the_end(process, least):
    """Kill the first process of a family; all others must end by themselves."""
    family = descendants(process.pid)
    assert len(family) >= least
    process.kill()
    process.wait()
    try:
        await_that(lambda: not family & processes().keys())
    finally:
        for pid in family & processes().keys():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def environment(tmp_path):
    return {"DJANGO_SETTINGS_MODULE": "fraudsite.settings", "VAR_DIR": str(tmp_path / "var"), "DATABASE_URL": ""}


@pytest.mark.parametrize("platform", ["linux", "another"])
def test_a_program_ends_with_whoever_started_it(tmp_path, platform):
    script = f"import sys; from fraudsite import lifeline; sys.platform = {platform!r}; lifeline.main(['sleep', '600'])"
    starting = f"import subprocess; subprocess.run({[sys.executable, '-c', script]!r})"
    with started([sys.executable, "-c", starting], tmp_path) as parent:
        await_that(lambda: sleeping(parent.pid))
        kill_and_await_the_end(parent, 2)


def sleeping(process_id):
    output = subprocess.run(["ps", "-A", "-o", "pid=,comm="], capture_output=True, text=True, check=True).stdout
    names = dict(line.split(maxsplit=1) for line in output.splitlines())
    return any(names.get(str(pid), "").endswith("sleep") for pid in descendants(process_id))


@pytest.mark.parametrize("wanted", [signal.SIGTERM, signal.SIGINT])
def test_where_it_runs_beside_its_program_it_passes_signals_on(tmp_path, wanted):
    script = "from fraudsite import lifeline; lifeline._run_beside(['sleep', '600'])"
    with started([sys.executable, "-c", script], tmp_path) as process:
        await_that(lambda: sleeping(process.pid))
        process.send_signal(wanted)
        assert process.wait(timeout=PROCESS_START_S) == 128 + wanted


def test_it_ends_as_its_program_does():
    assert subprocess.run(lifeline.following(sys.executable, "-c", "raise SystemExit(3)")).returncode == 3


def test_a_web_server_that_is_killed_leaves_no_process_and_its_port_is_free(tmp_path, environment):
    port = free_port()
    command = [sys.executable, "-m", "fraudsite.web", "--port", str(port), "--workers", "2"]
    with started(command, tmp_path, **environment) as server:
        await_that(lambda: answers(f"http://{HOST}:{port}/healthz"))
        # Another server would share the port, and get some of the calls.
        second = subprocess.run(command, env=os.environ | environment, cwd=settings.BASE_DIR, capture_output=True)
        assert second.returncode == 1
        [line] = second.stderr.decode().splitlines()
        assert f"Port {port} is held by another program. End that program" in line
        await_that(lambda: len(descendants(server.pid)) >= 3)
        kill_and_await_the_end(server, 3)
    await_that(lambda: not ports.refusal(HOST, port))  # the kernel closes what a process leaves open


def test_a_web_server_that_cannot_be_configured_says_so_in_a_line(environment):
    command = [sys.executable, "-m", "fraudsite.web", "--port", str(free_port())]
    wrong = os.environ | environment | {"SECRET_KEY": "hunter2"}
    done = subprocess.run(command, env=wrong, cwd=settings.BASE_DIR, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "SECRET_KEY must have at least 32 characters, or not be set.\n"


def test_a_worker_that_is_killed_leaves_no_process(tmp_path, db, redis_server):
    command = [sys.executable, "-m", "celery", "-A", "fraudsite", "worker", "--loglevel", "INFO"]
    command += ["--queues", "training", "--concurrency", "2"]
    with started(command, tmp_path, **worker_environment()) as worker:
        await_that(lambda: b"ready." in (tmp_path / "log").read_bytes())
        kill_and_await_the_end(worker, 3)


def test_a_worker_outlives_the_shell_that_started_it(tmp_path, db, redis_server):
    worker = f"{sys.executable} -m celery -A fraudsite worker --loglevel INFO --queues training --pool solo"
    with started(["sh", "-c", f"{worker} & echo $! > {tmp_path}/pid"], tmp_path, **worker_environment()) as shell:
        shell.wait()
        pid = int((tmp_path / "pid").read_text())
        try:
            await_that(lambda: b"ready." in (tmp_path / "log").read_bytes())
            assert pid in processes()
        finally:
            os.kill(pid, signal.SIGTERM)
            await_that(lambda: pid not in processes())


def scored(database):
    """The schemas of which transactions were scored."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT DISTINCT schema FROM scoring_transaction t JOIN scoring_prediction p ON p.transaction_id = t.id"
        )
        return {schema for (schema,) in rows}


@pytest.mark.skipif("postgresql" in settings.DATABASES["default"]["ENGINE"], reason="The demo keeps to SQLite.")
def test_a_demo_scores_both_schemas_and_when_killed_leaves_no_process_and_its_ports_free(tmp_path, environment):
    environment["BUNDLE_SIGNING_KEY"] = settings.BUNDLE_SIGNING_KEY
    store_made_up_dataset(tmp_path / "var" / "datasets")
    trees = {"model.architecture": "xgboost", "xgboost.epochs": 9}
    bundle = tiny_bundle(tmp_path / "var" / "models", settings.BUNDLE_SIGNING_KEY, **trees)
    port, redis_port = free_port(), free_port()
    command = [sys.executable, "-c", DEMO, str(bundle.path), "--port", str(port), "--redis-port", str(redis_port)]
    with started(command, tmp_path, **environment) as demo:
        await_that(lambda: answers(f"http://{HOST}:{port}/readyz"), timeout_s=4 * PROCESS_START_S)
        await_that(lambda: scored(tmp_path / "var" / "fraudsite.sqlite3") == {"payments", "ulb"})
        beside = [sys.executable, "manage.py", "demo", "--port", str(free_port()), "--redis-port", str(free_port())]
        second = subprocess.run(beside, env=os.environ | environment, cwd=settings.BASE_DIR, capture_output=True)
        assert b"Another demo is at work" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        kill_and_await_the_end(demo, 16)
    await_that(lambda: not any(ports.refusal(HOST, number) for number in (port, redis_port)))


@contextmanager
def listening(host, *options):
    with closing(socket.socket()) as held:
        for option in options:
            held.setsockopt(socket.SOL_SOCKET, option, 1)
        held.bind((host, 0))
        held.listen()
        yield held.getsockname()[1]


@pytest.mark.parametrize("host", [HOST, "0.0.0.0"])  # noqa: S104
@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,)])
@pytest.mark.parametrize("name", ["port", "redis_port"])
def test_the_demo_refuses_a_port_that_is_held_before_anything_is_started(host, options, name):
    others = {"port": free_port(), "redis_port": free_port()}
    with listening(host, *options) as port, pytest.raises(CommandError) as refused:
        call_command("demo", **others | {name: port})
    message = str(refused.value)
    assert message.startswith(f"Port {port} is held by another program.")
    assert f"--{name.replace('_', '-')} or DEMO_{name.upper()}" in message
    assert not Path(settings.VAR_DIR, "demo.lock").exists()


@pytest.mark.parametrize("options", [{"port": 0}, {"redis_port": 65_536}, {"port": 5, "redis_port": 5}, {"rate": 0.0}])
def test_the_demo_refuses_what_would_not_run(options):
    with pytest.raises(CommandError, match="--"):
        call_command("demo", **{"port": free_port(), "redis_port": free_port()} | options)


def test_a_port_that_was_just_closed_is_free():
    with listening(HOST) as port, socket.create_connection((HOST, port)):
        assert ports.refusal(HOST, port)
    assert ports.refusal(HOST, port) == ""
