"""The gateway when replies come out of order, twice, late, broken or not at all: each caller gets its own outcomes.

The test is the workers: it takes batches off a queue that nobody else reads, and replies as it likes.
"""

import asyncio
import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from uuid import uuid4

import msgspec
import pytest

from fraudsite.testing import seed_payload, submission
from scoring import gateway
from scoring.exceptions import Overloaded, ScorerUnavailable
from scoring.gateway import Gateway
from scoring.messages import replies
from scoring.messages.replies import Kind, Outcome, Reply
from scoring.messages.submission import Submission
from scoring.models import Fallback

LIMITS = {"line_limit": 10, "batch_limit": 4, "batches_under_way": 2, "patience_ms": 60_000}


class Batch:
    """One that a gateway has sent."""

    def __init__(self, queue):
        message = json.loads(replies.connection().blpop([queue], timeout=10)[1])
        (self.reply_to, self.id, sent), *_ = msgspec.msgpack.decode(base64.b64decode(message["body"]))
        self.submissions = msgspec.msgpack.decode(sent, type=list[Submission])

    def reply(self, **changes):
        outcomes = [outcome_of(each) for each in self.submissions]
        replies.send(self.reply_to, Reply(**({"batch_id": self.id, "outcomes": outcomes} | TIMES | changes)))


TIMES = {"started_at": 0.0, "sent_at": 0.0}


def outcome_of(sent):
    return Outcome(Kind.SCORED, sent.id.encode())


@pytest.fixture(autouse=True)
def beside_each_other(settings):
    """A batch does not wait for the one before."""
    settings.GATEWAY_SLOW_MS = 0


@pytest.fixture
def queue(redis_server):
    """Its name, and what takes the next batch off it."""
    name = f"unread-{uuid4()}"
    yield name, lambda: Batch(name)
    replies.connection().delete(name)


@pytest.fixture
def take(queue):
    return queue[1]


@pytest.fixture
def line(queue):
    with closing(Gateway(queue[0], **LIMITS)) as line:
        yield line


@pytest.fixture
def impatient(queue):
    """A gateway that waits no longer for a worker than its clients do."""
    with closing(Gateway(queue[0], **(LIMITS | {"patience_ms": 1}))) as line:
        yield line


def transactions(count=1, **changes):
    return [submission(1, seed_payload(), **changes) for _ in range(count)]


def sent(line, take, count=1, **changes):
    """Have a batch sent; what waits for it, and the batch."""
    waiting = line.join(transactions(count, **changes))
    return waiting, take()


def until_refused(line):
    with suppress(Overloaded):
        while True:
            yield line.join(transactions())


def is_answered(waiting):
    return waiting.wait() == [outcome_of(each) for each in waiting.submissions]


def reason_of(waiting):
    with pytest.raises(ScorerUnavailable) as refused:
        waiting.wait()
    return refused.value.reason


def test_each_caller_gets_its_own_outcomes_when_replies_come_out_of_order(line, take):
    (first, one), (second, other) = sent(line, take), sent(line, take, 2)
    other.reply()
    one.reply()
    assert is_answered(second)
    assert is_answered(first)


def test_callers_who_travel_together_each_get_their_own_part(line, take, settings):
    settings.GATEWAY_SLOW_MS = 60_000
    first, alone = sent(line, take)
    # These gather while the first is under way: three fit, and the last travels after them.
    others = [line.join(transactions(count)) for count in (1, 2, 1, 3)]
    alone.reply()
    together, last = take(), None
    assert [each.id for each in together.submissions] == [
        each.id for waiting in others[:3] for each in waiting.submissions
    ]
    together.reply()
    last = take()
    last.reply()
    assert all(map(is_answered, [first, *others]))


def test_a_reply_that_comes_twice_is_taken_once(line, take):
    waiting, batch = sent(line, take)
    batch.reply()
    batch.reply(outcomes=[Outcome(Kind.CONFLICT)])
    following, next_batch = sent(line, take)
    next_batch.reply()
    assert is_answered(following)
    assert is_answered(waiting)


def test_a_reply_that_comes_too_late_is_nobody_elses(line, take):
    late, batch = sent(line, take, deadline_ms=500)
    assert reason_of(late) == Fallback.Reason.DEADLINE
    following, next_batch = sent(line, take)
    batch.reply()
    next_batch.reply()
    assert is_answered(following)


def test_who_asks_after_the_deadline_is_refused_at_once(line):
    late = transactions(deadline_ms=-500)
    with ThreadPoolExecutor() as pool:
        for asked in (pool.submit(line.join(late).wait), pool.submit(asyncio.run, line.ask(late))):
            assert asked.exception(timeout=10).reason == Fallback.Reason.DEADLINE


def test_a_coroutine_that_gave_up_keeps_no_other_waiting(line, take, settings):
    settings.GATEWAY_SLOW_MS = 60_000
    first, under_way = sent(line, take)

    async def ask():
        impatient, patient = [asyncio.create_task(line.ask(transactions(deadline_ms=ms))) for ms in (1_000, 60_000)]
        await asyncio.sleep(0)  # now both are in the line
        under_way.reply()
        together = await asyncio.to_thread(take)
        with pytest.raises(ScorerUnavailable) as refused:
            await impatient
        together.reply()
        return refused.value.reason, together.submissions, await patient

    reason, (_, answered), outcomes = asyncio.run(ask())
    assert (reason, outcomes) == (Fallback.Reason.DEADLINE, [outcome_of(answered)])
    assert is_answered(first)


def test_a_reply_to_what_was_never_asked_changes_nothing(line, take):
    waiting, batch = sent(line, take)
    batch.reply(batch_id=str(uuid4()), outcomes=[Outcome(Kind.CONFLICT)])
    batch.reply()
    assert is_answered(waiting)


def test_a_reply_that_cannot_be_read_is_passed_over(line, take):
    waiting, batch = sent(line, take)
    for nonsense in (b"", b"\xff", b"of another version", msgspec.msgpack.encode([1, 2])):
        replies.connection().rpush(batch.reply_to, nonsense)
    batch.reply()
    assert is_answered(waiting)


def test_what_a_worker_could_not_score_is_refused_with_its_reason_and_the_others_are_served(line, take):
    (refused, broken), (other, batch) = sent(line, take), sent(line, take)
    broken.reply(error="The histories have to be rebuilt.", outcomes=[])
    batch.reply()
    with pytest.raises(ScorerUnavailable, match="rebuilt") as error:
        refused.wait()
    assert error.value.reason == Fallback.Reason.WORKER
    assert is_answered(other)


def test_what_nobody_waits_for_any_more_does_not_travel(line, take, settings):
    settings.GATEWAY_SLOW_MS = 60_000
    first, batch = sent(line, take)
    late, in_time = line.join(transactions(deadline_ms=1)), line.join(transactions())
    assert reason_of(late) == Fallback.Reason.DEADLINE
    batch.reply()
    following = take()
    assert [each.id for each in following.submissions] == [each.id for each in in_time.submissions]
    following.reply()
    assert is_answered(in_time)
    assert is_answered(first)


def test_more_than_it_holds_are_refused_at_once_and_those_who_wait_are_served(line, take, settings):
    settings.GATEWAY_SLOW_MS = 60_000
    waiting, first = sent(line, take)
    held = [waiting, *until_refused(line)]
    time.sleep(0.1)  # meanwhile the thread that sends takes one off the line, and waits with it
    held += until_refused(line)
    # One travels, one is about to, and the line is full.
    assert LIMITS["line_limit"] < len(held) <= LIMITS["line_limit"] + 2
    settings.GATEWAY_SLOW_MS = 0
    first.reply()
    served = 1
    while served < len(held):
        batch = take()
        assert len(batch.submissions) <= LIMITS["batch_limit"]
        batch.reply()
        served += len(batch.submissions)
    assert all(map(is_answered, held))


def test_no_more_batches_travel_at_once_than_it_may_send(line, queue):
    name, take = queue
    (first, batch), (second, other) = sent(line, take), sent(line, take)
    third = line.join(transactions())
    time.sleep(0.2)
    assert replies.connection().llen(name) == 0
    other.reply()
    take().reply()
    batch.reply()
    assert all(map(is_answered, [first, second, third]))


def test_a_batch_whose_reply_is_overdue_makes_room_for_the_next(impatient, take):
    overdue, _ = sent(impatient, take, deadline_ms=1_000)
    patient, batch = sent(impatient, take)
    next_one, next_batch = sent(impatient, take)
    next_batch.reply()
    batch.reply()
    assert is_answered(next_one)
    assert is_answered(patient)
    assert reason_of(overdue) == Fallback.Reason.DEADLINE


def test_once_workers_are_silent_one_caller_tries_and_the_others_are_told_at_once(impatient, take, settings):
    for _ in range(2):  # each reply ends a silence, and the next one counts from the start
        unanswered, _ = sent(impatient, take, deadline_ms=500)
        assert reason_of(unanswered) == Fallback.Reason.DEADLINE
        probe, batch = sent(impatient, take)
        settings.GATEWAY_SILENCE_LIMIT = 2  # of which one was silent
        beside, other = sent(impatient, take)
        settings.GATEWAY_SILENCE_LIMIT = 1
        with pytest.raises(ScorerUnavailable) as refused:
            impatient.join(transactions())
        assert refused.value.reason == Fallback.Reason.NO_WORKER
        batch.reply()
        other.reply()
        assert is_answered(probe)
        assert is_answered(beside)
        after, batch = sent(impatient, take)
        batch.reply()
        assert is_answered(after)


def test_what_cannot_be_sent_is_refused_with_its_reason_and_the_next_is_sent(line, queue, caplog):
    name, take = queue
    replies.connection().set(name, "no list")  # so Redis takes no message
    assert reason_of(line.join(transactions())) == Fallback.Reason.BROKER
    [told] = [record for record in caplog.records if "could not be sent" in record.getMessage()]
    assert not told.exc_info, "no traceback: such faults are expected"
    replies.connection().delete(name)
    following, batch = sent(line, take)
    batch.reply()
    assert is_answered(following)


def test_it_goes_on_when_redis_has_dropped_its_connections(line, take, caplog):
    waiting, batch = sent(line, take)
    replies.connection().client_kill_filter(_type="normal", skipme=True)
    batch.reply()
    assert is_answered(waiting)
    assert "Waiting for Redis" in caplog.text
    # A message that cannot be sent is refused at once, and the next one has a new connection.
    with suppress(ScorerUnavailable):
        line.join(transactions(deadline_ms=500)).wait()
    following = line.join(transactions())
    while (batch := take()).submissions[0].id != following.submissions[0].id:
        pass
    batch.reply()
    assert is_answered(following)


def test_a_sign_of_life_travels_without_a_transaction(line, take):
    waiting, batch = sent(line, take)
    with ThreadPoolExecutor() as pool:
        alive = pool.submit(line.ping, timeout_ms=10_000)
        empty = take()
        assert empty.submissions == []
        empty.reply()
        alive.result()
    batch.reply()
    assert is_answered(waiting)


def test_without_a_sign_of_life_it_says_so_in_time(line):
    with pytest.raises(ScorerUnavailable) as refused:
        line.ping(timeout_ms=100)
    assert refused.value.reason == Fallback.Reason.DEADLINE


def test_a_closed_one_stops_listening_and_none_keeps_its_process_alive(queue):
    with closing(Gateway(queue[0], **LIMITS)):
        threads = [thread for thread in threading.enumerate() if thread.name.startswith(queue[0])]
    assert [thread.daemon for thread in threads] == [True, True]
    [listening] = [thread for thread in threads if "receive" in thread.name]
    listening.join(timeout=4)
    assert not listening.is_alive()


def test_a_process_has_one_for_each_kind_of_worker(redis_server, monkeypatch):
    monkeypatch.setattr(gateway, "_started", {})
    realtime, bulk = gateway.realtime(), gateway.bulk()
    with closing(realtime), closing(bulk):
        assert (gateway.realtime(), gateway.bulk()) == (realtime, bulk)
        assert realtime is not bulk
