"""Transactions by a Redis stream: answered as predict calls are, each stored once, whatever dies."""

import json
import os
import re
import subprocess
import sys
import time
from datetime import timedelta
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.utils import timezone

from fraudsite.testing import PROCESS_START_S, fraudulent_payload, seed_payload, worker_environment
from monitoring import metrics
from scoring.models import Client, History, Prediction, RefusalCount, RefusalOfClientCount, Transaction
from scoring.streams.consumer import ClientInactive, Consumer
from scoring.streams.group import Group
from scoring.tests.test_velocity import api, check_parity, handbook, pay  # noqa: F401  # fixtures
from scoring.worker import batches, predictor

STREAM = "payments"
# What the same transaction, sent twice, gets anew each time.
OF_ONE_CALL = {"id", "transaction_id", "latency_ms", "created_at"}


@pytest.fixture
def stream(redis_server, acme, settings):
    """The Redis of an empty stream of Acme's."""
    settings.STREAMS = {STREAM: acme.name}
    settings.STREAM_REDIS_URL = settings.REDIS_URL
    settings.STREAM_BLOCK_MS = 1
    with redis.Redis.from_url(settings.STREAM_REDIS_URL) as connected:
        names = [STREAM, f"{STREAM}:answers", f"{STREAM}:dead"]
        connected.delete(*names)
        yield connected
        connected.delete(*names)


@pytest.fixture
def add(stream):
    """Add an entry: bytes as they are, anything else as JSON. Keyword arguments are further fields."""

    def add(body, **fields):
        content = body if isinstance(body, bytes) else json.dumps(body)
        return stream.xadd(STREAM, {"body": content, **fields}).decode()

    return add


@pytest.fixture
def consume(stream, acme, champion):
    """Consume what is there, under a name; returns all answers by entry."""

    def consume(name="one", url=""):
        consumer = consumer_of(acme, name, url)
        consumer._group.begin()
        consumer.take_up()
        while consumer.turn():
            pass
        return answers(stream)

    return consume


def consumer_of(client, name="one", url=""):
    return Consumer(client=client, group=Group(STREAM, name, url))


def answers(stream):
    """The answers by entry: each a list of all that were written."""
    found: dict[str, list[dict]] = {}
    for _, fields in stream.xrange(f"{STREAM}:answers"):
        told = {name.decode(): value.decode() for name, value in fields.items()}
        found.setdefault(told["entry"], []).append(told | {"answer": json.loads(told["answer"])})
    return found


def pending(stream):
    return stream.xpending(STREAM, "fraudsite")["pending"]


def without_ack(stream):
    """The address of the same Redis for a user who may do all but acknowledge."""
    stream.acl_setuser(
        "hasty", enabled=True, passwords=["+hasty"], keys=["*"], categories=["+@all"], commands=["-xack"]
    )
    return f"redis://hasty:hasty@127.0.0.1:{urlsplit(os.environ['REDIS_URL']).port}/0"


def alike(answer):
    return {name: value for name, value in answer.items() if name not in OF_ONE_CALL}


def test_an_entry_is_answered_as_a_predict_call_is_to_the_last_bit(worker, post, add, consume, acme):
    bodies = [seed_payload(), fraudulent_payload(), seed_payload(Amount=0.1)]
    called = [post(body).json() for body in bodies]
    keys = [add(body) for body in bodies]
    found = consume()
    for key, call in zip(keys, called, strict=True):
        [told] = found[key]
        assert told["status"] == "200"
        assert alike(told["answer"]) == alike(call)
        row = Transaction.objects.get(pk=told["answer"]["id"])
        assert (row.client, row.received_at.timestamp()) == (acme, int(key.split("-")[0]) / 1000)
    assert called[1]["alert"] is True


def test_entries_have_the_computed_features_of_predict_calls(api, add, consume):  # noqa: F811
    hour = timezone.now().replace(microsecond=0, second=0, minute=0)

    def rows(prefix):
        for n in range(30):
            moment = (hour - timedelta(minutes=(n * 37) % 600 + 60)).isoformat()
            yield {"customer": f"{prefix} {n % 3}", "terminal": prefix, "amount": 10 + n / 3, "event_time": moment}

    called = [pay(api, **row).fraud_score for row in rows("called")]
    keys = [add(row | {"schema": "handbook"}) for row in rows("streamed")]
    found = consume()
    assert [found[key][0]["answer"]["fraud_score"] for key in keys] == called
    check_parity()


@pytest.mark.parametrize(
    "body",
    [
        seed_payload(Amount=-1),
        seed_payload(V1="x"),
        seed_payload(surplus=1),
        {"Amount": 1},
        seed_payload(schema="nowhere"),
        seed_payload(transaction_id=""),
        seed_payload(transaction_id="4111111111111111"),
        seed_payload(cvv="123"),
        seed_payload(event_time="2000-01-01T00:00:00Z"),
        b"{",
        b"[]",
        b"\xff",
        b'{"V1": NaN}',
        b'{"V1": 1, "V1": 2}',
        b" " * 70_000,
    ],
)
@pytest.mark.django_db
def test_a_refused_entry_gets_the_problem_of_a_predict_call(post, add, consume, body):
    called = post(body).json()
    key = add(body, request_id="from-the-producer")
    [told] = consume()[key]
    assert told["status"] == str(called["status"])
    own = {"instance": f"{STREAM}/{key}", "request_id": "from-the-producer"}
    assert told["answer"] == called | own
    assert not Transaction.objects.exists()


@pytest.mark.django_db
def test_an_entry_without_a_body_says_what_belongs_there(stream, consume):
    key = stream.xadd(STREAM, {"payload": "{}"}).decode()
    [told] = consume()[key]
    assert (told["status"], told["answer"]["errors"][0]["code"]) == ("400", "missing_body")


@pytest.mark.django_db
def test_an_entry_whose_id_is_no_time_is_refused(stream, consume):
    key = stream.xadd(STREAM, {"body": json.dumps(seed_payload())}, id="1-1").decode()
    [told] = consume()[key]
    assert (told["status"], told["answer"]["errors"][0]["code"]) == ("422", "entry_id_without_its_time")


@pytest.mark.django_db
def test_refused_entries_stand_beside_scored_ones_and_are_counted(add, consume):
    from scoring.api import refusals

    def counts():
        refusals.flush()
        kinds = (RefusalCount, RefusalOfClientCount)
        return [sum(kind.objects.filter(status=422).values_list("count", flat=True)) for kind in kinds]

    before = counts()
    keys = [add(seed_payload()), add(seed_payload(Amount=-1, transaction_id="order-1")), add(seed_payload())]
    found = consume()
    assert [found[key][0]["status"] for key in keys] == ["200", "422", "200"]
    assert found[keys[1]][0]["transaction_id"] == "order-1"
    assert counts() == [number + 1 for number in before]


@pytest.mark.django_db
def test_a_repeated_transaction_gets_its_stored_answer_and_another_body_a_conflict(add, consume):
    keys = [add(seed_payload(transaction_id="order-1")) for _ in range(2)]
    consume()
    keys += [add(seed_payload(transaction_id="order-1")), add(seed_payload(transaction_id="order-1", Amount=99))]
    first, same, later, other = (consume()[key][0] for key in keys)
    assert first["answer"] == same["answer"] == later["answer"]
    # Two that are read together may reach the database in either order.
    assert sorted(told["replayed"] for told in (first, same)) == ["false", "true"]
    assert later["replayed"] == "true"
    assert (other["status"], other["answer"]["title"]) == ("409", "Transaction id already used")
    assert Transaction.objects.count() == 1


@pytest.mark.django_db
def test_another_clients_transaction_of_the_same_id_is_another_one(add, consume, globex, settings, stream):
    keys = [add(seed_payload(transaction_id="order-1"))]
    consume()
    keys.append(add(seed_payload(transaction_id="order-1", Amount=99)))
    consumer_of(globex).turn()
    assert [answers(stream)[key][0]["status"] for key in keys] == ["200", "200"]
    assert set(Transaction.objects.values_list("client__name", flat=True)) == {"Acme", "Globex"}


@pytest.mark.django_db
def test_killed_after_its_commit_it_leaves_entries_that_are_stored_once_and_get_the_same_answer(
    stream, add, acme, champion, settings, consume
):
    keys = [add(fraudulent_payload()), add(seed_payload(transaction_id="order-1")), add(seed_payload(Amount=-1))]
    dying = consumer_of(acme, "dying", without_ack(stream))
    dying._group.begin()
    with pytest.raises(redis.RedisError, match="permission"):
        dying.turn()  # it has committed, and neither answers nor acknowledges
    stored = {str(pk) for pk in Transaction.objects.values_list("pk", flat=True)}
    assert (len(stored), pending(stream), answers(stream)) == (2, 3, {})
    settings.STREAM_CLAIM_S = 0
    found = consume("heir")
    assert [found[key][0]["status"] for key in keys] == ["200", "200", "422"]
    assert {found[key][0]["answer"]["id"] for key in keys[:2]} == stored
    assert {found[key][0]["replayed"] for key in keys} == {"false"}
    assert Prediction.objects.count() == 2
    assert pending(stream) == 0


@pytest.mark.django_db
def test_while_redis_takes_no_answers_no_attempt_is_counted(stream, add, acme, champion, settings):
    settings.STREAM_ATTEMPTS_LIMIT = 1
    keys = [add(seed_payload(transaction_id="order-1")), add(seed_payload(Amount=-1))]
    consumer = consumer_of(acme, url=without_ack(stream))
    consumer._group.begin()
    for go_on in (consumer.turn, consumer.take_up, consumer.take_up):
        with pytest.raises(redis.RedisError, match="permission"):
            go_on()
    stream.acl_setuser("hasty", enabled=True, passwords=["+hasty"], keys=["*"], commands=["+xack"])
    consumer.take_up()
    found = answers(stream)
    assert [len(found[key]) for key in keys] == [1, 1]
    assert found[keys[0]][0]["status"] == "200"
    assert found[keys[1]][0]["answer"]["errors"][0]["pointer"] == "/Amount"
    assert (Prediction.objects.count(), pending(stream), consumer.turn()) == (1, 0, 0)


@pytest.mark.django_db
def test_what_is_stored_is_answered_and_not_set_aside_however_often_its_consumers_die(
    stream, add, acme, champion, settings, consume
):
    settings.STREAM_CLAIM_S, settings.STREAM_ATTEMPTS_LIMIT = 0, 1
    key = add(seed_payload())
    for name in ("first", "second", "third"):
        dying = consumer_of(acme, name, without_ack(stream))
        dying._group.begin()
        with pytest.raises(redis.RedisError, match="permission"):
            dying.turn()
    assert [told["status"] for told in consume("heir")[key]] == ["200"]
    assert (Prediction.objects.count(), pending(stream), stream.xlen(f"{STREAM}:dead")) == (1, 0, 0)


@pytest.mark.django_db
def test_restarted_under_its_name_it_finishes_first_what_it_had(stream, add, acme, champion, consume):
    keys = [add(seed_payload(transaction_id=f"order-{n}")) for n in range(3)]
    Group(STREAM, "one").begin()
    stream.xreadgroup("fraudsite", "one", {STREAM: ">"}, count=2)  # and then it was killed
    found = consume("one")
    assert list(found) == keys
    assert pending(stream) == 0


@pytest.mark.django_db
def test_an_entry_that_its_consumers_fail_at_is_set_aside_and_the_others_go_on(
    stream, add, consume, settings, monkeypatch, caplog
):
    def score(*, submissions, **others):
        if any(each.transaction_id == "poison" for each in submissions):
            raise ZeroDivisionError
        return real(submissions=submissions, **others)

    real = batches.score_batch
    monkeypatch.setattr(batches, "score_batch", score)
    settings.STREAM_CLAIM_S, settings.STREAM_ATTEMPTS_LIMIT = 0, 2
    keys = [add(seed_payload(transaction_id=name)) for name in ("before", "poison", "after")]
    found = consume()
    while keys[1] not in found:
        found = consume("another")
    assert [found[key][0]["status"] for key in keys] == ["200", "422", "200"]
    assert found[keys[1]][0]["transaction_id"] == "poison"
    assert caplog.text.count("failed.") == settings.STREAM_ATTEMPTS_LIMIT
    [(_, dead)] = stream.xrange(f"{STREAM}:dead")
    assert (dead[b"entry"].decode(), json.loads(dead[b"body"])["transaction_id"]) == (keys[1], "poison")
    assert pending(stream) == 0
    assert f'fraudsite_stream_entries{{state="dead",stream="{STREAM}"}} 1.0' in metrics.exposition().decode()


@pytest.mark.django_db
def test_while_the_database_is_away_entries_wait_and_no_attempt_is_counted(
    stream, add, acme, champion, monkeypatch, settings
):
    def score(**values):
        if failures:
            failures.pop()
            raise OperationalError("The database went away.")
        return real(**values)

    real, failures = batches.score_batch, [1, 2]
    monkeypatch.setattr(batches, "score_batch", score)
    monkeypatch.setattr("scoring.streams.consumer.PAUSE_S", 0)
    key = add(seed_payload())
    consumer = consumer_of(acme)
    consumer._group.begin()
    attempts = []
    forgive = consumer._group.forgive

    def forgiven(entries, of):
        forgive(entries, of)
        attempts.append(stream.xpending_range(STREAM, "fraudsite", "-", "+", 1)[0]["times_delivered"])

    monkeypatch.setattr(consumer._group, "forgive", forgiven)
    consumer.turn()
    assert answers(stream)[key][0]["status"] == "200"
    assert attempts == [0]


@pytest.mark.django_db
def test_two_consumers_share_a_stream(stream, add, acme, champion, settings):
    settings.STREAM_BATCH = 2
    keys = [add(seed_payload(transaction_id=f"order-{n}")) for n in range(6)]
    one, two = consumer_of(acme, "one"), consumer_of(acme, "two")
    one._group.begin()
    two._group.begin()  # which finds the group of the other
    assert [one.turn(), two.turn(), one.turn(), two.turn()] == [2, 2, 2, 0]
    assert list(answers(stream)) == keys
    assert {each["name"]: each["pending"] for each in stream.xinfo_consumers(STREAM, "fraudsite")} == {
        b"one": 0,
        b"two": 0,
    }


def test_consumers_at_once_leave_the_histories_that_one_after_the_other_leaves(
    transactional_db, stream, add, acme, handbook_champion, settings
):
    settings.STREAM_BATCH = 3
    predictor.refresh("handbook")
    moment = timezone.now() - timedelta(hours=1)
    for n in range(60):
        when = (moment + timedelta(seconds=n)).isoformat()
        body = {"schema": "handbook", "amount": 1 + n, "customer": f"c{n % 2}", "terminal": "shop", "event_time": when}
        add(body)
    Group(STREAM, "begin").begin()

    def consume(name):
        consumer = consumer_of(acme, name)
        while consumer.turn():
            pass
        connections.close_all()

    threads = [Thread(target=consume, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [told["status"] for [told] in answers(stream).values()] == ["200"] * 60
    assert (Transaction.objects.count(), History.objects.count()) == (60, 3)
    check_parity()


@pytest.mark.django_db
def test_answers_and_metrics_do_not_grow_for_ever_and_tell_how_far_it_is(stream, add, consume, settings, acme):
    settings.STREAM_ANSWERS_MAXLEN = 100
    for n in range(400):
        add(seed_payload(transaction_id=f"order-{n}", Amount=-1))
    told = f'fraudsite_stream_entries{{state="unread",stream="{STREAM}"}}'
    assert f"{told} 400.0" in metrics.exposition().decode()
    consume()
    assert f"{told} 0.0" in metrics.exposition().decode()
    assert stream.xlen(f"{STREAM}:answers") < 300  # Redis trims whole nodes of a hundred


@pytest.mark.django_db
def test_entries_that_were_trimmed_before_they_were_answered_are_reported_and_hold_up_nothing(
    stream, add, consume, settings, caplog
):
    settings.STREAM_CLAIM_S = 0
    Group(STREAM, "one").begin()
    gone = [add(seed_payload()), add(seed_payload())]
    stream.xreadgroup("fraudsite", "one", {STREAM: ">"}, count=1)
    stream.xreadgroup("fraudsite", "two", {STREAM: ">"}, count=1)
    stream.xdel(STREAM, *gone)
    key = add(seed_payload())
    assert list(consume("one")) == [key]
    assert pending(stream) == 0
    assert caplog.text.count("trimmed") == 2


@pytest.mark.django_db
def test_nothing_is_read_for_a_client_that_was_deactivated(stream, add, acme, champion):
    add(seed_payload())
    consumer = consumer_of(acme)
    consumer._group.begin()
    Client.objects.update(is_active=False)
    with pytest.raises(ClientInactive):
        consumer.turn()
    assert not Transaction.objects.exists()


@pytest.mark.django_db
def test_the_page_shows_a_producer_and_a_reader_that_work_with_the_rights_it_names(
    stream, acme, champion, settings, capsys
):
    page = (settings.BASE_DIR / "docs" / "streams.md").read_text()
    produce, read = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [rights] = re.findall(r"`ACL (SETUSER shop [^`]*)`", page)
    stream.execute_command("ACL", *rights.split())
    theirs = settings.STREAM_REDIS_URL.replace("redis://", "redis://shop:password@")
    names: dict[str, Any] = {}
    exec(produce.replace("redis://127.0.0.1:6379/0", theirs), names)  # noqa: S102
    consumer = consumer_of(acme)
    consumer._group.begin()
    consumer.turn()
    exec(read, names)  # noqa: S102
    assert capsys.readouterr().out.startswith(f"{names['entry']} approve ")
    with pytest.raises(redis.exceptions.NoPermissionError):
        names["stream"].xrange("payments")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ({}, "STREAMS gives the stream 'payments' no client. It is empty."),
        ({"orders": "Acme"}, "no client. It has orders."),
        ({STREAM: "Nobody"}, "there is no client 'Nobody'"),
        ({STREAM: "Idle"}, "the client Idle is not active"),
    ],
)
def test_the_command_refuses_a_stream_without_an_active_client(settings, acme, streams, message):
    Client.objects.create(name="Idle", is_active=False)
    settings.STREAMS = streams
    with pytest.raises(CommandError, match=message):
        call_command("consume_stream", STREAM)


def test_the_command_refuses_a_name_that_every_process_would_have(settings, acme):
    settings.STREAMS = {STREAM: "Acme"}
    with pytest.raises(CommandError, match="a name of its own"):
        call_command("consume_stream", STREAM, "--consumer", " ")


def test_a_consumer_that_is_killed_amid_its_work_loses_and_doubles_nothing(
    transactional_db, stream, add, consume, acme, settings
):
    keys = [add(seed_payload(transaction_id=f"order-{n}", Amount=n)) for n in range(400)]
    environment = worker_environment() | {"STREAMS": f"{STREAM}=Acme", "STREAM_BATCH": "16"}
    command = [sys.executable, "manage.py", "consume_stream", STREAM, "--consumer", "killed"]
    with subprocess.Popen(command, env=environment, cwd=settings.BASE_DIR) as process:
        give_up = time.monotonic() + PROCESS_START_S
        try:
            while stream.xlen(f"{STREAM}:answers") < 32:
                assert process.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.005)
        finally:
            process.kill()
    settings.STREAM_CLAIM_S = 0
    found = consume("heir")
    assert found.keys() == set(keys)
    for n, key in enumerate(keys):
        ids = {told["answer"]["id"] for told in found[key]}
        assert ids == {str(Transaction.objects.get(transaction_id=f"order-{n}").pk)}
    assert Transaction.objects.count() == Prediction.objects.count() == 400
