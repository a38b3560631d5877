"""Clients look after their own webhooks, and nobody else's."""

import json
from datetime import timedelta
from uuid import UUID

import pytest
from django.test import Client as HttpClient
from django.utils import timezone

from fraudsite.audit.models import Entry
from scoring.api.hooks.views import HookView, WebhookView
from scoring.clients import keys
from scoring.models import WebhookDelivery, WebhookEndpoint, WebhookSecret
from scoring.webhooks import endpoints, events
from scoring.webhooks.types import EventType

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("keys_of_the_test")]

ROOT = "/api/v1/webhooks"
HOOK = {"url": "https://shop.example/fraud", "event_types": ["alert.opened", "review.decided"]}


def send(api, method, address, body=None):
    content = "" if body is None else body if isinstance(body, bytes) else json.dumps(body)
    return api.generic(method, address, content, content_type="application/json")


@pytest.fixture
def hook(acme_api):
    """An endpoint of Acme's, as the answer had it."""
    response = send(acme_api, "POST", ROOT, HOOK)
    assert response.status_code == 201, response.content
    return response.json()


def test_an_endpoint_is_made_read_changed_and_removed(acme_api, hook):
    address = f"{ROOT}/{hook['id']}"
    secret = hook.pop("secret")
    assert secret.startswith("whsec_")
    assert len(secret) == 50
    assert hook["state"] == "active"
    assert acme_api.get(address).json() == hook
    assert acme_api.get(ROOT).json() == {"results": [hook], "next": None}
    changed = send(acme_api, "PATCH", address, {"state": "paused", "schemas": ["ulb"], "description": "ours"})
    assert changed.json() == hook | {"state": "paused", "schemas": ["ulb"], "description": "ours"}
    assert send(acme_api, "DELETE", address).status_code == 204
    assert acme_api.get(address).status_code == 404
    assert acme_api.get(ROOT).json()["results"] == []
    assert not WebhookSecret.objects.exists()


@pytest.mark.parametrize(
    ("method", "part", "body"),
    [("PATCH", "", {"state": "active"}), ("POST", "/secrets", {"keep_s": 5}), ("DELETE", "", None)],
)
def test_what_is_asked_of_an_endpoint_while_it_is_removed_does_not_bring_it_back(
    acme_api, hook, monkeypatch, method, part, body
):
    found = WebhookView.find

    def removed_meanwhile(self, request, key):
        row = found(self, request, key)
        endpoints.remove(WebhookEndpoint.objects.get(pk=row.pk))
        return row

    monkeypatch.setattr(HookView, "find", removed_meanwhile)
    assert send(acme_api, method, f"{ROOT}/{hook['id']}{part}", body).status_code == 404


def test_a_secret_is_stored_encrypted_and_shown_once(acme_api, hook):
    [row] = WebhookSecret.objects.all()
    assert hook["secret"] not in row.sealed
    assert hook["secret"].removeprefix("whsec_") not in row.sealed
    told = acme_api.get(f"{ROOT}/{hook['id']}")
    assert b"whsec_" not in told.content
    assert told["Cache-Control"] == "no-store"


def test_another_secret_key_reads_no_secret_and_says_so(hook, settings):
    endpoint = WebhookEndpoint.objects.get()
    settings.SECRET_KEY = "x" * 50
    found = endpoints.target(endpoint.pk)
    assert found.secrets == []
    assert "SECRET_KEY has changed" in found.fault
    endpoints.rotate(endpoint, keep_s=0)
    assert len(endpoints.target(endpoint.pk).secrets) == 1


def test_rotation_keeps_the_earlier_secrets_for_a_while(acme_api, hook):
    endpoint, address = WebhookEndpoint.objects.get(), f"{ROOT}/{hook['id']}/secrets"
    second = send(acme_api, "POST", address)
    assert second.status_code == 201
    assert len(endpoints.live_secrets(endpoint, timezone.now())) == 2
    assert len(endpoints.live_secrets(endpoint, timezone.now() + timedelta(hours=25))) == 1
    assert send(acme_api, "POST", address, {"keep_s": 0}).status_code == 201
    assert len(endpoints.live_secrets(endpoint, timezone.now())) == 1
    for _ in range(10):
        send(acme_api, "POST", address)
    assert len(endpoints.live_secrets(endpoint, timezone.now())) == endpoints.LIVE_SECRETS_LIMIT


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"url": "http://shop.example/"}, "/url"),
        ({"url": "https://127.0.0.1/"}, "/url"),
        ({"url": "https://[::ffff:169.254.169.254]/latest"}, "/url"),
        ({"url": "https://user:secret@shop.example/"}, "/url"),
        ({"url": "https://shop.example/" + "a" * 500}, "/url"),
        ({"url": 7}, "/url"),
        ({"url": None}, "/url"),
        ({"url": ["https://shop.example/"]}, "/url"),
        ({"event_types": []}, "/event_types"),
        ({"event_types": "alert.opened"}, "/event_types"),
        ({"event_types": ["alert.opened", "alert.opened"]}, "/event_types"),
        ({"event_types": ["webhook.test"]}, "/event_types"),
        ({"event_types": [{}]}, "/event_types"),
        ({"event_types": [["alert.opened"]]}, "/event_types"),
        ({"event_types": {"alert.opened": 1}}, "/event_types"),
        ({"schemas": ["nosuch"]}, "/schemas"),
        ({"schemas": None}, "/schemas"),
        ({"schemas": [[]]}, "/schemas"),
        ({"description": "a" * 201}, "/description"),
        ({"description": 1}, "/description"),
        ({"description": "4111 1111 1111 1111"}, "/description"),
        ({"url": "https://shop.example/?card=4111111111111111"}, "/url"),
    ],
)
def test_a_wrong_value_is_refused_by_name(acme_api, hook, changes, pointer):
    for method, address, body in (("POST", ROOT, HOOK | changes), ("PATCH", f"{ROOT}/{hook['id']}", changes)):
        response = send(acme_api, method, address, body)
        assert response.status_code == 422, response.content
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert WebhookEndpoint.objects.count() == 1
    assert WebhookEndpoint.objects.get().url == HOOK["url"]


def test_one_refusal_names_all_wrong_values(acme_api, hook):
    wrong = {"url": "http://shop.example/", "event_types": ["no.such"], "description": 1}
    for method, address, body in (("POST", ROOT, HOOK | wrong), ("PATCH", f"{ROOT}/{hook['id']}", wrong)):
        errors = send(acme_api, method, address, body).json()["errors"]
        assert {error["pointer"] for error in errors} == {"/url", "/event_types", "/description"}


@pytest.mark.parametrize(
    "body",
    [b" ", b"[]", b"nul", b"\xff", b'{"url": "\\u0000"}', {}, {"url": "https://shop.example/"}, HOOK | {"id": 1}],
)
def test_a_malformed_body_is_refused(acme_api, body):
    response = send(acme_api, "POST", ROOT, body)
    assert response.status_code == 400, response.content
    assert response["Content-Type"] == "application/problem+json"


def test_each_unknown_field_is_named(acme_api, hook):
    response = send(acme_api, "PATCH", f"{ROOT}/{hook['id']}", {"secret": "x", "id": 1})
    assert [error["pointer"] for error in response.json()["errors"]] == ["/secret", "/id"]


@pytest.mark.parametrize("state", ["disabled", "removed", "", 1, None, []])
def test_a_state_is_set_to_active_or_paused_only(acme_api, hook, state):
    assert send(acme_api, "PATCH", f"{ROOT}/{hook['id']}", {"state": state}).status_code == 422


def test_a_client_has_so_many_endpoints_and_removed_ones_do_not_count(acme_api, hook, settings):
    settings.WEBHOOK_ENDPOINTS_LIMIT = 2
    assert send(acme_api, "POST", ROOT, HOOK).status_code == 201
    assert send(acme_api, "POST", ROOT, HOOK).status_code == 422
    send(acme_api, "DELETE", f"{ROOT}/{hook['id']}")
    assert send(acme_api, "POST", ROOT, HOOK).status_code == 201


@pytest.mark.parametrize(
    ("method", "part"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/secrets"),
        ("POST", "/test"),
        ("GET", "/deliveries"),
        ("POST", "/replay"),
    ],
)
def test_another_clients_endpoint_looks_like_one_that_does_not_exist(globex_api, hook, method, part):
    theirs = send(globex_api, method, f"{ROOT}/{hook['id']}{part}", None if method == "GET" else {})
    nobodys = send(globex_api, method, f"{ROOT}/{UUID(int=0)}{part}", None if method == "GET" else {})
    assert theirs.status_code == nobodys.status_code == 404
    assert globex_api.get(ROOT).json()["results"] == []
    assert WebhookEndpoint.objects.get().state == "active"


def test_a_key_of_some_schemas_reaches_endpoints_of_these_alone(acme, acme_api, hook):
    _, key = keys.create(client=acme, schemas=["handbook"], name="narrow")
    narrow = HttpClient(headers={"Authorization": f"Bearer {key}"})
    assert narrow.get(f"{ROOT}/{hook['id']}").status_code == 404
    assert send(narrow, "POST", ROOT, HOOK | {"schemas": ["ulb"]}).status_code == 403
    made = send(narrow, "POST", ROOT, HOOK).json()
    assert made["schemas"] == ["handbook"]
    assert send(narrow, "PATCH", f"{ROOT}/{made['id']}", {"schemas": []}).json()["schemas"] == ["handbook"]
    assert [row["id"] for row in narrow.get(ROOT).json()["results"]] == [made["id"]]


def test_a_test_event_is_put_into_the_outbox(acme_api, hook):
    sent = send(acme_api, "POST", f"{ROOT}/{hook['id']}/test")
    assert sent.status_code == 202
    row = WebhookDelivery.objects.get()
    assert (row.message_id, row.type, row.endpoint.url) == (sent.json()["id"], "webhook.test", HOOK["url"])
    assert json.loads(row.payload)["data"]["endpoint"] == hook["id"]


def test_deliveries_are_listed_by_page_and_state(acme, acme_api, hook):
    for number in range(205):
        events.record(EventType.ALERT_OPENED, object=str(number), data={"n": number}, client=acme.pk)
    newest = WebhookDelivery.objects.order_by("-pk").first()
    WebhookDelivery.objects.filter(pk=newest.pk).update(state="dead", finished_at=timezone.now(), fault="gone")
    address, seen = f"{ROOT}/{hook['id']}/deliveries", []
    while address:
        page = acme_api.get(address).json()
        seen += [row["id"] for row in page["results"]]
        address = page["next"]
    assert seen == [row.message_id for row in WebhookDelivery.objects.order_by("-pk")]
    [dead] = acme_api.get(f"{ROOT}/{hook['id']}/deliveries?state=dead").json()["results"]
    assert (dead["id"], dead["state"], dead["fault"], dead["due_at"]) == (newest.message_id, "dead", "gone", None)


@pytest.mark.parametrize(
    "query", ["state=lost", "state=%00", "cursor=nonsense", "cursor=", "page=2", "state=dead&state=dead"]
)
def test_a_wrong_query_is_refused(acme_api, hook, query):
    assert acme_api.get(f"{ROOT}/{hook['id']}/deliveries?{query}").status_code == 400


def test_deliveries_are_replayed_dead_ones_all_since_a_time_or_by_name(acme, acme_api, hook):
    for number in range(4):
        events.record(EventType.ALERT_OPENED, object=str(number), data={}, client=acme.pk)
    rows = list(WebhookDelivery.objects.order_by("pk"))
    old = timezone.now() - timedelta(days=10)
    states = ["dead", "dead", "delivered", "delivered"]

    def begin():
        for row, state in zip(rows, states, strict=True):
            WebhookDelivery.objects.filter(pk=row.pk).update(state=state, finished_at=timezone.now())
        WebhookDelivery.objects.filter(pk=rows[0].pk).update(created_at=old, since=old)

    def replay(body):
        begin()
        response = send(acme_api, "POST", f"{ROOT}/{hook['id']}/replay", body)
        assert response.status_code == 202, response.content
        again = WebhookDelivery.objects.filter(state="pending").order_by("pk")
        assert response.json() == {"replayed": len(again)}
        assert all(row.since > timezone.now() - timedelta(minutes=5) for row in again), "tried for three days more"
        return [rows.index(row) for row in again]

    yesterday = (timezone.now() - timedelta(days=1)).isoformat()
    assert replay(None) == [0, 1]
    assert replay({"since": yesterday}) == [1]
    assert replay({"since": yesterday, "all": True}) == [1, 2, 3]
    assert replay({"ids": [rows[2].message_id, rows[0].message_id]}) == [0, 2]


@pytest.mark.parametrize(
    "body",
    [
        {"since": "yesterday"},
        {"since": "2026-01-31T12:00:00"},
        {"since": "9999-12-31T23:59:59-14:00"},
        {"since": 5},
        {"all": "yes"},
        {"ids": []},
        {"ids": ["7"]},
        {"ids": [7]},
        {"ids": ["msg_" + "0" * 10_000]},
    ],
)
def test_a_replay_of_something_else_is_refused(acme_api, hook, body):
    assert send(acme_api, "POST", f"{ROOT}/{hook['id']}/replay", body).status_code == 422


def test_what_a_client_does_is_in_the_audit_trail_and_no_secret_is(acme_api, hook):
    address = f"{ROOT}/{hook['id']}"
    secret = send(acme_api, "POST", f"{address}/secrets").json()["secret"]
    send(acme_api, "PATCH", address, {"state": "paused"})
    send(acme_api, "DELETE", address)
    told = [entry.detail for entry in Entry.objects.filter(kind="scoring.webhookendpoint").order_by("pk")]
    assert ["Made" in told[0], "secret" in told[1], "state" in told[2], "Removed" in told[3]] == [True] * 4
    assert all("of Acme" in one and secret not in one for one in told)
