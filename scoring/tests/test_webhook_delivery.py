"""Webhooks arrive: signed, at least once, in order, and independently of each other. With real receivers and a real
deliverer."""

import asyncio
import re
import threading
import time
from collections import defaultdict
from datetime import timedelta

import httpx
import pytest
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from fraudsite.testing import METRICS_TOKEN, PROCESS_START_S, free_port
from scoring.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from scoring.tests.receivers import WAIT_S, deliverer, receiving, subscribe, wait_until
from scoring.tests.test_tracing import PARENT, TRACE, attributes_of, collecting
from scoring.webhooks import endpoints, events, outbox, sending
from scoring.webhooks.delivering import Deliverer
from scoring.webhooks.types import EventType

pytestmark = pytest.mark.django_db(transaction=True)

State = WebhookDelivery.State


def tell(client, *objects, data=None):
    for thing in objects:
        events.record(EventType.BATCH_FINISHED, object=thing, data=data or {"id": thing}, client=client.pk)


def pending():
    return WebhookDelivery.objects.filter(state=State.PENDING)


def test_a_message_is_signed_as_standard_webhooks_has_it(acme):
    with receiving() as receiver, deliverer():
        _, secret = subscribe(acme, receiver.url)
        tell(acme, "batch:1", data={"id": "1", "rows": 3})
        [call] = receiver.await_calls(1)
        content = Webhook(secret).verify(call.body, call.headers)
        assert content["type"] == "batch.finished"
        assert content["data"] == {"id": "1", "rows": 3}
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(call.body + b" ", call.headers)
        wait_until(lambda: not pending().exists())
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.message_id) == (State.DELIVERED, 1, call.id)
    assert WebhookEndpoint.objects.get().last_success_at is not None


def test_while_secrets_are_changed_a_message_is_signed_with_both(acme):
    with receiving() as receiver, deliverer():
        endpoint, old = subscribe(acme, receiver.url)
        new = endpoints.rotate(endpoint)
        tell(acme, "batch:1")
        [call] = receiver.await_calls(1)
        assert Webhook(old).verify(call.body, call.headers) == Webhook(new).verify(call.body, call.headers)
        newest = endpoints.rotate(endpoint, keep_s=0)
        time.sleep(1.1)  # for so long a deliverer goes by the secrets that it has read
        tell(acme, "batch:2")
        call = receiver.await_calls(2)[-1]
        assert Webhook(newest).verify(call.body, call.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(new).verify(call.body, call.headers)


@pytest.fixture
def collector():
    with collecting(free_port()) as collector:
        yield collector


def test_what_fails_is_sent_again_with_the_same_id_until_it_arrives_and_each_attempt_is_told_of(acme, collector):
    answers = iter([500, 404, 204])
    told = {"METRICS_PORT": (port := free_port()), "METRICS_TOKEN": METRICS_TOKEN}
    told |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "TRACES_SHARE": 0}
    with receiving(lambda _: (next(answers), {})) as receiver, deliverer(**told):
        _, secret = subscribe(acme, receiver.url)
        events.record_all([events.Event("batch.finished", "batch:1", {}, acme.pk, span=f"00-{TRACE}-{PARENT}-01")])
        calls = receiver.await_calls(3)
        assert len({call.id for call in calls}) == 1
        assert all(Webhook(secret).verify(call.body, call.headers) for call in calls)
        wait_until(lambda: not pending().exists())
        address, shown = f"http://127.0.0.1:{port}/metrics", {"Authorization": f"Bearer {METRICS_TOKEN}"}
        counted = re.findall(r'attempts_seconds_count{outcome="(.+)"} (.+)', httpx.get(address, headers=shown).text)
        assert counted == [("5xx", "1.0"), ("4xx", "1.0"), ("delivered", "1.0")]
    assert [row.status for row in WebhookAttempt.objects.order_by("at")] == [500, 404, 204]
    spans = [span for span in collector.spans if span["name"] == "webhook batch.finished"]
    assert [str(attributes_of(span)["http.response.status_code"]) for span in spans] == ["500", "404", "204"]
    assert {(span["traceId"].lower(), span["parentSpanId"].lower()) for span in spans} == {(TRACE, PARENT)}
    assert receiver.url not in "".join(collector.raw)


def test_a_receiver_that_does_not_answer_in_time_is_tried_again(acme):
    def answer(_):
        if len(receiver.calls) == 1:
            time.sleep(2)
        return 204, {}

    with receiving(answer) as receiver, deliverer(WEBHOOK_TIMEOUT_S=0.5):
        subscribe(acme, receiver.url)
        tell(acme, "batch:1")
        wait_until(lambda: WebhookDelivery.objects.filter(state=State.DELIVERED).exists())
    first = WebhookAttempt.objects.order_by("at").first()
    assert (first.status, first.fault) == (None, "No whole answer within 0.5 s.")
    assert 400 < first.latency_ms < 2_000


def test_events_of_an_object_arrive_in_order_and_a_failing_one_holds_up_only_those(acme):
    failures: dict[str, int] = defaultdict(int)

    def answer(call):
        about = call.content["data"]
        if about["object"] == "stuck" and about["number"] == 0 and failures["stuck"] < 4:
            failures["stuck"] += 1
            return 500, {}
        return 204, {}

    with receiving(answer) as receiver:
        subscribe(acme, receiver.url)
        for number in range(20):
            for thing in ("stuck", "free"):
                tell(acme, thing, data={"object": thing, "number": number})
        with deliverer(WEBHOOK_RETRY_S=0.3):
            receiver.await_calls(44)
    told = [call.content["data"] for call in receiver.calls]
    of = {name: [about["number"] for about in told if about["object"] == name] for name in ("stuck", "free")}
    assert of["free"] == list(range(20))
    assert of["stuck"] == [0] * 4 + list(range(20))
    last_free = max(place for place, about in enumerate(told) if about["object"] == "free")
    assert told.index({"object": "stuck", "number": 1}) > last_free


def test_a_slow_and_a_dead_receiver_delay_nobody_else(acme, globex):
    released = threading.Event()

    def slow(_):
        released.wait(PROCESS_START_S)
        return 204, {}

    with receiving(slow) as late, receiving() as receiver:
        subscribe(acme, late.url)
        subscribe(acme, "http://127.0.0.1:9/hook")  # nobody listens there
        subscribe(globex, receiver.url)
        tell(acme, *(f"batch:{number}" for number in range(200)))
        with deliverer(WEBHOOK_CONCURRENCY=4, WEBHOOK_TIMEOUT_S=60):
            try:
                late.await_calls(4)
                tell(globex, *(f"batch:{number}" for number in range(50)))
                receiver.await_calls(50)
                assert not WebhookAttempt.objects.filter(endpoint__client=acme, status=204).exists()
            finally:
                released.set()


def test_a_killed_deliverer_loses_nothing(acme):
    def slow(_):
        time.sleep(0.02)
        return 204, {}

    with receiving(slow) as receiver:
        subscribe(acme, receiver.url)
        tell(acme, *(f"batch:{number}" for number in range(300)))
        for _ in range(3):
            with deliverer(WEBHOOK_CONCURRENCY=8) as process:
                seen = len(receiver.calls)
                receiver.await_calls(seen + 20)
                process.kill()
                process.wait()
        left = pending()
        assert left.exists()
        assert left.filter(due_at__gt=timezone.now()).exists(), "some were under way"
        left.update(due_at=timezone.now())  # instead of waiting until the claims run out
        with deliverer():
            wait_until(lambda: not pending().exists())
    assert {call.content["data"]["id"] for call in receiver.calls} == {f"batch:{number}" for number in range(300)}


def test_claims_of_a_killed_deliverer_run_out(acme):
    subscribe(acme, "http://127.0.0.1:9/hook")
    tell(acme, "batch:1")
    endpoint = WebhookEndpoint.objects.get().pk
    [claimed] = outbox.turn(endpoint, [], 10)
    assert outbox.turn(endpoint, [], 10) == [], "another deliverer does not get it as well"
    assert timezone.now() < claimed.due_at < timezone.now() + timedelta(minutes=2)


def test_two_deliverers_send_everything_once(acme):
    with receiving() as receiver:
        subscribe(acme, receiver.url)
        tell(acme, *(f"batch:{number}" for number in range(200)))
        with deliverer(), deliverer():
            wait_until(lambda: not pending().exists())
    assert len(receiver.calls) == 200


def test_what_a_receiver_asks_for_with_retry_after_is_done(acme):
    answers = iter([(429, {"Retry-After": "2"}), *[(204, {})] * 9])
    with receiving(lambda _: next(answers)) as receiver, deliverer():
        subscribe(acme, receiver.url)
        tell(acme, "batch:1")
        receiver.await_calls(1)
        first = time.monotonic()
        wait_until(lambda: WebhookEndpoint.objects.get().wait_until)
        tell(acme, "batch:2")
        receiver.await_calls(3)
        assert time.monotonic() - first > 1.5, "the other event waited, too"


def test_a_receiver_that_asks_for_a_time_beyond_the_calendar_is_sent_to_as_any_other(acme):
    year, offset = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2027 00:00:00 +99999999999999999999"
    last = "Fri, 31 Dec 9999 23:59:59 -2359"
    answers = iter([(500, year), (500, offset), (500, last), *[(204, year)] * 9])

    def answer(_):
        status, moment = next(answers)
        return status, {"Retry-After": moment}

    with receiving(answer) as receiver, deliverer():
        subscribe(acme, receiver.url)
        tell(acme, "batch:1")
        wait_until(lambda: WebhookAttempt.objects.count() == 3)
        assert (
            WebhookDelivery.objects.update(due_at=timezone.now()) == 1
        )  # the last time can be read, and is waited for
        wait_until(lambda: not pending().exists())
    assert [row.status for row in WebhookAttempt.objects.order_by("at")] == [500, 500, 500, 204]


def test_a_receiver_that_is_gone_gets_no_more(acme):
    with receiving(lambda _: (410, {})) as receiver, deliverer():
        endpoint, _ = subscribe(acme, receiver.url)
        tell(acme, "batch:1")
        wait_until(lambda: WebhookDelivery.objects.filter(state=State.DEAD).exists())
        wait_until(lambda: WebhookEndpoint.objects.get().state == WebhookEndpoint.State.DISABLED)
        tell(acme, "batch:2")
        assert WebhookDelivery.objects.count() == 1, "nothing is stored for it any more"
        receiver.answer = lambda _: (204, {})
        endpoint.refresh_from_db()
        endpoints.change(endpoint, state="active")
        assert outbox.replay(WebhookDelivery.objects.all()) == 1
        wait_until(lambda: WebhookDelivery.objects.filter(state=State.DELIVERED).exists())
    assert len({call.id for call in receiver.calls}) == 1, "a replay has the id of the first attempt"


def test_after_the_days_of_retries_a_delivery_is_dead(acme):
    with receiving(lambda _: (500, {})) as receiver, deliverer():
        subscribe(acme, receiver.url)
        tell(acme, "batch:1")
        receiver.await_calls(2)
        WebhookDelivery.objects.update(since=timezone.now() - timedelta(days=4))
        wait_until(lambda: WebhookDelivery.objects.filter(state=State.DEAD).exists())
    row = WebhookDelivery.objects.get()
    assert row.attempts >= 2
    assert row.fault == "The receiver answered 500."


def test_a_redirect_is_not_followed(acme):
    with receiving() as inside, receiving(lambda _: (307, {"Location": inside.url})) as receiver, deliverer():
        subscribe(acme, receiver.url)
        tell(acme, "batch:1")
        receiver.await_calls(2)
        wait_until(lambda: WebhookAttempt.objects.exists())
        assert inside.calls == []
    assert "Redirects are not followed" in WebhookAttempt.objects.first().fault


def test_without_the_setting_nothing_is_sent_to_a_private_address(acme):
    with receiving() as receiver, deliverer(WEBHOOK_PRIVATE_TARGETS="false"):
        subscribe(acme, receiver.url.replace("http://", "https://"))
        tell(acme, "batch:1")
        wait_until(lambda: WebhookAttempt.objects.exists())
        assert receiver.calls == []
    assert "not public" in WebhookAttempt.objects.first().fault


def test_a_huge_answer_is_read_to_its_beginning_only(acme):
    with receiving(lambda _: (200, {"Content-Length": str(2**40)})) as receiver, deliverer(WEBHOOK_TIMEOUT_S=1):
        subscribe(acme, receiver.url)
        tell(acme, "batch:1")
        wait_until(lambda: WebhookAttempt.objects.exists())
    assert WebhookAttempt.objects.first().fault == "No whole answer within 1 s."


def test_a_paused_endpoint_hears_of_its_events_when_it_goes_on(acme):
    with receiving() as receiver, deliverer():
        endpoint, _ = subscribe(acme, receiver.url)
        endpoints.change(endpoint, state="paused")
        tell(acme, "batch:1")
        time.sleep(0.3)
        assert receiver.calls == []
        endpoints.change(endpoint, state="active")
        receiver.await_calls(1)


def test_a_connection_by_which_nothing_is_sent_for_a_while_is_closed(monkeypatch, settings):
    settings.WEBHOOK_PRIVATE_TARGETS, settings.WEBHOOK_POLL_S = True, 0.01
    monkeypatch.setattr(sending, "KEEP_S", 0.1)
    waiting = [WebhookDelivery(endpoint_id=1, type="webhook.test", payload="{}")]
    monkeypatch.setattr(outbox, "waiting", lambda now: [1] if waiting else [])
    monkeypatch.setattr(outbox, "turn", lambda endpoint, outcomes, room: [waiting.pop()] if room and waiting else [])

    async def receive_one():
        arrived, closed, at_work = asyncio.Event(), asyncio.Event(), Deliverer()

        async def receive(reader, writer):
            await reader.readuntil(b"{}")
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            arrived.set()
            assert await reader.read() == b""
            closed.set()
            writer.close()

        async with await asyncio.start_server(receive, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            target = endpoints.Target(url, [Webhook("whsec_c2VjcmV0")])
            monkeypatch.setattr(endpoints, "target", lambda key: target)
            running = asyncio.create_task(at_work.run())
            for happened in (arrived, closed):
                await asyncio.wait_for(happened.wait(), WAIT_S)
            at_work.stop()
            await running

    asyncio.run(receive_one())
