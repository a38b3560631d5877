import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from fraudsite.testing import METRICS_TOKEN, PROCESS_START_S, free_port, worker_environment


def test_it_shows_a_pulse_while_it_runs_and_tells_prometheus_what_it_sends(db, redis_server, settings):
    pulse = Path(settings.VAR_DIR, "beat-alive")
    command = [sys.executable, "-m", "celery", "--app", "fraudsite", "beat"]
    told = {"METRICS_PORT": str(port := free_port()), "METRICS_TOKEN": METRICS_TOKEN}
    process = subprocess.Popen(command, env=worker_environment() | {"PENDING_SWEEP_S": "0.2"} | told)
    try:
        began = time.monotonic()
        while not pulse.exists() or time.time() - os.stat(pulse).st_mtime > 1:
            assert time.monotonic() - began < PROCESS_START_S
            time.sleep(0.1)
        first = os.stat(pulse).st_mtime_ns
        time.sleep(1)
        assert os.stat(pulse).st_mtime_ns > first
        address, shown = f"http://127.0.0.1:{port}/metrics", {"Authorization": f"Bearer {METRICS_TOKEN}"}
        scraped = httpx.get(address, headers=shown).text
        [sent] = re.findall(r'^fraudsite_beat_sent_total{task="scoring.tasks.resend_pending"} (.+)$', scraped, re.M)
        assert float(sent) >= 3
        [tick] = re.findall(r"^fraudsite_beat_tick_timestamp_seconds (.+)$", scraped, re.M)
        assert abs(time.time() - float(tick)) < 10
    finally:
        process.terminate()
        process.wait(timeout=30)
    stopped = os.stat(pulse).st_mtime_ns
    time.sleep(0.5)
    assert os.stat(pulse).st_mtime_ns == stopped


@pytest.mark.parametrize(("choice", "is_there"), [("off", False), ("propose", True), ("promote", True)])
def test_it_retrains_every_night_at_the_hour_that_is_set_if_that_is_turned_on(db, redis_server, choice, is_there):
    told = (
        "from fraudsite.celery import app; app.loader.import_default_modules();"
        "name = 'scoring.learning.tasks.retrain';"
        "entry = app.conf.beat_schedule.get(name); print(entry and (entry['task'] in app.tasks, entry['schedule']))"
    )
    environment = worker_environment() | {"RETRAINING": choice, "RETRAINING_HOUR": "4"}
    done = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True, check=True)
    entry = done.stdout.strip().splitlines()[-1]
    assert entry.startswith("(True, <crontab: 0 4 * * *") if is_there else entry == "None"
