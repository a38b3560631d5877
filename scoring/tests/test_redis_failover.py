"""A Redis that Sentinels watch fails over while calls come in."""

import time
from typing import Any

import pytest
from django.conf import settings

from fraudsite.tests.deployment import deployment
from fraudsite.tests.sentinels import Redundant
from scoring.tests.callers import DEADLINE_S, Callers, hold

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif("postgresql" in settings.DATABASES["default"]["ENGINE"], reason="It is the same on both."),
]


def test_calls_during_a_failover_are_scored_or_get_503_and_afterwards_all_is_as_before(tmp_path):
    def fail_over():
        time.sleep(2)
        killed = redis.kill_primary()
        time.sleep(3)
        redis.start(killed)
        redis.await_replica()
        redis.change_over()
        time.sleep(3)

    deadline: dict[str, Any] = {"PREDICT_DEADLINE_MS": int(DEADLINE_S * 1000)}
    with Redundant(tmp_path) as redis, deployment("sqlite", REDIS_URL=redis.url, **deadline) as system:
        callers = Callers(system)
        posted = callers.post_while(fail_over, per_s=40)
        hold(system, callers, posted)
    refused = [answer for answer in callers.first.values() if answer.status == 503]
    assert refused
    assert all(answer.retry_after for answer in refused)
    scored = [callers.first[f"order-{number}"].status for number in range(posted - 40, posted)]
    assert scored == [200] * 40
