"""When a batch leaves for the workers, seen from a queue that nobody reads."""

import time
from contextlib import closing

import pytest

from fraudsite.testing import seed_payload, submission
from scoring.gateway import Gateway
from scoring.messages import replies

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
    give_up = time.monotonic() + 10
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
