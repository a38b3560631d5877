"""No address of the API tells a client of another's rows: every one is tried with all ids of another client.

Addresses come from the URL configuration, and tables from the models. A new one that this test does not know how to try
makes it fail: say in `BODIES` how its body names a row, or in `MADE` how a row is made.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.apps import apps
from django.db import models
from django.forms.models import model_to_dict
from django.urls import converters, get_resolver
from django.utils import timezone

from fraudsite.testing import api_of, fraudulent_payload, seed_payload
from fraudsite.tests import matrix
from scoring.clients.models import Client, ClientOfPerson
from scoring.lists import changes
from scoring.models import (
    BatchFile,
    Decision,
    Erasure,
    Forgotten,
    Label,
    ListEntry,
    Pending,
    Prediction,
    Review,
    Transaction,
    WaitingLabel,
    WebhookEndpoint,
)
from scoring.reviews import receiving
from scoring.reviews.incoming import Incoming
from scoring.webhooks import endpoints
from scoring.worker.opening import review_of

pytestmark = pytest.mark.django_db

# They need no key of a client.
PUBLIC = {"schema", "docs", "problem", "healthz", "readyz", "metrics", "None"}
SAID_AT = datetime(2026, 11, 1, tzinfo=UTC)
ORDER, EARLY, REFERENCE = "order-of-another", "early-of-another", "reference-of-another"
NOT_COMPARED = {"X-Request-ID", "Date", "Content-Length", "RateLimit", "RateLimit-Policy"}


class Ids(dict[str, str]):
    """The ids of somebody's rows by what they are, or of rows that do not exist."""


def theirs():
    row = Transaction.objects.get(transaction_id=ORDER)
    return Ids(id=str(row.pk), transaction_id=ORDER, early=EARLY, reference=REFERENCE)


def nobodys():
    return Ids(
        id=str(uuid4()), transaction_id="order-of-nobody", early="early-of-nobody", reference="reference-of-nobody"
    )


def label(**said):
    return {"kind": "fraud", "event_time": "2026-11-01T00:00:00Z", **said}


# What is sent to an address without an id in it, by the ids in its body: these two bodies have to be answered alike.
BODIES: dict[str, Any] = {
    "predict": lambda ids: [seed_payload(transaction_id=ids["transaction_id"])],
    "predict-short": lambda ids: [seed_payload(transaction_id=ids["transaction_id"])],
    "predict-batch": lambda ids: [{"transactions": [{"transaction_id": ids["transaction_id"]}]}],
    "labels": lambda ids: [
        label(id=ids["id"]),
        label(transaction_id=ids["transaction_id"]),
        label(transaction_id=ids["early"]),
        label(transaction_id="mine", reference=ids["reference"]),
    ],
    "labels-batch": lambda ids: [{"labels": BODIES["labels"](ids)}],
    "webhooks": lambda ids: [{}],  # names no row
    "files": lambda ids: [{}],  # likewise
}
# Predict calls without a worker: they are stored and answered.
HEADERS = {"Prefer": "respond-async"}


def make_rows(client, champion):
    """Rows of a client in every table that belongs to clients."""
    make_transactions(client, champion)  # without which labels wait
    for model in owned():
        if not rows_of(model, client).exists():
            made = MADE.get(model)
            assert made, f"{model.__name__}: say in MADE how a row of a client is made."
            made(client, champion)
    assert all(rows_of(model, client).exists() for model in owned())


def owned():
    """The tables with a column of the client."""
    return [
        model
        for model in apps.get_app_config("scoring").get_models()
        if model is not ClientOfPerson  # of which the API knows nothing
        and any(isinstance(each, models.ForeignKey) and each.related_model is Client for each in model._meta.fields)
    ]


def rows_of(model, client):
    [column] = [each.name for each in model._meta.fields if each.related_model is Client]
    return model.objects.filter(**{column: client})


def make_transactions(client, champion):
    for name in (ORDER, f"{ORDER}-2"):
        row = Transaction.objects.create(
            client=client,
            transaction_id=name,
            schema="ulb",
            amount=12.5,
            fields=fraudulent_payload(),
            body_sha256="0" * 64,
            event_time=timezone.now() - timedelta(hours=1),
        )
        prediction = Prediction.objects.create(
            transaction=row,
            model_version=champion,
            fraud_score=0.9,
            decision=Decision.REVIEW,
            threshold=0.5,
            reasons=[],
            latency_ms=1.0,
        )
        review_of(prediction).save(force_insert=True)
    waits = Transaction.objects.create(
        client=client, schema="ulb", amount=1.0, fields=seed_payload(), body_sha256="0" * 64, event_time=timezone.now()
    )
    Pending.objects.create(transaction=waits, due_at=timezone.now() + timedelta(hours=1))


def make_labels(client, champion):
    said = [
        Incoming(None, name, "fraud", "client", SAID_AT, None, reference)
        for name, reference in ((ORDER, REFERENCE), (EARLY, f"{REFERENCE}-2"))
    ]
    receiving.receive(client.pk, said)


def make_entry(client, champion):
    row = changes.create(schema="handbook", name="stolen", about="customer", action="block", by="ada")
    changes.add(row, [[changes.Addition("a" * 31 + "x", client=client.pk)]], by="ada")


def make_webhook(client, champion):
    endpoint, _ = endpoints.create(client=client, url="https://shop.example/of-another", event_types=["alert.opened"])
    endpoints.send_test(endpoint)


def make_file(client, champion):
    BatchFile.objects.create(client=client, name=ORDER, schema="ulb", mode="score", format="csv", state="cancelled")


def make_erasure(client, champion):
    Erasure.objects.create(client=client, schema="handbook", entity="customer", by="ada", state="cancelled")


def make_deletion(client, champion):
    long_ago = timezone.now() - timedelta(days=400)
    Forgotten.objects.create(client=client, before=long_ago, decided_before=long_ago)


MADE = {
    BatchFile: make_file,
    Erasure: make_erasure,
    Forgotten: make_deletion,
    Transaction: make_transactions,
    Review: make_transactions,
    Label: make_labels,
    WaitingLabel: make_labels,
    ListEntry: make_entry,
    WebhookEndpoint: make_webhook,
}


@pytest.fixture
def stranger(redis_server, acme_api):
    return acme_api


@pytest.fixture
def another(globex, champion, keys_of_the_test):
    """Another client with rows in every table, and its access to the API."""
    api = api_of(globex)
    make_rows(globex, champion)
    return api


def addresses():
    """Name, pattern and methods of each address of the API."""
    for pattern in get_resolver("scoring.urls").url_patterns:
        if pattern.name and str(pattern.name) not in PUBLIC:
            view = getattr(pattern.callback, "cls", None) or getattr(pattern.callback, "view_class", None)
            methods = [each for each in ("get", "post", "put", "patch", "delete") if hasattr(view, each)]
            yield pattern, methods


def with_ids():
    return [(str(pattern.name), pattern, methods) for pattern, methods in addresses() if pattern.pattern.converters]


def without_ids():
    return [(str(pattern.name), pattern, methods) for pattern, methods in addresses() if not pattern.pattern.converters]


def keys_of_another(client):
    """The keys of all rows of a client, and of rows of these."""
    found = {
        str(key)
        for model in owned()
        for column in model._meta.fields
        if column.primary_key or (column.unique and isinstance(column, models.UUIDField))
        for key in rows_of(model, client).values_list(column.name, flat=True)
    }
    return found | {ORDER, EARLY, REFERENCE}


def addresses_with(pattern, key):
    """The address with this key in each of its places; empty if no place takes it."""
    known = {converter: kind for kind, converter in converters.get_converters().items()}
    part = str(pattern.pattern)
    for name, converter in pattern.pattern.converters.items():
        if not re.fullmatch(converter.regex, key):
            return ""
        for written in (f"<{known[converter]}:{name}>", f"<{name}>"):
            part = part.replace(written, key)
    return f"/{part}"


def like(key):
    """A key of the same form that no row has."""
    try:
        return str(uuid4()) if UUID(key) else ""
    except ValueError:
        return str(int(key) + 10_000_000) if key.isdecimal() else f"{key}-of-nobody"


def told(response, *keys):
    """What an answer tells, without what differs from call to call and without the ids of the call itself."""
    text = (b"".join(response.streaming_content) if response.streaming else response.content).decode()
    headers = {name: value for name, value in response.headers.items() if name not in NOT_COMPARED}
    for key in keys:
        text = text.replace(key, "ID")
        headers = {name: value.replace(key, "ID") for name, value in headers.items()}
    text = re.sub(r'"request_id": ?"[^"]*"', "", text)
    return response.status_code, headers, text


def everything():
    rows = []
    for model in owned():
        rows += [(model.__name__, str(row.pk), repr(model_to_dict(row))) for row in model.objects.order_by("pk")]
    return rows


@pytest.mark.parametrize(
    ("name", "pattern", "methods"), with_ids(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_anothers_id_in_an_address_is_answered_as_one_that_does_not_exist(
    stranger, another, acme, globex, name, pattern, methods
):
    before, tried = [row for row in everything() if row[0] != "ApiKey"], 0
    for key in sorted(keys_of_another(globex)):
        for method in methods:
            answers = []
            for each in (key, like(key)):
                address = addresses_with(pattern, each)
                if not address:
                    break
                send = getattr(stranger, method)
                given = {} if method == "get" else {"data": "{}", "content_type": "application/json"}
                answers.append(told(send(address, **given), each))
            if answers:
                tried += 1
                assert answers[0] == answers[1], (method, key)
                assert answers[0][0] >= 400, (method, key)
                if method in ("get", "delete"):
                    assert answers[0][0] == 404, (method, key)
    assert tried, f"{name}: no row of another client has a key that this address takes: make one in MADE."
    assert [row for row in everything() if row[0] != "ApiKey"] == before


@pytest.mark.parametrize(
    ("name", "pattern", "methods"), without_ids(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_listing_has_nothing_of_another_client_and_takes_none_of_its_cursors(
    stranger, another, globex, name, pattern, methods
):
    if "get" not in methods:
        return
    address = f"/{pattern.pattern}"
    full = told(another.get(address))
    assert full[0] == 200
    empty = told(stranger.get(address))
    assert empty[0] == 200
    marks = keys_of_another(globex) - {key for key in keys_of_another(globex) if key.isdecimal()}
    assert any(mark in full[2] for mark in marks), f"{name}: it shows nothing of its own client: make a row in MADE."
    assert not [mark for mark in (*marks, "Globex") if mark in empty[2]]
    for key in sorted(marks):
        for parameter in ("id", "transaction_id", "reference", "cursor"):
            mine, none = (told(stranger.get(address, {parameter: each}), each) for each in (key, like(key)))
            assert mine == none, (parameter, key)
    following = another.get(address, {"limit": 1}).json().get("next")
    if following:
        answer = told(stranger.get(following))
        assert not [mark for mark in marks if mark in answer[2]]
        assert answer[0] in (200, 400)


@pytest.mark.parametrize(
    ("name", "pattern", "methods"), without_ids(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_anothers_id_in_a_body_is_answered_as_one_that_does_not_exist(
    stranger, another, acme, globex, name, pattern, methods
):
    """So no 409 tells that a `transaction_id` or a reference is taken, and no label waits differently."""
    if not {"post", "put", "patch"} & set(methods):
        return
    assert name in BODIES, f"{name}: say in BODIES how its body names a row, or that it names none."
    before = [row for row in everything() if f"'client': {globex.pk}" in row[2]]
    for mine, none in zip(BODIES[name](theirs()), BODIES[name](nobodys()), strict=True):
        answers = []
        for body, ids in ((mine, theirs()), (none, nobodys())):
            response = stranger.post(
                f"/{pattern.pattern}", data=json.dumps(body), content_type="application/json", headers=HEADERS
            )
            stored = [str(row.pk) for row in Transaction.objects.filter(client=acme)]
            status, headers, text = told(response, *ids.values(), *stored)
            assert status != 409
            answers.append((status, headers.keys(), re.sub(r'"until": ?"[^"]*"', "until", text)))
        assert answers[0] == answers[1], body
    assert [row for row in everything() if f"'client': {globex.pk}" in row[2]] == before


def test_a_label_that_waits_is_given_to_the_transaction_of_its_own_client(stranger, another, acme, globex):
    sent = json.dumps(label(transaction_id=f"{ORDER}-3"))
    assert stranger.post("/api/v1/labels", data=sent, content_type="application/json").status_code == 202
    Transaction.objects.create(
        client=globex,
        transaction_id=f"{ORDER}-3",
        schema="ulb",
        amount=1.0,
        fields=seed_payload(),
        body_sha256="0" * 64,
        event_time=timezone.now(),
    )
    assert receiving.attach(limit=10) == 0
    assert not Label.objects.filter(transaction__transaction_id=f"{ORDER}-3").exists()


def test_every_address_of_the_api_is_tried():
    names = {name for name, address in matrix.addresses() if not address.startswith("/admin/")}
    assert names == {name for name, _, _ in (*with_ids(), *without_ids())} | PUBLIC - {"None"}


def test_a_replay_of_ones_own_webhook_takes_no_delivery_to_another_client(stranger, another, acme, globex):
    make_webhook(acme, None)
    own, others = (WebhookEndpoint.objects.get(client=client) for client in (acme, globex))
    delivery = others.deliveries.get()
    others.deliveries.update(state="dead")
    sent = json.dumps({"ids": [delivery.message_id]})
    answer = stranger.post(f"/api/v1/webhooks/{own.key}/replay", data=sent, content_type="application/json")
    assert (answer.status_code, answer.json()) == (202, {"replayed": 0})
    assert others.deliveries.get().state == "dead"


def test_two_clients_may_use_the_same_transaction_id(worker, acme_api, globex_api):
    """Neither learns by a 409, or by the stored answer of the other, that the other has it."""
    for address in ("/api/v1/predict", "/api/v1/predict/batch"):
        ids = []
        for api, amount in ((acme_api, 10.0), (globex_api, 20.0)):
            body = seed_payload(transaction_id=f"same-{len(address)}", Amount=amount)
            body = {"transactions": [body]} if "batch" in address else body
            answer = api.post(address, data=json.dumps(body), content_type="application/json")
            assert answer.status_code == 200
            assert "Idempotent-Replayed" not in answer.headers
            told = answer.json()
            told = told["results"][0]["prediction"] if "batch" in address else told
            ids.append(told["id"])
        assert len(set(ids)) == 2
