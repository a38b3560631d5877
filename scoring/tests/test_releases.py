"""Messages between web processes and workers of two releases, which run side by side during an upgrade."""

import time
from uuid import uuid4

import msgspec
import pytest

from fraudsite.testing import seed_payload, submission
from scoring import tasks
from scoring.messages import replies
from scoring.messages.replies import Kind, Outcome, Reply, Stages
from scoring.messages.submission import Submission

# What the release before sent and understood, in order, from its code. When a release is made, the fields that have
# come since are appended here.
OF_THE_RELEASE_BEFORE = {
    Submission: (
        *("id", "client_id", "schema", "transaction_id", "features", "event_time", "received_at", "deadline"),
        *("body_sha256", "tokens", "request_id", "declaration", "conversion"),
    ),
    Reply: ("batch_id", "started_at", "sent_at", "outcomes", "error", "stages"),
    Outcome: ("kind", "answer"),
    Stages: ("features_s", "model_s", "storage_s"),
}
KINDS_BEFORE = {
    *("scored", "replayed", "conflict", "explained", "pending", "unscorable", "failed", "no_champion", "expired"),
}


def sent(submission: Submission, fields: int | None = None, further: tuple = ()) -> bytes:
    """The message of a batch of one, with so many of its fields, or with further ones."""
    values = msgspec.msgpack.decode(msgspec.msgpack.encode(submission))
    return msgspec.msgpack.encode([[*values[:fields], *further]])


@pytest.fixture
def answered(worker, acme):
    """Have the running worker score a message. Returns its reply."""

    def answered(message: bytes) -> Reply:
        reply_to, batch_id = f"test:{uuid4()}", str(uuid4())
        tasks.score_batch.apply_async((reply_to, batch_id, message), queue="realtime")
        reply = replies.receive(reply_to, timeout_s=30)
        assert reply
        assert reply.batch_id == batch_id
        return reply

    return answered


@pytest.mark.parametrize("struct", OF_THE_RELEASE_BEFORE)
def test_a_message_only_grows_at_its_end_by_what_may_be_left_out(struct):
    before, now = OF_THE_RELEASE_BEFORE[struct], struct.__struct_fields__
    assert now[: len(before)] == before
    added = msgspec.structs.fields(struct)[len(before) :]
    assert all(not field.required for field in added)


def test_workers_answer_with_kinds_that_web_processes_of_the_release_before_know():
    assert set(Kind) <= KINDS_BEFORE


def test_a_worker_scores_a_message_of_the_release_before(answered, acme):
    own = submission(acme.pk, seed_payload())
    reply = answered(sent(own, fields=len(OF_THE_RELEASE_BEFORE[Submission])))
    assert [outcome.kind for outcome in reply.outcomes] == [Kind.SCORED]


def test_a_worker_scores_a_message_of_a_later_release_that_has_more_in_it(answered, acme):
    own = submission(acme.pk, seed_payload())
    reply = answered(sent(own, further=("something", {"else": [1]})))
    assert [outcome.kind for outcome in reply.outcomes] == [Kind.SCORED]


def test_a_web_process_understands_the_reply_of_a_later_release_that_has_more_in_it(redis_server):
    now = time.time()
    outcome = ["scored", b"{}", "more"]
    reply_to = f"test:{uuid4()}"
    replies.connection().rpush(reply_to, msgspec.msgpack.encode(["1", now, now, [outcome], "", [0.1, 0.2, 0.3, 9], 1]))
    received = replies.receive(reply_to, timeout_s=5)
    assert received == Reply("1", now, now, outcomes=[Outcome(Kind.SCORED, b"{}")], stages=Stages(0.1, 0.2, 0.3))
