"""Webhooks from the command line, what is deleted in the end, and what Prometheus is told."""

import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from scoring.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from scoring.tests.receivers import subscribe
from scoring.webhooks import endpoints, events, figures, outbox
from scoring.webhooks.types import EventType

pytestmark = pytest.mark.django_db

State = WebhookDelivery.State


def run(*words):
    output = StringIO()
    call_command("webhooks", *words, stdout=output)
    return output.getvalue()


def tell(client, count=1):
    for number in range(count):
        events.record(EventType.BATCH_FINISHED, object=f"batch:{number}", data={}, client=client.pk)
    return list(WebhookDelivery.objects.order_by("pk"))


def test_an_endpoint_is_looked_after_from_the_command_line(acme):
    key, secret = run("add", "Acme", "https://shop.example/", "--events", "alert.opened", "review.decided").split()
    assert secret.startswith("whsec_")
    assert key in run("list")
    assert run("rotate", key).strip() not in ("", secret)
    for action, state in (("pause", "paused"), ("resume", "active")):
        run(action, key)
        assert WebhookEndpoint.objects.get().state == state
    assert run("test", key).startswith("msg_")
    WebhookDelivery.objects.update(state=State.DEAD)
    assert run("replay", key, "--since", "2000-01-01") == "1 deliveries are sent again.\n"
    run("remove", key)
    assert run("list") == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["add", "Nobody", "https://shop.example/"], "no client 'Nobody'"),
        (["add", "Acme", "http://shop.example/"], "https://"),
        (["add", "Acme", "https://shop.example/", "--events", "nosuch"], "alert.opened"),
        (["rotate", "0" * 32], "no such endpoint"),
        (["rotate", "x"], "invalid"),
        (["replay", "0" * 32, "--since", "tomorrow"], "Give a date"),
    ],
)
def test_a_wrong_word_is_refused_with_the_remedy(acme, words, told):
    with pytest.raises(CommandError, match=told):
        run(*words)


def test_what_was_finished_long_ago_is_deleted_with_its_attempts(acme, settings):
    subscribe(acme, "https://shop.example/")
    rows = tell(acme, 4)
    now = timezone.now()
    for row, state, days in zip(rows, ("delivered", "delivered", "dead", "pending"), (31, 29, 31, 400), strict=True):
        at = now - timedelta(days=days)
        WebhookDelivery.objects.filter(pk=row.pk).update(state=state, created_at=at, finished_at=at)
        WebhookAttempt.objects.create(
            delivery=row, endpoint=row.endpoint, at=at, is_success=True, status=200, latency_ms=1
        )
    assert outbox.delete_old() == 1
    assert list(WebhookDelivery.objects.order_by("pk")) == rows[1:]
    assert WebhookAttempt.objects.count() == 3
    settings.WEBHOOK_DEAD_RETENTION_DAYS = 30
    assert outbox.delete_old() == 1
    endpoints.remove(WebhookEndpoint.objects.get())
    assert outbox.delete_old() == 2, "of a removed endpoint everything goes"
    assert not WebhookAttempt.objects.exists()


def test_a_dead_delivery_that_is_replayed_while_old_ones_are_deleted_is_sent(transactional_db, acme):
    subscribe(acme, "https://shop.example/")
    [row] = tell(acme)
    long_ago = timezone.now() - timedelta(days=400)
    WebhookDelivery.objects.update(state=State.DEAD, created_at=long_ago, finished_at=long_ago)
    replayed, deleted = threading.Event(), threading.Event()

    def replay():
        with transaction.atomic():
            outbox.replay(WebhookDelivery.objects.filter(pk=row.pk))
            replayed.set()
            deleted.wait(0.5)  # where the deletion waits for this, it is over only afterwards
        connection.close()

    thread = threading.Thread(target=replay)
    thread.start()
    replayed.wait()
    assert outbox.delete_old() == 0
    deleted.set()
    thread.join()
    assert WebhookDelivery.objects.get().state == State.PENDING


def test_waits_grow_up_to_the_limit_and_differ(settings):
    waits = [outbox.wait_s(failures) for failures in range(20)]
    assert all(0.75 <= wait / min(28_800, 5 * 3**number) <= 1.25 for number, wait in enumerate(waits))
    assert len({outbox.wait_s(5) for _ in range(20)}) > 1
    assert sum(min(28_800, 5 * 3**number) for number in range(18)) > 3 * 86_400


def test_figures_tell_what_waits_what_is_dead_and_how_long_attempts_take(acme, globex):
    subscribe(acme, "https://shop.example/")
    paused, _ = subscribe(globex, "https://globex.example/")
    endpoints.change(paused, state="paused")
    rows = [*tell(acme, 3), *tell(globex)]
    WebhookDelivery.objects.filter(pk=rows[0].pk).update(state=State.DEAD)
    WebhookDelivery.objects.filter(pk=rows[1].pk).update(since=timezone.now() - timedelta(minutes=5))
    WebhookDelivery.objects.filter(endpoint=paused).update(since=timezone.now() - timedelta(days=5))
    for ms in (10.0, 20.0, 900.0):
        WebhookAttempt.objects.create(
            delivery=rows[1], endpoint=rows[1].endpoint, at=timezone.now(), is_success=True, latency_ms=ms
        )
    assert (figures.deliveries(State.PENDING), figures.deliveries(State.DEAD)) == (3, 1)
    assert 300 <= figures.oldest_pending_s() < 400
    assert figures.attempt_seconds() == [(0.5, 0.02), (0.95, 0.9), (0.99, 0.9)]
