"""Transactions with entities: their features are the same online and offline, to the bit."""

import hashlib
import hmac
import json
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.utils import timezone

from fraudsite.testing import PROCESS_START_S, await_follower, seed_payload, submission
from scoring import tasks
from scoring.clients import keys
from scoring.messages.replies import Kind
from scoring.models import History, Label, Pending, Prediction, Review, Transaction
from scoring.reviews import labelling
from scoring.worker import batches, predictor
from training import registry
from training.core.schema import load_schema
from training.models import ModelVersion
from training.tests.support import store_made_up_payments

NAMES = [feature.name for feature in load_schema("handbook").derived]


@pytest.fixture
def handbook(worker, handbook_bundle):
    """The champion of `handbook`, beside that of `ulb`."""
    version = registry.register(handbook_bundle, promote=True)
    await_follower(worker, "handbook", version.pk)  # the worker may remember a champion of an earlier test
    return version


def payment(customer="ada", terminal="corner shop", *, hours_ago=1.0, **changes):
    moment = timezone.now().replace(microsecond=0) - timedelta(hours=hours_ago)
    payload = {"schema": "handbook", "amount": 12.5, "customer": customer, "terminal": terminal}
    return payload | {"event_time": moment.isoformat()} | changes


def predict(api, payload, **headers):
    return api.post("/predict", data=json.dumps(payload), content_type="application/json", headers=headers)


def pay(api, *names, **changes):
    """Pay; returns the stored prediction."""
    response = predict(api, payment(*names, **changes))
    assert response.status_code == 200, response.content
    return Prediction.objects.get(pk=response.json()["id"])


def patiently(call):
    """The first call of a process compiles what others then have: until then the worker may miss a deadline."""
    give_up = time.monotonic() + PROCESS_START_S
    while (response := call()).status_code == 503 and time.monotonic() < give_up:
        time.sleep(0.2)
    assert response.status_code == 200, response.content


@pytest.fixture
def api(handbook, acme_api):
    patiently(lambda: predict(acme_api, payment("warm", "warm")))
    return acme_api


def check_parity(sample=0):
    call_command("check_parity", "--schema", "handbook", "--sample", str(sample))


def close(prediction, reviewer, *, is_fraud):
    assert labelling.close_review(review=prediction.review, is_fraud=is_fraud, reviewer=reviewer)


def histories():
    rows = History.objects.order_by("token").values_list("token", "schema", "entity", "events", "last_sequence")
    return [(*row[:3], bytes(row[3]), row[4]) for row in rows]


def make_traffic(api, reviewer):
    """Two weeks at some terminals, with everything among it that could make online and offline differ."""
    for day in (13, 11, 9, 8):
        for customer, terminal in [("ada", "shop"), ("bob", "shop"), ("ada", "fuel")]:
            pay(api, customer, terminal, hours_ago=24 * day, amount=10.0 + day)
    frauds = [
        pay(api, name, "shop", hours_ago=24 * 8 - 1, amount=900.0 + place)
        for place, name in enumerate(["eve", "ada", "bob"])
    ]
    for prediction in frauds:
        close(prediction, reviewer, is_fraud=True)
    pay(api, "ada", "shop", hours_ago=24, amount=20.0)
    labelling.add_label(transaction_id=frauds[1].pk, is_fraud=False, source=Label.Source.CHARGEBACK)
    pay(api, "ada", "shop", hours_ago=23, amount=0.07)
    pay(api, "ada", "fuel", hours_ago=24 * 10, amount=33.33)  # late
    for amount in (1.1, 2.2, 3.3):  # in the same second
        pay(api, "ada", "shop", hours_ago=5, amount=amount)
    order = payment("ada", "shop", transaction_id="order-1", hours_ago=16, amount=5.5)
    for _ in range(2):  # a copy
        predict(api, order)
    return frauds


def test_it_scores_by_what_the_customer_did_before(api, handbook):
    first, second = pay(api, amount=10.0, hours_ago=2), pay(api, amount=30.0, hours_ago=1)
    assert (first.derived["customer_count_1d"], second.derived["customer_count_1d"]) == (1.0, 2.0)
    assert second.derived["customer_mean_amount_1d"] == 20.0
    assert first.derived.keys() == set(NAMES)
    assert first.model_version == handbook


def test_an_alert_gives_its_reasons_by_the_names_of_the_inputs(api):
    prediction = pay(api, amount=1500.0)
    assert prediction.is_alert
    assert {reason["feature"] for reason in prediction.reasons} <= {"amount", *NAMES}
    assert prediction.reasons[0]["feature"] == "amount"


def test_it_stores_and_sends_no_identifier(api):
    pay(api, "card-of-ada-lovelace", "shop-of-charles-babbage")
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608
            assert not any(name in repr(row) for row in cursor.fetchall() for name in ("lovelace", "babbage")), table
    assert "lovelace" not in (django_settings.VAR_DIR / "worker.log").read_text()
    row = Transaction.objects.order_by("received_at").last()
    assert row.tokens.keys() == {"customer", "terminal"}
    assert all(len(token) == 32 for token in row.tokens.values())


def test_a_token_depends_on_the_key_the_entity_and_the_value(acme, settings):
    one = submission(acme.pk, payment(customer="ada", terminal="ada")).tokens
    assert one == submission(acme.pk, payment(customer="ada", terminal="ada")).tokens
    assert one[0] != one[1]
    assert one[0] != submission(acme.pk, payment(customer="bob")).tokens[0]
    settings.ENTITY_HASH_KEY = "another key" * 3
    assert one[0] != submission(acme.pk, payment(customer="ada")).tokens[0]


def test_parity_holds_for_late_repeated_simultaneous_and_relabelled_transactions(api, alice):
    make_traffic(api, alice)
    check_parity()
    check_parity(sample=3)
    later = pay(api, "ada", "shop", hours_ago=0.5)
    assert later.derived["terminal_risk_30d"] > 0
    check_parity()


def test_parity_names_what_was_tampered_with(api, capsys):
    prediction = pay(api)
    prediction.derived["customer_count_7d"] += 1e-12
    prediction.save()
    with pytest.raises(CommandError, match="1 predictions of handbook differ, in 1 features"):
        check_parity()
    assert f"{prediction.pk} customer_count_7d" in capsys.readouterr().out


def test_parity_leaves_out_and_counts_what_was_made_under_another_declaration(api, capsys):
    pay(api)
    older = pay(api)
    older.derived["customer_count_7d"] += 1.0
    older.model_version = version_of_another_declaration(older.model_version)
    older.save()
    check_parity()
    output = capsys.readouterr().out
    assert "1 were made under another declaration of handbook, and are left out." in output
    assert "No feature of handbook differs." in output


def version_of_another_declaration(version):
    """A copy whose bundle says that the schema was another when it was signed."""
    directory = shutil.copytree(version.bundle_dir, version.bundle_dir.with_name(f"older-{version.pk}"))
    description = json.loads((directory / "bundle.json").read_text())
    description["schema"]["hash"] = "0" * 64
    (directory / "bundle.json").write_text(json.dumps(description))
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"]["bundle.json"] = hashlib.sha256((directory / "bundle.json").read_bytes()).hexdigest()
    signed = json.dumps(manifest).encode()
    (directory / "manifest.json").write_bytes(signed)
    signature = hmac.new(django_settings.BUNDLE_SIGNING_KEY.encode(), signed, hashlib.sha256)
    (directory / "manifest.sig").write_text(signature.hexdigest())
    return ModelVersion.objects.create(version=directory.name, schema="handbook", review_threshold=0.5)


def test_a_reversed_label_is_forgotten_by_later_transactions(api, alice):
    fraud = pay(api, "ada", "shop", hours_ago=24 * 8, amount=900.0)
    close(fraud, alice, is_fraud=True)
    assert pay(api, "ada", "shop").derived["terminal_risk_7d"] == 1.0
    labelling.add_label(transaction_id=fraud.pk, is_fraud=False, source=Label.Source.CHARGEBACK)
    assert pay(api, "ada", "shop").derived["terminal_risk_7d"] == 0.0
    first, second = Label.objects.order_by("sequence")
    assert fraud.transaction.sequence < first.sequence < second.sequence


def test_a_label_that_came_by_the_api_is_in_the_history_of_its_terminal(api):
    fraud = pay(api, "ada", "shop", hours_ago=24 * 8, amount=900.0)
    others = [pay(api, name, "shop", hours_ago=24 * 8).transaction for name in ("bob", "eve", "joe")]
    assert pay(api, "ada", "shop").derived["terminal_risk_7d"] == 0.0
    moment = (timezone.now() - timedelta(hours=1)).isoformat()
    bodies = [{"id": str(fraud.pk), "kind": "chargeback_lost", "event_time": moment}]
    bodies += [{"id": str(row.pk), "kind": "chargeback_won", "event_time": moment} for row in others]
    response = api.post("/api/v1/labels/batch", {"labels": bodies}, content_type="application/json")
    assert [result["status"] for result in response.json()["results"]] == [201] * 4
    assert pay(api, "ada", "shop").derived["terminal_risk_7d"] == 0.25
    retracted = bodies[0] | {"kind": "retracted", "source": "chargeback", "event_time": timezone.now().isoformat()}
    assert api.post("/api/v1/labels", retracted, content_type="application/json").status_code == 201
    assert pay(api, "ada", "shop").derived["terminal_risk_7d"] == 0.0
    assert set(Label.objects.filter(sequence=None)) == set(), "each has its place in the order of arrival"
    check_parity()
    known = histories()
    call_command("rebuild_histories", "--schema", "handbook")
    assert histories() == known


def test_a_label_that_was_undone_is_forgotten_by_later_transactions(api, alice):
    fraud = pay(api, "ada", "shop", hours_ago=24 * 8, amount=900.0)
    act = uuid4()
    assert labelling.close_review(review=fraud.review, is_fraud=True, reviewer=alice, act=act)
    assert pay(api, "ada", "shop").derived["terminal_risk_7d"] == 1.0
    labelling.undo(act=act, author=alice)
    assert pay(api, "ada", "shop").derived["terminal_risk_7d"] == 0.0
    check_parity()
    known = histories()
    call_command("rebuild_histories", "--schema", "handbook")
    assert histories() == known


def test_a_repeated_transaction_counts_once(api):
    payload = payment(transaction_id="order-1")
    assert predict(api, payload).content == predict(api, payload).content
    together = api.post(
        "/api/v1/predict/batch",
        data=json.dumps({"transactions": [payment(transaction_id="order-2", hours_ago=2)] * 3}),
        content_type="application/json",
    )
    assert len({json.dumps(result) for result in together.json()["results"]}) == 1
    assert pay(api, hours_ago=0.1).derived["customer_count_1d"] == 3.0
    assert predict(api, payload | {"customer": "bob"}).status_code == 409
    check_parity()


def test_parallel_batches_on_the_same_entities_keep_parity(transactional_db, handbook_bundle, acme):
    registry.register(handbook_bundle, promote=True)
    champion = predictor.Predictor(ModelVersion.objects.get(schema="handbook"))
    start = threading.Barrier(4)
    moment = payment()["event_time"]

    def work(number):
        try:
            start.wait()
            for turn in range(5):
                batch = [
                    submission(
                        acme.pk,
                        payment(
                            customer=f"customer {(number + turn + place) % 3}",
                            terminal=f"terminal {place % 2}",
                            amount=float(place),
                            transaction_id=f"order-{turn}-{place}",  # the same ids everywhere, of other customers
                            event_time=moment,
                        ),
                    )
                    for place in range(6)
                ]
                outcomes, _ = batches.score_batch(submissions=batch, predictor=champion, started_at=time.time())
                assert {outcome.kind for outcome in outcomes} <= {Kind.SCORED, Kind.REPEATED, Kind.CONFLICT}
                batch = [submission(acme.pk, payment(terminal=f"terminal {number % 2}")) for _ in range(4)]
                outcomes, _ = batches.score_batch(submissions=batch, predictor=champion, started_at=time.time())
                assert {outcome.kind for outcome in outcomes} == {Kind.SCORED}
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert Transaction.objects.count() == 5 * 6 + 4 * 5 * 4
    largest = max(Prediction.objects.values_list("derived__customer_count_1d", flat=True))
    assert largest == 4 * 5 * 4
    check_parity()


def test_what_is_scored_later_passes_the_histories_then(api, monkeypatch):
    monkeypatch.setattr(tasks, "send_pending", lambda transaction_id: None)
    accepted = predict(api, payment(hours_ago=3), Prefer="respond-async").json()["id"]
    assert Transaction.objects.get(pk=accepted).sequence is None
    assert pay(api, hours_ago=2).derived["customer_count_1d"] == 1.0
    tasks.score_pending([accepted])
    assert not Pending.objects.exists()
    assert Prediction.objects.get(pk=accepted).derived["customer_count_1d"] == 1.0
    assert pay(api, hours_ago=1).derived["customer_count_1d"] == 3.0
    check_parity()


def test_a_label_given_before_the_score_reaches_the_histories_with_it(api, monkeypatch, alice):
    monkeypatch.setattr(tasks, "send_pending", lambda transaction_id: None)
    accepted = [
        predict(api, payment("ada", "shop", hours_ago=24 * 8), Prefer="respond-async").json()["id"] for _ in range(2)
    ]
    for is_fraud, reason in ((False, "a mistake"), (True, "the customer called")):
        labelling.add_label(
            transaction_id=accepted[0], is_fraud=is_fraud, source=Label.Source.ANALYST, author=alice, reason=reason
        )
    assert pay(api, "bob", "shop").derived["terminal_risk_7d"] == 0.0
    tasks.score_pending(accepted)
    assert pay(api, "bob", "shop").derived["terminal_risk_7d"] == 0.5
    labelling.add_label(transaction_id=accepted[0], is_fraud=False, source=Label.Source.CHARGEBACK)
    assert pay(api, "bob", "shop").derived["terminal_risk_7d"] == 0.0
    check_parity()
    known = histories()
    call_command("rebuild_histories", "--schema", "handbook")
    assert histories() == known


def test_a_list_may_hold_several_schemas(api):
    rows = [seed_payload(), payment(), seed_payload(schema="ulb"), payment(), payment(schema="nonesuch")]
    body = json.dumps({"transactions": rows})
    answer = api.post("/api/v1/predict/batch", data=body, content_type="application/json").json()
    assert [result["status"] for result in answer["results"]] == [200, 200, 200, 200, 400]
    schemas = [result["prediction"]["model_version"].split("-")[2] for result in answer["results"][:4]]
    assert schemas == ["ulb", "handbook", "ulb", "handbook"]
    stored = Transaction.objects.filter(schema="ulb").select_related("prediction")
    assert [(row.tokens, row.sequence, row.prediction.derived) for row in stored] == [(None, None, None)] * 2


def test_a_schema_without_a_champion_keeps_no_other_from_its_scores(worker, acme_api):
    rows = [seed_payload(), payment()]
    ModelVersion.objects.filter(schema="handbook").delete()
    await_follower(worker, "handbook", None)
    body = json.dumps({"transactions": rows})
    answer = acme_api.post("/api/v1/predict/batch", data=body, content_type="application/json").json()
    assert [result["status"] for result in answer["results"]] == [200, 503]
    assert answer["results"][1]["problem"]["type"] == "/problems/schema-without-a-champion"


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["nonesuch", "../schemas/ulb", "", None, 1, ["ulb"]])
def test_it_refuses_an_unknown_schema_and_names_those_it_knows(acme_api, name):
    response = predict(acme_api, payment(schema=name))
    assert response.status_code == 400
    [error] = response.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/schema", "unknown_schema")
    assert "handbook, " in error["detail"]


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["", "x" * 65, "a\nb", 7, None, ["ada"], {}])
def test_it_refuses_an_entity_that_is_no_usable_string(acme_api, value):
    response = predict(acme_api, payment(value))
    assert response.status_code == 400
    [error] = response.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/customer", "invalid_entity")


@pytest.mark.django_db
def test_it_misses_an_entity_that_is_not_there(acme_api):
    payload = payment()
    del payload["terminal"]
    [error] = predict(acme_api, payload).json()["errors"]
    assert (error["pointer"], error["code"]) == ("/terminal", "missing")


@pytest.mark.django_db
def test_it_refuses_a_card_number_as_an_entity_and_asks_for_a_token_of_it(acme_api):
    response = predict(acme_api, payment("4111 1111 1111 1111"))
    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/customer", "card_number")
    assert "token" in error["detail"]


def test_rebuilt_histories_are_the_same_to_the_byte(api, alice):
    make_traffic(api, alice)
    before = histories()
    History.objects.all().delete()
    call_command("rebuild_histories", "--schema", "handbook")
    assert histories() == before
    pay(api, "ada", "shop")
    check_parity()


def test_lost_histories_are_an_error_whose_remedy_is_in_the_log(api, alice):
    prediction = pay(api, amount=900.0)
    History.objects.all().delete()
    response = predict(api, payment())
    assert response.status_code == 503
    assert "rebuilt" in response.json()["detail"]
    assert "manage.py" not in response.json()["detail"]
    assert "manage.py rebuild_histories --schema handbook" in (django_settings.VAR_DIR / "worker.log").read_text()
    assert not History.objects.exists()
    call_command("rebuild_histories", "--schema", "handbook")
    close(prediction, alice, is_fraud=True)
    assert pay(api).derived["customer_count_1d"] == 2.0


def test_stale_histories_are_an_error_whose_remedy_is_in_the_log(api):
    pay(api)
    History.objects.update(events=b"an older")
    response = predict(api, payment(transaction_id="order-1"))
    assert response.status_code == 503
    assert "rebuilt" in response.json()["detail"]
    assert "manage.py" not in response.json()["detail"]
    assert "manage.py rebuild_histories --schema handbook" in (django_settings.VAR_DIR / "worker.log").read_text()
    assert not Transaction.objects.filter(transaction_id="order-1").exists()
    call_command("rebuild_histories", "--schema", "handbook")
    assert predict(api, payment(transaction_id="order-1")).status_code == 200
    check_parity()


def test_a_review_that_cannot_be_remembered_stays_open(api, alice):
    prediction = pay(api, amount=900.0)
    History.objects.all().delete()
    with pytest.raises(Exception, match="rebuild_histories"):
        close(prediction, alice, is_fraud=True)
    assert Review.objects.get().state == "open"
    assert not Label.objects.exists()


def test_a_clock_that_is_slow_puts_nobody_before_what_was_seen(api):
    ahead = time.time_ns() // 1000 + 3_600_000_000
    pay(api)
    History.objects.update(last_sequence=ahead)
    pay(api)
    assert Transaction.objects.filter(sequence=ahead + 1).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["check_parity", "rebuild_histories"])
def test_a_command_refuses_an_unknown_schema(command):
    with pytest.raises(CommandError, match="Known schemas: handbook, "):
        call_command(command, "--schema", "nonesuch")


def test_the_simulator_sends_customers_in_the_order_of_time_and_reports_labels(api, acme, site, capsys):
    store_made_up_payments(django_settings.DATASETS_DIR)
    _, key = keys.create(client=acme)
    call_command(
        "simulate", schema="handbook", url=site, api_key=key, days=9, speed=1e6, labels=0, count=60, concurrency=1
    )
    summary = capsys.readouterr().out.splitlines()[-1]
    assert summary.startswith("60 answered in ")
    assert summary.endswith("labels reported 60 · failed: none")
    sent = Transaction.objects.filter(transaction_id__startswith="simulated-").order_by("transaction_id")
    assert sent.count() == Label.objects.count() == 60
    moments = [row.event_time for row in sent]
    assert moments == sorted(moments)
    assert timezone.now() - timedelta(days=9.1) < moments[0] < timezone.now() - timedelta(days=8)
    assert History.objects.filter(entity="customer").count() == 10 + 1, "and the one who warmed the worker"
    assert Prediction.objects.filter(derived__customer_count_1d__gt=1).exists()
    check_parity()


def test_past_traffic_is_not_scored_and_gives_histories_to_what_follows(handbook, site, acme, acme_api, capsys):
    store_made_up_payments(django_settings.DATASETS_DIR)
    _, key = keys.create(client=acme)
    options = {"schema": "handbook", "url": site, "api_key": key, "days": 9, "speed": 1e6, "past": 5, "concurrency": 1}
    call_command("simulate", **options, count=0)
    past = Transaction.objects.count()
    assert f"{past} past transactions of handbook are stored." in capsys.readouterr().out
    assert 300 < past < 450, "75 a day"
    assert Label.objects.count() == past
    assert not Prediction.objects.exists()
    patiently(lambda: predict(acme_api, payment("warm", "warm")))
    for _ in range(2):
        call_command("simulate", **options, count=10)
    sent = Transaction.objects.filter(transaction_id__startswith="simulated-").order_by("sequence")
    assert sent.count() == past + 20, "the past is stored once"
    moments = [row.event_time for row in sent]
    assert moments == sorted(moments), "the second run goes on where the first ended"
    counts = Prediction.objects.filter(pk__in=sent).values_list("derived__customer_count_30d", flat=True)
    assert min(counts) > 10
    check_parity()


def test_past_traffic_needs_a_client(handbook_champion, settings, tmp_path):
    settings.DATASETS_DIR = tmp_path
    store_made_up_payments(tmp_path)
    with pytest.raises(CommandError, match="--api-key is not a valid key"):
        call_command("simulate", schema="handbook", api_key="fs_wrong", past=5, count=0)


def test_the_review_page_shows_shortened_tokens_and_what_was_computed(api, alice, client):
    prediction = pay(api, amount=900.0)
    client.force_login(alice)
    page = client.get(f"/admin/scoring/review/{prediction.pk}/change/").content.decode()
    token = prediction.transaction.tokens["customer"]
    assert f"{token[:8]}…" in page
    assert token not in re.sub(r'(href|action|value)="[^"]*"', "", page)  # but in addresses, as that of the card's page
    names = ("customer_count_1d", "customer_count_7d", "terminal_risk_1d")
    places = [page.index(f"<dt>{name}</dt>") for name in names]
    assert places == sorted(places)


def test_the_review_page_says_what_a_value_is_and_writes_it_as_people_do(api, alice, client):
    prediction = pay(api, amount=1900.5)
    client.force_login(alice)
    page = client.get(f"/admin/scoring/review/{prediction.pk}/change/").content.decode()
    described = next(one for one in load_schema("handbook").derived if one.name == "terminal_streak_last_s")
    title, value = re.search(r'title="([^"]+)"><dt>terminal_streak_last_s</dt><dd>([^<]+)', page).groups()
    assert (title, value) == (f"{described.description} (s)", "5,184,000")
    assert "<dd>1,900.5</dd>" in page


def test_a_review_that_waits_for_a_rebuild_says_so_to_the_analyst(api, alice, client):
    prediction = pay(api, amount=900.0)
    History.objects.all().delete()
    client.force_login(alice)
    address = f"/admin/scoring/review/{prediction.pk}/change/"
    page = client.post(address, {"decide": "fraud"}, follow=True).content.decode()
    assert "manage.py rebuild_histories --schema handbook" in page
    assert Review.objects.get().state == "open"
