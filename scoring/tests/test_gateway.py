"""When a batch leaves for the workers, seen from a queue that nobody reads."""

import json
import time
from contextlib import closing
from contextvars import Context
from datetime import datetime

import pytest

from fraudsite.testing import PROCESS_START_S, seed_payload, submission
from scoring import tasks
from scoring.gateway import Gateway
from scoring.messages import replies
from scoring.messages.sending import Sender

pytestmark = pytest.mark.alone

QUEUE = "unread"


@pytest.fixture
def line(redis_server):
    with closing(Gateway(QUEUE, line_limit=10, batch_limit=10, batches_under_way=2, patience_ms=60_000)) as gateway:
        yield gateway
    replies.connection().delete(QUEUE)


def queued():
    return replies.connection().llen(QUEUE)


def await_queued(count):
    give_up = time.monotonic() + PROCESS_START_S
    while queued() < count:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_the_next_batch_waits_while_one_is_under_way_that_is_not_slow_yet(line, settings):
    settings.GATEWAY_SLOW_MS = 60_000
    line.join([submission(1, seed_payload())])
    await_queued(1)
    line.join([submission(1, seed_payload())])
    time.sleep(0.5)
    assert queued() == 1


def test_the_next_batch_leaves_beside_one_that_is_slow(line, settings):
    settings.GATEWAY_SLOW_MS = 100
    line.join([submission(1, seed_payload())])
    await_queued(1)
    line.join([submission(1, seed_payload())])
    await_queued(2)


def test_a_batch_travels_in_the_message_that_celery_would_send(redis_server):
    args = ("replies", "batch-1", b"\x00content")
    # Outside of any request, as the gateway's thread is.
    Context().run(tasks.score_batch.apply_async, args, queue=QUEUE, expires=5.0, retry=False, argsrepr="…")
    Sender(tasks.score_batch, QUEUE).send(args, expires_s=5.0)
    ours, celerys = map(json.loads, replies.connection().lpop(QUEUE, 2))  # type: ignore[arg-type]  # two are there
    expire = [datetime.fromisoformat(message["headers"].pop("expires")) for message in (ours, celerys)]
    assert 0 <= (expire[0] - expire[1]).total_seconds() < 5
    for message in (ours, celerys):
        key = message["headers"].pop("id")
        assert message["headers"].pop("root_id") == message["properties"].pop("correlation_id") == key
        del message["properties"]["delivery_tag"], message["properties"]["reply_to"]  # no result is sent back
        message["properties"].pop("argsrepr", None)  # the one among the headers is read
    assert ours == celerys
