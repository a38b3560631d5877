"""Operators look after webhooks in the admin: endpoints, secrets, deliveries, replays."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone
from standardwebhooks import Webhook

from scoring.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookSecret
from scoring.tests.receivers import subscribe
from scoring.webhooks import events
from scoring.webhooks.types import EventType

pytestmark = pytest.mark.django_db

LIST = reverse("admin:scoring_webhookendpoint_changelist")
ADD = reverse("admin:scoring_webhookendpoint_add")
DELIVERIES = reverse("admin:scoring_webhookdelivery_changelist")
State = WebhookDelivery.State


@pytest.fixture
def page(client, otto):
    client.force_login(otto)
    return client


@pytest.fixture
def hook(acme):
    return subscribe(acme, "https://shop.example/fraud")[0]


def of(hook, name):
    return reverse(f"admin:scoring_webhookendpoint_{name}", args=[hook.pk])


def tell(client, count=1, **values):
    for number in range(count):
        events.record(EventType.BATCH_FINISHED, object=f"batch:{number}", data={"id": number}, client=client.pk)
    WebhookDelivery.objects.update(**values)
    return list(WebhookDelivery.objects.order_by("pk"))


def attempt(delivery, **values):
    common = {"endpoint": delivery.endpoint, "at": timezone.now(), "is_success": False, "latency_ms": 12.0}
    return WebhookAttempt.objects.create(delivery=delivery, **common | values)


def test_an_operator_makes_an_endpoint_and_sees_its_secret_once(page, acme):
    form = {"client": acme.pk, "url": "https://shop.example/fraud", "event_types": ["alert.opened"], "schemas": ["ulb"]}
    response = page.post(ADD, form)
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    [secret] = re.findall(r"<code>(whsec_[\w+/=]+)</code>", response.content.decode())
    assert Webhook(secret)
    row = WebhookEndpoint.objects.get()
    assert (row.client, row.event_types, row.schemas, row.state) == (acme, ["alert.opened"], ["ulb"], "active")
    assert secret not in page.get(of(row, "change")).content.decode()
    assert LogEntry.objects.filter(object_id=row.pk).count() == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"url": "http://shop.example/"}, "must begin with https://"),
        ({"url": "https://10.0.0.1/"}, "not public"),
        ({"event_types": []}, "required"),
        ({"event_types": ["nosuch"]}, "valid choice"),
        ({"client": 0}, "valid choice"),
    ],
)
def test_a_wrong_endpoint_is_refused_with_the_reason_at_its_field(page, acme, changes, told):
    form = {"client": acme.pk, "url": "https://shop.example/", "event_types": ["alert.opened"]} | changes
    response = page.post(ADD, form)
    assert told in response.content.decode()
    assert not WebhookEndpoint.objects.exists()


def test_an_endpoint_is_changed_and_the_change_is_in_its_history(page, hook):
    form = {"url": "https://other.example/", "description": "", "event_types": ["review.decided"], "schemas": []}
    assert page.post(of(hook, "change"), form).status_code == 302
    hook.refresh_from_db()
    assert (hook.url, hook.event_types) == ("https://other.example/", ["review.decided"])
    assert LogEntry.objects.get(object_id=hook.pk).get_change_message()


def test_the_list_tells_how_each_endpoint_is_doing(page, acme, hook):
    first, second, _ = tell(acme, 3)
    WebhookDelivery.objects.filter(pk=second.pk).update(state=State.DEAD, finished_at=timezone.now())
    attempt(first, status=500)
    attempt(first, status=204, is_success=True)
    row = page.get(LIST).content.decode()
    assert re.search(r'field-failure_rate"><span class="late" title="[^"]*">50%', row)
    assert re.search(r'field-pending"><a [^>]*>2<', row)
    assert re.search(r'field-dead"><a [^>]*class="late">1<', row)


def test_a_secret_is_added_beside_the_one_that_signs(page, hook):
    response = page.post(of(hook, "rotate"))
    assert b"whsec_" in response.content
    old, new = WebhookSecret.objects.order_by("pk")
    assert timezone.now() + timedelta(hours=23) < old.expires_at < timezone.now() + timedelta(hours=25)
    assert new.expires_at is None
    assert page.get(of(hook, "rotate")).status_code == 302, "a link alone changes nothing"
    assert WebhookSecret.objects.count() == 2


def test_a_test_event_is_sent_from_the_page_and_from_the_list(page, hook):
    page.post(of(hook, "test"))
    page.post(LIST, {"action": "test", "_selected_action": [hook.pk]})
    assert list(WebhookDelivery.objects.values_list("type", flat=True)) == ["webhook.test"] * 2


def test_endpoints_are_paused_resumed_and_removed(page, hook):
    for action, state in (("pause", "paused"), ("resume", "active"), ("remove", "removed")):
        page.post(LIST, {"action": action, "_selected_action": [hook.pk]})
        hook.refresh_from_db()
        assert hook.state == state
    assert "shop.example" not in page.get(LIST).content.decode().partition('id="changelist-form"')[2]
    assert "shop.example" in page.get(LIST, {"state": "removed"}).content.decode()
    assert page.get(of(hook, "change")).status_code == 200, "what was there can be read"
    assert page.post(of(hook, "test")).status_code == 404


def test_a_delivery_shows_its_body_and_each_attempt_escaped(page, acme, hook):
    [delivery] = tell(acme)
    attempt(delivery, status=500, answer="<script>alert(1)</script>", fault="")
    attempt(delivery, fault="No whole answer within 10 s.")
    text = page.get(reverse("admin:scoring_webhookdelivery_change", args=[delivery.pk])).content.decode()
    assert delivery.message_id in text
    assert "&quot;type&quot;: &quot;batch.finished&quot;" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert(1)" not in text
    assert "No whole answer within 10 s." in text


def test_deliveries_are_found_by_state_endpoint_and_message(page, acme, globex, hook):
    other, _ = subscribe(globex, "https://globex.example/")
    dead, _, _ = tell(acme, 3)
    tell(globex)
    WebhookDelivery.objects.filter(pk=dead.pk).update(state=State.DEAD)

    def found(**query):
        return set(re.findall(r"msg_\w{32}", page.get(DELIVERIES, query).content.decode()))

    assert found(state__exact="dead") == {dead.message_id}
    assert len(found(endpoint=other.pk)) == 1
    assert found(q=dead.message_id) == {dead.message_id}
    for strange in ("msg_1", "\0", "x" * 10_000):
        assert page.get(DELIVERIES, {"q": strange}).status_code in (200, 302)
    assert page.get(DELIVERIES, {"endpoint": "9" * 40}).status_code in (200, 302)


def test_dead_deliveries_are_sent_again_one_many_or_all_since_a_time(page, acme, hook):
    def dead():
        WebhookDelivery.objects.update(state=State.DEAD, finished_at=timezone.now(), attempts=17)

    rows = tell(acme, 4)
    dead()
    page.post(DELIVERIES, {"action": "replay", "_selected_action": [row.pk for row in rows[:2]]})
    assert list(WebhookDelivery.objects.filter(state=State.PENDING).order_by("pk")) == rows[:2]
    assert LogEntry.objects.count() == 2
    dead()
    old = timezone.now() - timedelta(days=5)
    WebhookDelivery.objects.filter(pk=rows[0].pk).update(created_at=old)
    WebhookDelivery.objects.filter(pk=rows[1].pk).update(state=State.DELIVERED)
    page.post(of(hook, "replay"), {"since": (timezone.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")})
    assert list(WebhookDelivery.objects.filter(state=State.PENDING).order_by("pk")) == rows[2:]
    page.post(of(hook, "replay"), {"everything": "on"})
    assert WebhookDelivery.objects.filter(state=State.PENDING, attempts=0).count() == 4


def test_a_wrong_time_sends_nothing_again(page, acme, hook):
    tell(acme, state=State.DEAD)
    assert b"Enter a valid date" in page.post(of(hook, "replay"), {"since": "tomorrow"}).content
    assert not WebhookDelivery.objects.filter(state=State.PENDING).exists()


def test_analysts_look_and_change_nothing(client, alice, acme, hook):
    client.force_login(alice)
    [delivery] = tell(acme, state=State.DEAD)
    assert client.get(LIST).status_code == 200
    assert client.get(of(hook, "change")).status_code == 200
    assert client.get(ADD).status_code == 403
    for name in ("test", "rotate", "replay"):
        assert client.post(of(hook, name)).status_code == 403
    client.post(DELIVERIES, {"action": "replay", "_selected_action": [delivery.pk]})
    client.post(LIST, {"action": "pause", "_selected_action": [hook.pk]})
    delivery.refresh_from_db()
    hook.refresh_from_db()
    assert (delivery.state, hook.state) == (State.DEAD, "active")
