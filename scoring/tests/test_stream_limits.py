"""What limits a stream: its key's rates, quota and schemas, as they limit predict calls; and what is kept of it."""

import time

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import Client as HttpClient

from fraudsite.testing import PROCESS_START_S, seed_payload
from scoring.clients import keys
from scoring.models import ApiKey, Transaction
from scoring.streams.rights import NoKey
from scoring.tests.test_streams import STREAM, add, answers, consume, consumer_of, stream  # noqa: F401  # fixtures
from scoring.worker import batches

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("keys_of_the_test")]

NAME = "the stream"


@pytest.fixture
def key_with(acme, settings):
    """Makes the key of the stream. Returns the key itself, too."""
    settings.STREAM_KEYS = {STREAM: NAME}
    return lambda **wanted: keys.create(client=acme, name=NAME, **wanted)


@pytest.fixture
def consumer(stream, acme, champion, key_with):  # noqa: F811
    made = consumer_of(acme)
    made._group.begin()
    return made


def statuses(stream):  # noqa: F811
    return [told["status"] for [told] in answers(stream).values()]


@pytest.fixture
def slow(settings, monkeypatch):
    """Keys may have three entries at once, and then one in a hundred seconds."""
    settings.KEY_CALLS_PER_S, settings.KEY_BURST_S = 0.01, 300
    monkeypatch.setattr("scoring.streams.consumer.PAUSE_S", 0)


@pytest.mark.usefixtures("slow")
def test_what_is_more_than_the_rate_of_the_key_waits_in_the_stream(stream, add, consumer, key_with):  # noqa: F811
    row, _ = key_with()
    for _ in range(5):
        add(seed_payload())
    assert [consumer.turn(), consumer.turn()] == [3, 0]
    ApiKey.objects.filter(pk=row.pk).update(calls_per_s=1_000)
    give_up = time.monotonic() + PROCESS_START_S
    while len(answers(stream)) < 5:
        consumer.turn()
        assert time.monotonic() < give_up
    assert statuses(stream) == ["200"] * 5


@pytest.mark.usefixtures("slow")
def test_consumers_share_the_rate_of_the_key_with_each_other(stream, add, acme, consumer, key_with):  # noqa: F811
    key_with()
    for _ in range(9):
        add(seed_payload())
    other = consumer_of(acme, "other")
    assert [consumer.turn(), other.turn(), consumer.turn(), other.turn()] == [3, 3, 0, 0]  # each begins with a burst
    assert other._rights.wait_s(other._rights.key()) > 300


def test_an_entry_beyond_the_quota_of_the_day_is_refused_as_a_call_is_and_not_counted(
    stream,  # noqa: F811
    add,  # noqa: F811
    consumer,
    key_with,
):
    row, _ = key_with(transactions_per_day=2)
    added = [add(seed_payload(transaction_id=f"order-{n}")) for n in range(4)]
    consumer.turn()
    assert [answers(stream)[key][0]["status"] for key in added] == ["200", "200", "429", "429"]
    problem = answers(stream)[added[3]][0]["answer"]
    assert (problem["type"], problem["title"]) == ("/problems/daily-quota-exhausted", "Daily quota exhausted")
    assert "2 transactions a day" in problem["detail"]
    ApiKey.objects.filter(pk=row.pk).update(transactions_per_day=3)
    again = add(seed_payload(transaction_id="order-3"))
    consumer.turn()
    assert answers(stream)[again][0]["status"] == "200"
    assert Transaction.objects.count() == 3


def test_an_entry_beyond_the_quota_is_refused_also_if_the_consumer_is_stopped_while_the_others_wait(
    stream,  # noqa: F811
    add,  # noqa: F811
    acme,
    consumer,
    key_with,
    monkeypatch,
):
    def score(**_):
        consumer.stop()
        raise OperationalError("The database went away.")

    key_with(transactions_per_day=2)
    added = [add(seed_payload()) for _ in range(4)]
    with monkeypatch.context() as away:
        away.setattr(batches, "score_batch", score)
        consumer.turn()
    consumer_of(acme).take_up()
    found = answers(stream)
    assert [found[key][0]["status"] for key in added] == ["200", "200", "429", "429"]
    assert Transaction.objects.count() == 2


def test_a_consumer_that_is_stopped_while_it_reads_answers_what_it_has_read(stream, add, consumer, monkeypatch):  # noqa: F811
    def read(most):
        consumer.stop()
        return read_new(most)

    read_new = consumer._group.read_new
    monkeypatch.setattr(consumer._group, "read_new", read)
    consumer._rights._name = None
    add(seed_payload())
    consumer.turn()
    assert statuses(stream) == ["200"]


def test_a_key_that_is_revoked_while_a_consumer_waits_for_entries_ends_it(stream, add, consumer, key_with, monkeypatch):  # noqa: F811
    def read(most):
        keys.revoke(key=row)
        return read_new(most)

    row, _ = key_with()
    read_new = consumer._group.read_new
    monkeypatch.setattr(consumer._group, "read_new", read)
    monkeypatch.setattr("scoring.streams.consumer.PAUSE_S", 0)
    add(seed_payload())
    with pytest.raises(NoKey):
        consumer.turn()
    assert not Transaction.objects.exists()


def test_calls_that_use_the_key_and_entries_have_one_quota(stream, add, worker, consumer, key_with):  # noqa: F811
    _, key = key_with(transactions_per_day=1)
    add(seed_payload())
    consumer.turn()
    http, give_up = HttpClient(headers={"Authorization": f"Bearer {key}"}), time.monotonic() + PROCESS_START_S
    # A web process lets calls through until it has heard of what others spent.
    while http.post("/api/v1/predict", seed_payload(), content_type="application/json").status_code != 429:
        assert time.monotonic() < give_up
    assert statuses(stream) == ["200"]


def test_an_entry_of_a_schema_that_the_key_may_not_be_used_for_gets_the_problem_of_a_call(
    stream,  # noqa: F811
    add,  # noqa: F811
    consumer,
    key_with,
):
    _, key = key_with(schemas=["handbook"])
    entry = add(seed_payload(), request_id="mine")
    consumer.turn()
    http = HttpClient(headers={"Authorization": f"Bearer {key}", "X-Request-ID": "mine"})
    called = http.post("/api/v1/predict", seed_payload(), content_type="application/json").json()
    [told] = answers(stream)[entry]
    assert (told["status"], told["answer"]) == ("403", called | {"instance": f"{STREAM}/{entry}"})


@pytest.mark.parametrize("wrong", [None, {"is_test": True}, {"scopes": ["read"]}])
def test_without_a_key_that_may_be_used_nothing_is_read(stream, add, consumer, key_with, wrong):  # noqa: F811
    row, _ = key_with(**wrong or {})
    if wrong is None:
        keys.revoke(key=row)
    add(seed_payload())
    with pytest.raises(NoKey, match=f"Acme has no valid key '{NAME}'"):
        consumer.turn()
    assert not Transaction.objects.exists()
    key_with()
    assert consumer.turn() == 1


@pytest.mark.usefixtures("stream", "key_with")
def test_the_command_says_at_once_that_there_is_no_key():
    with pytest.raises(CommandError, match=f"Acme has no valid key '{NAME}' with the scope predict"):
        call_command("consume_stream", STREAM)


def test_entries_that_all_groups_have_acknowledged_are_removed_after_a_time(
    stream,  # noqa: F811
    add,  # noqa: F811
    consume,  # noqa: F811
    settings,
):
    settings.STREAM_CLAIM_S = 0
    earlier = int((time.time() - settings.STREAM_KEEP_S - 60) * 1000)
    for n in range(400):
        stream.xadd(STREAM, {"body": "{}"}, id=f"{earlier}-{n}")
    recent = [add({}) for _ in range(2)]
    stream.xgroup_create(STREAM, "another system", "0")
    assert len(consume()) == 402
    assert stream.xlen(STREAM) == 402
    stream.xreadgroup("another system", "its own", {STREAM: ">"}, count=250)
    stream.xack(STREAM, "another system", *(f"{earlier}-{n}" for n in range(150)))
    consume()
    assert 250 <= stream.xlen(STREAM) - 2 < 400  # Redis trims whole nodes of a hundred
    assert stream.xrange(STREAM, f"{earlier}-150", count=1)
    stream.xgroup_destroy(STREAM, "another system")
    consume()
    assert stream.xlen(STREAM) < 150
    assert [key.decode() for key, _ in stream.xrange(STREAM)][-2:] == recent
