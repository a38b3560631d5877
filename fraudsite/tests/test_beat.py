import os
import subprocess
import sys
import time
from pathlib import Path

from fraudsite.testing import PROCESS_START_S, worker_environment


def test_it_shows_a_pulse_while_it_runs(db, redis_server, settings):
    pulse = Path(settings.VAR_DIR, "beat-alive")
    command = [sys.executable, "-m", "celery", "--app", "fraudsite", "beat"]
    process = subprocess.Popen(command, env=worker_environment() | {"PENDING_SWEEP_S": "0.2"})
    try:
        began = time.monotonic()
        while not pulse.exists() or time.time() - os.stat(pulse).st_mtime > 1:
            assert time.monotonic() - began < PROCESS_START_S
            time.sleep(0.1)
        first = os.stat(pulse).st_mtime_ns
        time.sleep(1)
        assert os.stat(pulse).st_mtime_ns > first
    finally:
        process.terminate()
        process.wait(timeout=30)
    stopped = os.stat(pulse).st_mtime_ns
    time.sleep(0.5)
    assert os.stat(pulse).st_mtime_ns == stopped
