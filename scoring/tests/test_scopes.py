"""What a key may be used for: the scope that each endpoint needs, schemas, networks, expiry."""

import json
import re
from datetime import timedelta

import pytest
from django.test import Client as HttpClient
from django.utils import timezone
from rest_framework.views import APIView

from fraudsite.testing import seed_payload
from scoring.clients import keys
from scoring.clients.models import Scope, all_scopes
from scoring.models import Label, WaitingLabel
from scoring.reviews import receiving
from scoring.urls import _addresses

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("keys_of_the_test")]

PUBLIC = {"schema", "docs"}
NOBODY = f"{'0' * 8}-0000-0000-0000-{'0' * 12}"
READING = f"/api/v1/predictions/{NOBODY}"


def views():
    """Name, address and class of every endpoint of the API that needs a key, with each method and its scope."""
    for pattern in _addresses:
        if pattern.name not in PUBLIC:
            address = "/" + re.sub("<.*?>", NOBODY, str(pattern.pattern))
            view = pattern.callback.view_class  # type: ignore[attr-defined]  # of Django
            for method in ("get", "post", "delete"):
                if hasattr(view, method):
                    scope = getattr(view, "scope", None)
                    scope = getattr(view, "reading_scope", scope) if method == "get" else scope
                    yield f"{method} {pattern.name}", address, view, method, scope


def with_key(client, **wanted):
    _, key = keys.create(client=client, **wanted)
    return HttpClient(headers={"Authorization": f"Bearer {key}"})


@pytest.mark.parametrize(("name", "view", "scope"), [(name, view, scope) for name, _, view, _, scope in views()])
def test_every_endpoint_declares_the_scope_that_it_needs(name, view, scope):
    assert issubclass(view, APIView)
    assert scope in Scope, f"{name}: write `scope = Scope.…` into {view.__name__}."


@pytest.mark.parametrize("scope", all_scopes())
@pytest.mark.parametrize(
    ("address", "method", "needed"), [(address, method, scope) for _, address, _, method, scope in views()]
)
def test_an_endpoint_lets_in_the_keys_with_its_scope_alone(acme, address, method, needed, scope):
    response = getattr(with_key(acme, scopes=[scope]), method)(address, content_type="application/json")
    if scope == needed:
        assert response.status_code in (200, 204, 400, 404, 415), "let in: no such row, or nothing in the body"
        return
    problem = response.json()
    assert response.status_code == problem["status"] == 403
    assert problem["type"] == "/problems/scope-missing"
    assert f"the scope {needed}" in problem["detail"]
    assert "administrator" in problem["detail"]


def test_keys_made_before_there_were_scopes_may_do_everything(acme, django_assert_num_queries):
    from scoring.models import ApiKey

    row, _ = keys.create(client=acme)
    fields = ("client_id", "prefix", "digest", "created_at")
    from django.db import connection

    with connection.cursor() as cursor:  # as code does that knows nothing of the new fields
        cursor.execute("UPDATE scoring_apikey SET digest = 'old' WHERE id = %s", [row.pk])
        cursor.execute(
            f"INSERT INTO scoring_apikey ({', '.join(fields)}) SELECT client_id, prefix, %s, created_at "  # noqa: S608
            "FROM scoring_apikey WHERE id = %s",
            ["new", row.pk],
        )
    found = ApiKey.objects.get(digest="new")
    assert (found.scopes, found.schemas, found.networks, found.expires_at) == (all_scopes(), [], [], None)


def test_a_schema_that_is_not_the_keys_is_refused_by_name(acme):
    api = with_key(acme, schemas=["handbook"])
    single = api.post("/api/v1/predict", json.dumps(seed_payload()), content_type="application/json")
    assert single.status_code == 403
    assert single.json()["type"] == "/problems/schema-not-allowed"
    assert "schema ulb" in single.json()["detail"]
    body = json.dumps({"transactions": [seed_payload(), seed_payload()]})
    batch = api.post("/api/v1/predict/batch", body, content_type="application/json")
    assert [row["status"] for row in batch.json()["results"]] == [403, 403]


def test_a_stored_transaction_of_another_schema_is_not_read_with_the_key(acme, transaction):
    row = transaction()
    api = with_key(acme, schemas=["handbook"])
    for address in (f"/api/v1/predictions/{row.pk}", f"/api/v1/predictions/{row.pk}/explanation"):
        response = api.get(address)
        assert response.status_code == 403
        assert "schema ulb" in response.json()["detail"]


def test_an_expired_key_is_refused_and_told_so(acme):
    expired = with_key(acme, expires_at=timezone.now() - timedelta(seconds=1))
    response = expired.get(READING)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert "expired on" in response.json()["detail"]
    assert with_key(acme, expires_at=timezone.now() + timedelta(days=1)).get(READING).status_code == 404


@pytest.mark.parametrize(
    ("networks", "address", "status"),
    [
        (["192.0.2.0/24"], "192.0.2.7", 404),
        (["192.0.2.0/24"], "192.0.3.7", 403),
        (["192.0.2.0/24"], "::ffff:192.0.2.7", 404),
        (["::ffff:192.0.2.0/120"], "192.0.2.7", 404),
        (["2001:db8::/32"], "2001:db8:1::9", 404),
        (["2001:db8::/32"], "192.0.2.7", 403),
        (["192.0.2.7", "2001:db8::/32"], "192.0.2.7", 404),
        (["192.0.2.0/24"], "", 403),
    ],
)
def test_a_key_works_from_its_networks_alone(acme, networks, address, status):
    response = with_key(acme, networks=networks).get(READING, REMOTE_ADDR=address)
    assert response.status_code == status
    if status == 403:
        assert response.json()["type"] == "/problems/address-outside-the-networks-of-the-key"
        assert "networks only" in response.json()["detail"]


@pytest.mark.parametrize(("behind_proxy", "status"), [(True, 404), (False, 403)])
def test_the_address_is_believed_of_the_trusted_proxy_alone(acme, settings, behind_proxy, status):
    settings.BEHIND_PROXY = behind_proxy
    api = with_key(acme, networks=["192.0.2.0/24"])
    seen = "203.0.113.9, 192.0.2.7"
    assert api.get(READING, headers={"X-Forwarded-For": seen}, REMOTE_ADDR="127.0.0.1").status_code == status
    forged = api.get(READING, headers={"X-Forwarded-For": "192.0.2.7, 203.0.113.9"}, REMOTE_ADDR="127.0.0.1")
    assert forged.status_code == 403


def label_of(name):
    return json.dumps({"transaction_id": name, "kind": "fraud", "event_time": timezone.now().isoformat()})


def test_a_label_about_a_transaction_of_another_schema_is_refused_at_once_and_later(acme, transaction):
    api = with_key(acme, schemas=["handbook"])
    transaction(transaction_id="order-1")
    response = api.post("/api/v1/labels", label_of("order-1"), content_type="application/json")
    assert response.status_code == 403
    assert "schema ulb" in response.json()["detail"]
    for name in ("order-2", "order-3"):
        assert api.post("/api/v1/labels", label_of(name), content_type="application/json").status_code == 202
    transaction(transaction_id="order-2")
    transaction(transaction_id="order-3", schema="handbook", tokens={})
    receiving.attach(limit=10)
    assert [label.transaction.transaction_id for label in Label.objects.all()] == ["order-3"]
    assert not WaitingLabel.objects.exists()
