"""Schemas that change while transactions come: no call is lost, and none is refused that was accepted before."""

import shutil
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
from django.core.management import CommandError, call_command
from msgspec.structs import replace

from fraudsite.testing import PROCESS_START_S, web_server, worker_environment
from scoring import served
from scoring.api import validation
from scoring.clients import keys
from scoring.messages.replies import Kind
from scoring.models import Label, ListEntry, Prediction, Transaction
from scoring.reviews import labelling
from scoring.worker import batches, pending, predictor
from training import registry
from training.core.places import PACKAGE
from training.core.schema import load_schema, loaded
from training.tests.support import bundle_of_purchases, tiny_handbook_bundle

PURCHASE = {"schema": "purchases", "amount": 12.5, "category": "books"}
BOOKED = {"schema": "book", "amount": 20.0, "customer": "c-1", "terminal": "t-1"}
CHANNEL = '\n[[feature]]\nname = "channel"\nkind = "text"\noptional = true\ndescription = "How it was ordered."\n'
QUICK = {"model.architecture": "xgboost", "xgboost.epochs": 5, "policy.review_precision": 0.1}
CARD = '\n[[entity]]\nname = "card"\ndescription = "The card."\nhistory_limit = 10\noptional = true\n'
LOOK_S = 0.1


@pytest.fixture
def purchases(own_schemas, settings, monkeypatch):
    """The file of the schema `purchases`, of which there is a champion."""
    shutil.copy(PACKAGE / "tests" / "fixtures" / "purchases.toml", own_schemas)
    monkeypatch.setattr(predictor, "_loaded", {})
    monkeypatch.setattr(served, "_of_champions", {})
    return own_schemas / "purchases.toml"


@pytest.fixture
def own_bundles(settings, tmp_path):
    """A directory of models of the test's own, where no other has trained one in the same second."""
    settings.BUNDLES_DIR = tmp_path / "models"


def promote_a_model(settings):
    bundle = bundle_of_purchases(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY, **QUICK)
    return registry.register(bundle, promote=True)


def change(path, old, new, *, look=True):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if look:
        loaded.look(settled=False)
        served.look()


@contextmanager
def traffic(url, key, body):
    """Post this body, with an id of its own each time, until the end of the block. Gives all answers' statuses."""
    heard: list[int] = []
    ended = threading.Event()

    def post():
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as http:
            while not ended.is_set():
                heard.append(http.post("/predict", json=body | {"transaction_id": f"t-{len(heard)}"}).status_code)

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield heard
    finally:
        ended.set()
        thread.join()


def await_status(http, body, status):
    give_up = time.monotonic() + PROCESS_START_S
    while (answer := http.post("/predict", json=body)).status_code != status:
        assert time.monotonic() < give_up, answer.text
        time.sleep(LOOK_S)


def test_files_change_under_traffic_and_no_call_is_lost_or_refused(worker, acme, purchases, settings):
    first = promote_a_model(settings)
    (purchases.parent / "stall.toml").write_text("title =")  # a web server starts all the same
    key = keys.create(client=acme)[1]
    environment = worker_environment() | {"SCHEMAS_DIR": str(purchases.parent), "MODEL_REFRESH_S": str(LOOK_S)}
    headers = {"Authorization": f"Bearer {key}"}
    with web_server(environment) as url, httpx.Client(base_url=url, headers=headers, timeout=30) as http:
        await_status(http, PURCHASE, 200)
        with traffic(url, key, PURCHASE) as heard:
            # Compatible: another field, which may be missing. It is taken at once, under the model that is there.
            whole = purchases.read_text()
            change(purchases, "[[feature]]", CHANNEL + "[[feature]]", look=False)
            await_status(http, PURCHASE | {"channel": "web"}, 200)
            # Invalid: the last valid declaration goes on, the new field included.
            purchases.write_text(purchases.read_text() + "title =")
            time.sleep(6 * LOOK_S)
            assert http.post("/predict", json=PURCHASE | {"channel": "web"}).status_code == 200
            # Incompatible: a field that the model takes is gone. The champion goes on under its own declaration.
            purchases.write_text(whole.replace('name = "category"', 'name = "kind_of_shop"'))
            await_status(http, PURCHASE | {"channel": "web"}, 400)
            assert http.post("/predict", json=PURCHASE).status_code == 200
            # A model of another declaration takes over, in which the field may be missing.
            purchases.write_text(whole.replace('kind = "category"', 'kind = "category"\noptional = true'))
            loaded.look(settled=False)
            second = promote_a_model(settings)
            await_status(http, {"schema": "purchases", "amount": 12.5}, 200)
        assert set(heard) == {200}
        assert http.post("/predict", json={"schema": "shop"}).json()["errors"][0]["code"] == "unknown_schema"
    rows = Transaction.objects.filter(transaction_id__startswith="t-")
    assert rows.count() == len(heard) == Prediction.objects.filter(transaction__in=rows).count()
    assert Transaction.objects.filter(fields__channel="web").count() >= 2
    assert set(Prediction.objects.values_list("model_version", flat=True)) == {first.pk, second.pk}


def checked(acme, body):
    schema = validation.schema_of(body)
    now = datetime.now(UTC)
    return validation.validate(
        body, schema=schema, client_id=acme.pk, received_at=now, deadline_ms=60_000, clock_skew_s=60
    )


@pytest.mark.django_db(transaction=True)
def test_what_was_checked_before_a_change_is_scored_after_it_with_all_that_was_sent(
    acme, purchases, settings, own_bundles
):
    promote_a_model(settings)
    change(purchases, "[[feature]]", CHANNEL + CARD + "[[feature]]")
    with_channel = checked(acme, PURCHASE | {"channel": "web", "card": "c-1"})
    later = checked(acme, PURCHASE | {"channel": "web", "amount": 13.5})
    change(purchases, 'name = "channel"', 'name = "way"')
    without = checked(acme, PURCHASE)
    pending.accept(submission=later)
    loaded.forget()  # another process, which has seen the file as it is now
    outcomes, _ = batches.score_batch(
        submissions=[with_channel, without], predictor=predictor.current("purchases"), started_at=time.time()
    )
    assert pending.score(transaction_ids=[later.id], predictor=predictor.current("purchases")) == 1
    assert {outcome.kind for outcome in outcomes} == {Kind.SCORED}
    scores = dict(Prediction.objects.values_list("pk", "fraud_score"))
    assert len(scores) == 3
    assert len(set(scores.values())) <= 2  # the channel changes nothing, and the amount may
    stored = Transaction.objects.get(pk=with_channel.id)
    assert (stored.fields, stored.tokens) == (PURCHASE_STORED | {"channel": "web"}, {"card": with_channel.tokens[0]})
    assert Transaction.objects.get(pk=without.id).fields == PURCHASE_STORED | {"way": None}


PURCHASE_STORED = {"amount": 12.5, "category": "books", "device_days": None, "country": None}


@pytest.mark.django_db(transaction=True)
def test_a_process_that_starts_with_an_invalid_file_or_none_serves_what_the_champion_was_trained_under(
    acme, purchases, settings, own_bundles
):
    champions = registry.declaration(promote_a_model(settings))
    for spoil in (lambda: purchases.write_text("title ="), purchases.unlink):
        spoil()
        loaded.forget()
        assert "purchases" not in served.now().schemas
        served.look()
        assert checked(acme, PURCHASE).declaration == champions.hash
        assert served.now().held["purchases"] == ["it has no valid file"]
    assert "ulb" in served.now().schemas


@pytest.mark.django_db(transaction=True)
def test_lists_are_about_what_transactions_have_while_a_changed_file_is_held(
    purchases, settings, own_bundles, tmp_path
):
    promote_a_model(settings)
    change(purchases, 'name = "category"', 'name = "kind"', look=False)
    loaded.look(settled=False)
    assert "category" not in load_schema("purchases").feature_names
    call_command("lists", "create", "books", "category", schema="purchases", action="block")
    (tmp_path / "books.csv").write_text("value\n Books \n")
    call_command("lists", "import", "books", str(tmp_path / "books.csv"), schema="purchases")
    assert ListEntry.objects.get().key == "Books"
    with pytest.raises(CommandError, match="no entity or field 'kind'"):
        call_command("lists", "create", "kinds", "kind", schema="purchases")


@pytest.mark.django_db(transaction=True)
def test_a_call_that_is_repeated_after_the_schema_got_another_field_gets_its_answer_again(
    acme, purchases, settings, own_bundles
):
    promote_a_model(settings)
    model = predictor.current("purchases")

    def score(**changes):
        sent = checked(acme, PURCHASE | {"transaction_id": "order-1"} | changes)
        [outcome], _ = batches.score_batch(submissions=[sent], predictor=model, started_at=time.time())
        return outcome

    first = score()
    change(purchases, "[[feature]]", CHANNEL + "[[feature]]")
    assert score() == replace(first, kind=Kind.REPEATED)
    assert score(channel="web").kind == score(amount=13.0).kind == Kind.CONFLICT


@pytest.mark.django_db(transaction=True)
def test_histories_are_kept_under_the_champions_declaration_and_a_promotion_says_which_it_makes_stale(
    acme, own_schemas, own_bundles, settings, monkeypatch, capsys
):
    monkeypatch.setattr(predictor, "_loaded", {})
    path = own_schemas / "book.toml"
    shutil.copy(PACKAGE / "schemas" / "handbook.toml", path)
    registry.register(tiny_handbook_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY, "book"), promote=True)
    champions, model = load_schema("book"), predictor.current("book")
    change(path, "history_limit = 600", "history_limit = 700")
    for number in range(2):
        sent = checked(acme, BOOKED)
        assert sent.declaration == load_schema("book").hash != champions.hash
        [outcome], _ = batches.score_batch(submissions=[sent], predictor=model, started_at=time.time())
        assert outcome.kind == Kind.SCORED
        if not number:
            call_command("rebuild_histories", schema="book")
    assert Prediction.objects.latest("created_at").derived["customer_count_1d"] == 2
    labelling.add_label(transaction_id=sent.id, is_fraud=True, source=Label.Source.CHARGEBACK)
    call_command("check_parity", schema="book")
    second = tiny_handbook_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY, "book", **{"model.seed": 1})
    registry.register(second, promote=False)
    call_command("models", "promote", second.version, "--force", "--reason", "A test.")
    assert "The histories of customer are stale under it" in capsys.readouterr().out
    assert registry.declaration_in_force("book") == load_schema("book")
    call_command("rebuild_histories", schema="book")
    [outcome], _ = batches.score_batch(
        submissions=[checked(acme, BOOKED)], predictor=predictor.refresh("book"), started_at=time.time()
    )
    assert outcome.kind == Kind.SCORED


@pytest.mark.django_db
def test_an_invalid_file_is_told_by_the_check_and_stops_no_page(own_schemas, client, ada, post, capsys):
    (own_schemas / "shop.toml").write_text("title =")
    response = post({"schema": "shop", "amount": 1})
    assert response.json()["errors"][0]["code"] == "unknown_schema"
    assert response.status_code == 400
    with pytest.raises(CommandError, match="Schema shop: Invalid value"):
        call_command("schema", "check")
    assert "ulb: valid" in capsys.readouterr().out
    client.force_login(ada)
    for address in ("/admin/scoring/transaction/", "/admin/scoring/review/", "/api/v1/schema"):
        assert client.get(address).status_code == 200


@pytest.mark.django_db
def test_the_versions_of_a_schema_are_listed_with_what_changed(purchases, capsys):
    first = load_schema("purchases").hash
    served.look()
    change(purchases, "[[feature]]", CHANNEL + "[[feature]]")
    call_command("schema", "versions", "purchases")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(first[:12])
    assert lines[1].endswith(load_schema("purchases").hash[:12])
    assert lines[2].strip() == "field channel: new, optional"
