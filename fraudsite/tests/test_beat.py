import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from fraudsite.testing import METRICS_TOKEN, PROCESS_START_S, free_port, soon, worker_environment

SENT = r'^fraudsite_beat_sent_total{task="scoring.tasks.resend_pending"} (.+)$'


def test_it_shows_a_pulse_while_it_runs_and_tells_prometheus_what_it_sends(db, redis_server, settings):
    pulse = Path(settings.VAR_DIR, "beat-alive")
    pulse.unlink(missing_ok=True)
    command = [sys.executable, "-m", "celery", "--app", "fraudsite", "beat"]
    told = {"METRICS_PORT": str(port := free_port()), "METRICS_TOKEN": METRICS_TOKEN}
    process = subprocess.Popen(command, env=worker_environment() | {"PENDING_SWEEP_S": "0.2"} | told)
    try:
        assert soon(pulse.exists, bool)
        first = os.stat(pulse).st_mtime_ns
        assert soon(lambda: os.stat(pulse).st_mtime_ns, lambda later: later > first) > first
        address, shown = f"http://127.0.0.1:{port}/metrics", {"Authorization": f"Bearer {METRICS_TOKEN}"}

        def scraped():
            return httpx.get(address, headers=shown, timeout=PROCESS_START_S).text

        def sent(text):
            return sum(map(float, re.findall(SENT, text, re.MULTILINE)))

        text = soon(scraped, lambda text: sent(text) >= 3)
        assert sent(text) >= 3
        [tick] = re.findall(r"^fraudsite_beat_tick_timestamp_seconds (.+)$", text, re.MULTILINE)
        assert abs(time.time() - float(tick)) < 60
    finally:
        process.terminate()
        process.wait(timeout=PROCESS_START_S)
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
