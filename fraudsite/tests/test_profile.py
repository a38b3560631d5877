"""`manage.py profile` draws where a running process spends its time."""

import os
import re
import subprocess
import threading
from contextlib import contextmanager
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from fraudsite.management.commands.profile import REMEDY
from scoring import gateway


def profile(*arguments):
    written = StringIO()
    try:
        call_command("profile", *map(str, arguments), stdout=written)
    except CommandError as error:
        if str(error) == REMEDY and os.environ.get("CI") != "true":
            pytest.skip("Nobody may look into another process here.")
        raise
    return written.getvalue()


@contextmanager
def busy():
    """Have the worker answer one message after the other: of an idle process nothing is drawn."""
    done = threading.Event()

    def ask():
        while not done.is_set():
            gateway.realtime().ping(timeout_ms=5_000)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        done.set()
        asking.join()


def test_it_lists_processes_and_draws_one_that_goes_on_working(worker, settings):
    assert f"{worker.pid}  " in profile()
    with busy():
        said = profile(worker.pid, "--seconds", 1)
    [drawn] = (settings.VAR_DIR / "profiles").glob(f"*-{worker.pid}.svg")
    assert str(drawn) in said
    assert drawn.stat().st_mode & 0o777 == 0o600
    flames = drawn.read_text()
    assert "<svg" in flames
    assert re.search(r"\(\S+\.py:\d+\)", flames)
    assert worker.poll() is None
    drawn.unlink()


def test_it_looks_into_nothing_but_processes_of_ours():
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            with pytest.raises(CommandError, match="no process of Fraudsite"):
                profile(other.pid)
            assert f"{other.pid}  " not in profile()
        finally:
            other.kill()


@pytest.mark.parametrize("seconds", [0, 601])
def test_it_is_bounded_in_time(seconds):
    with pytest.raises(CommandError, match="--seconds must lie between 1 and 600"):
        profile(os.getpid(), "--seconds", seconds)
