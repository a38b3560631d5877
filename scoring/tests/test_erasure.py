"""Erasure of an entity, and export of what is held on it: everywhere, step by step, beside traffic."""

import json
import re
import zipfile
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import models
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as checks
from hypothesis import strategies as st

from fraudsite.audit.models import Entry
from fraudsite.testing import seed_payload, submission
from scoring import linked
from scoring.api.validation import validate
from scoring.files.models import FileChunk
from scoring.files.rows import row_id
from scoring.lists import changes
from scoring.models import (
    Attachment,
    BatchFile,
    CardSnooze,
    Erasure,
    FileHistory,
    History,
    Label,
    ListEntry,
    Pending,
    Prediction,
    Review,
    ReviewEvent,
    ReviewLink,
    SavedView,
    SecondOpinion,
    Transaction,
    WaitingLabel,
)
from scoring.privacy import erasing, finding, tasks
from scoring.privacy.erasing import NotToConfirm
from scoring.reviews import attachments
from scoring.tests.test_partitions import on_postgresql, partition  # noqa: F401  # a fixture
from scoring.worker import batches, pending, predictor
from scoring.worker.opening import review_of
from scoring.worker.rows import transaction_of

pytestmark = pytest.mark.django_db

CARD, MAIL, WORDS = "card-of-ann", "ann.smith@example.com", "Ann Smith told us on the phone"
# What is only added to: docs/privacy.md says what it has, and for how long it is kept.
KEPT = {Entry}


@pytest.fixture(autouse=True)
def quick(settings, monkeypatch):
    settings.ERASURE_PAUSE_MS = 0
    settings.MODEL_REFRESH_S = 0
    settings.ERASURE_STEP_ROWS = 3
    monkeypatch.setattr(erasing, "IN_FLIGHT", 0)


@pytest.fixture
def purchase(shop, champion, acme):
    """Store a purchase in the shop with all that may hang on it."""

    def purchase(client=acme, *, is_alert=True, file=None, **values):
        moment = file.created_at if file else timezone.now()
        body = {"schema": "shop", "amount": 12.5, "card": CARD, "email": MAIL, "phone": "+49 30 1234567"} | values
        body |= {"note": WORDS, "category": "books", "ip": "192.0.2.77"}
        sent = validate(body, schema=shop, client_id=client.pk, received_at=moment, deadline_ms=1, clock_skew_s=60)
        row = transaction_of(
            msgspec.structs.replace(sent, id=row_id(file, Transaction.objects.count())) if file else sent
        )
        row.save(force_insert=True)
        prediction = Prediction.objects.create(
            transaction=row,
            model_version=champion,
            fraud_score=0.9,
            decision="review" if is_alert else "approve",
            threshold=0.5,
            latency_ms=1.0,
            reasons=[{"feature": "email", "contribution": 1.0, "text": f"E-mail: {MAIL}; unusual"}],
            evidence={"rules": [{"rule": "r", "action": "review", "state": "active", "values": {"card": CARD}}]},
            derived={"hour": 7.0},
        )
        if is_alert:
            review_of(prediction).save(force_insert=True)
            ReviewLink.objects.bulk_create(linked.rows_of(shop, [row]))
        return row

    return purchase


def erase(*values, schema="shop", entity="card", client=None, until=Erasure.State.DONE):
    """Erase by the doors that the command and the pages use. Returns the receipt."""
    row = erasing.begin(schema=schema, entity=entity, values=list(values), client=client, reference="case 7", by="ada")
    erasing.work(row)
    assert row.state == Erasure.State.COUNTED
    if until == Erasure.State.DONE:
        erasing.confirm(row, by="ada")
        erasing.work(row)
        assert row.state == Erasure.State.DONE
    return row


def found(*texts):
    """Where one of these texts stands: in any text, JSON or bytes of any row of any table, by table and column."""
    places = set()
    for model in set(apps.get_models()) - KEPT:
        kinds = (models.CharField, models.TextField, models.JSONField, models.BinaryField, models.FileField)
        columns = [field.attname for field in model._meta.concrete_fields if isinstance(field, kinds)]
        for row in model._default_manager.values(*columns) if columns else ():
            for column, value in row.items():
                content = bytes(value).decode("latin-1") if isinstance(value, bytes | memoryview) else json.dumps(value)
                if any(text in content for text in texts):
                    places.add(f"{model._meta.label}.{column}")
    return places


def tokens_of(*values, entity="card", client=None):
    return finding.held_on("shop", entity, values, client).tokens


def make_everything(purchase, acme, alice, shop):
    """A trace of the card of Ann in every table that may have one."""
    row = purchase(transaction_id="order-1")
    [token] = tokens_of(CARD, client=acme)
    review = Review.objects.get(pk=row.pk)
    History.objects.create(token=token, schema="shop", entity="card", events=b"12345678", last_sequence=0)
    CardSnooze.objects.create(card=token, until=timezone.now() + timedelta(days=1))
    ReviewEvent.objects.create(review=review, did="escalated", by=alice, note=WORDS)
    SecondOpinion.objects.create(review=review, first=alice, first_is_fraud=True, note=WORDS, settled_because=WORDS)
    attachments.add(review=review, file=SimpleUploadedFile(f"{CARD}.txt", WORDS.encode()), author=alice)
    Label.objects.create(transaction=row, is_fraud=True, source="analyst", reason=WORDS, author=alice, reference=CARD)
    LogEntry.objects.log_actions(alice.pk, [review], CHANGE, f"{CARD}: {WORDS}", single_object=True)
    WaitingLabel.objects.create(
        client=acme, transaction_id="order-1", kind="fraud", source="client", reference=CARD, identity="i",
        event_time=timezone.now(), expires_at=timezone.now() + timedelta(days=1),
    )  # fmt: skip
    cards = changes.create(schema="shop", name="stolen", about="card", by="ada", action="block")
    mails = changes.create(schema="shop", name="mails", about="email", by="ada", action="block")
    key = Transaction.objects.get(pk=row.pk).fields["email"]
    changes.add_one(cards, changes.Addition(token, note=WORDS, client=acme.pk), by="ada")
    changes.add_one(mails, changes.Addition(key, note=WORDS), by="ada")
    file = BatchFile.objects.create(client=acme, schema="shop", mode="score", format="csv")
    FileHistory.objects.create(file=file, token=token, events=b"", last_sequence=0)
    SavedView.objects.create(owner=alice, name="hers", query=f"card={token}")
    waiting = purchase(is_alert=False, transaction_id="order-2")
    Pending.objects.create(transaction=waiting, due_at=timezone.now(), fault=f"no such {CARD}")
    return row, token, key


def test_after_an_erasure_no_column_of_any_table_has_the_value_its_token_or_what_was_said_of_it(
    purchase, acme, alice, shop
):
    row, token, key = make_everything(purchase, acme, alice, shop)
    texts = (CARD, token, WORDS, MAIL, key, *(Transaction.objects.get(pk=row.pk).tokens or {}).values())
    before = found(*texts)
    assert {place.split(".")[1] for place in before} >= {
        *("Transaction", "Prediction", "History", "Label", "Review", "ReviewLink", "ReviewEvent", "SecondOpinion"),
        *("Attachment", "LogEntry", "WaitingLabel", "ListEntry", "FileHistory", "SavedView", "CardSnooze", "Pending"),
    }
    erase(CARD)
    assert found(CARD, token, WORDS) == {"scoring.ListEntry.note"}  # of the list about another entity's value
    erase(MAIL, entity="mailbox")
    assert found(*texts) == set()


def test_what_training_needs_is_kept_without_the_person(purchase, acme, alice, shop):
    row, *_ = make_everything(purchase, acme, alice, shop)
    erase(CARD)
    kept = Transaction.objects.get(pk=row.pk)
    assert (kept.amount, kept.event_time, kept.schema, kept.client) == (12.5, row.event_time, "shop", acme)
    assert {name: value for name, value in kept.fields.items() if value is not None} == {
        "amount": 12.5,
        "category": "books",
    }
    assert (kept.tokens, kept.transaction_id, kept.sequence, kept.body_sha256) == (None, None, None, "")
    prediction = kept.prediction
    assert (prediction.fraud_score, prediction.decision, prediction.derived) == (0.9, "review", {"hour": 7.0})
    assert prediction.reasons == [{"feature": "email", "contribution": 1.0}]
    assert prediction.evidence["rules"] == [{"rule": "r", "action": "review", "state": "active"}]
    assert Label.objects.get(transaction=kept).is_fraud is True
    assert Review.objects.get(pk=kept.pk).expected_loss == row.amount * 0.9
    file = Attachment.objects.get()
    assert file.removed_at is not None
    assert not attachments.store().exists(file.stored)


def test_the_receipt_tells_who_had_what_erased_and_nothing_of_the_entity(purchase, acme, alice, shop):
    make_everything(purchase, acme, alice, shop)
    receipt = erase(CARD)
    assert (receipt.reference, receipt.by, receipt.confirmed_by, receipt.held) == ("case 7", "ada", "ada", None)
    assert {kind: count for kind, count in receipt.counts.items() if count} == {
        "transactions": 2,
        "predictions": 2,
        "reviews": 1,
        "labels": 1,
        "notes": 1,
        "attachments": 1,
        "waiting labels": 1,
        "histories": 1,
        "list entries": 1,
        "snoozes of the card": 1,
        "histories of files": 1,
        "saved views": 1,
        "links of alerts": 1,
    }
    told = [entry.detail for entry in Entry.objects.filter(kind="scoring.erasure", object_id=str(receipt.pk))]
    assert len(told) == 3
    assert not any(CARD in each or WORDS in each for each in told)


def test_a_dry_run_counts_the_same_and_changes_nothing(purchase, acme, alice, shop, capsys):
    make_everything(purchase, acme, alice, shop)
    before = list(Transaction.objects.order_by("pk").values())
    call_command("erase", "--schema", "shop", "--entity", "card", "--value", CARD, "--dry-run")
    out = capsys.readouterr().out
    assert out.startswith(
        "There is: 1 attachments, 1 histories, 1 histories of files, 1 labels, 1 links of alerts, 1 list"
    )
    assert "2 predictions, 1 reviews, 1 saved views, 1 snoozes of the card, 2 transactions, 1 waiting labels." in out
    assert "Nothing was erased." in out
    assert list(Transaction.objects.order_by("pk").values()) == before
    assert Erasure.objects.get().held is None
    counted = erase(CARD, until=None)
    assert erase(CARD).counts == counted.counts


def test_the_command_erases_and_tells_its_receipt_and_a_second_run_finds_nothing(purchase, acme, capsys, monkeypatch):
    purchase(transaction_id="order-1")
    other = purchase(card="card-of-bob", email="bob@example.com", transaction_id="order-2")
    monkeypatch.setattr("sys.stdin", iter([f"{CARD}\n"]))
    arguments = ["--schema", "shop", "--entity", "card", "--client", "Acme"]
    call_command("erase", *arguments, "--value", "-", "--reference", "case 8")
    assert f"The receipt is {Erasure.objects.get().pk}" in capsys.readouterr().out
    call_command("erase", *arguments, "--value", CARD)
    assert capsys.readouterr().out.startswith("There is: nothing.\nErased: nothing.")
    assert Transaction.objects.get(pk=other.pk).transaction_id == "order-2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schema", "shop", "--entity", "cart", "--value", "x"], "no entity 'cart'. Did you mean card"),
        (["--schema", "shop", "--entity", "card", "--value", "4111111111111111"], "Never give a card number"),
        (["--schema", "shop", "--entity", "card_and_category", "--value", "x"], "category: Give a value"),
        (["--schema", "shop", "--entity", "card", "--value", "x", "--client", "Nobody"], "no client 'Nobody'"),
        (["--schema", "shop", "--entity", "card", "--value", "x", "--reference", "r" * 65], "--reference: Give at mos"),
    ],
)
def test_it_refuses_what_is_no_entity_and_says_why(shop, acme, arguments, message):
    with pytest.raises((CommandError, finding.NoSuchEntity, erasing.ReferenceRefused), match=message):
        call_command("erase", *arguments)
    assert not Erasure.objects.exists()


def test_another_clients_entity_of_the_same_name_is_its_own(purchase, acme, globex):
    mine, theirs = purchase(), purchase(globex)
    erase(CARD, client=acme)
    assert [Transaction.objects.get(pk=row.pk).tokens is None for row in (mine, theirs)] == [True, False]
    erase(CARD)
    assert Transaction.objects.get(pk=theirs.pk).tokens is None


def test_killed_after_any_step_it_goes_on_and_counts_each_row_once(purchase, acme):
    rows = [purchase(is_alert=False) for _ in range(8)] + [purchase(card="card-of-bob") for _ in range(4)]
    row = erase(CARD, until=None)
    erasing.confirm(row, by="ada")
    steps = 0
    while row.is_active:  # each time as another process, which knows only what is stored
        erasing.step(row.pk)
        row = Erasure.objects.get(pk=row.pk)
        steps += 1
    assert (steps, row.counts["transactions"], row.looked_at) == (1 + 5 + 2 + 1, 8, len(rows))
    assert Transaction.objects.filter(tokens__isnull=False).count() == 4
    erasing.step(row.pk)
    assert Erasure.objects.get(pk=row.pk).finished_at == row.finished_at


def test_a_step_that_fails_midway_changes_nothing_and_is_done_again(purchase, acme, monkeypatch):
    purchase(transaction_id="order-1")
    row = erase(CARD, until=None)
    erasing.confirm(row, by="ada")
    erasing.step(row.pk)
    with monkeypatch.context() as broken:
        broken.setattr("scoring.privacy.blanking._blank_labels", lambda keys: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            erasing.step(row.pk)
    assert Transaction.objects.get().transaction_id == "order-1"
    row.refresh_from_db()
    erasing.work(row)
    assert (row.state, row.counts["transactions"], Transaction.objects.get().tokens) == ("done", 1, None)


def test_rows_of_a_file_that_was_under_way_are_erased_whenever_they_are_stored(purchase, acme, globex):
    file = BatchFile.objects.create(client=acme, schema="shop", mode="traffic", format="csv", state="scoring")
    lease = {"leased_until": timezone.now() + timedelta(minutes=1)}
    where = {"first_row": 0, "first_line": 2, "rows": 9, "start": 0, "size": 9}
    chunk = FileChunk.objects.create(file=file, number=0, **where, **lease)
    # Files of others, of another schema, or that store nothing hold up nothing.
    for other in ({"schema": "ulb"}, {"mode": "score"}, {"client": globex}):
        BatchFile.objects.create(**{"client": acme, "schema": "shop", "mode": "traffic", "state": "waiting"} | other)
    stored = [purchase(is_alert=False) for _ in range(4)]
    row = erase(CARD, client=acme, until=None)
    erasing.confirm(row, by="ada")
    assert erasing.work(row, seconds=60), "it waits for the file"
    stored += [purchase(is_alert=False, file=file) for _ in range(4)]
    BatchFile.objects.filter(pk=file.pk).update(state="cancelled", finished_at=timezone.now())
    assert erasing.work(row, seconds=60), "a worker may still store rows"
    stored.append(purchase(is_alert=False, file=file))
    FileChunk.objects.filter(pk=chunk.pk).update(leased_until=timezone.now())
    anew = purchase(is_alert=False)
    assert not erasing.work(row, seconds=60)
    assert (row.state, row.counts["transactions"]) == ("done", len(stored))
    assert Transaction.objects.get(tokens__isnull=False).pk == anew.pk


def test_a_call_that_was_in_flight_when_its_erasure_began_is_erased(purchase, acme, monkeypatch, settings):
    monkeypatch.setattr(erasing, "IN_FLIGHT", 1)
    settings.PREDICT_DEADLINE_MS = settings.BATCH_DEADLINE_MS = 60_000
    late = purchase(is_alert=False)
    row = erase(CARD, until=None)
    erasing.confirm(row, by="ada")
    with monkeypatch.context() as uncommitted:
        uncommitted.setattr("scoring.privacy.finding.transactions", lambda *_: [])
        assert erasing.work(row, seconds=60), "it may be stored until its deadline"
    Erasure.objects.update(until=timezone.now() - timedelta(seconds=60))
    Transaction.objects.update(received_at=timezone.now() - timedelta(seconds=90))
    row.refresh_from_db()
    assert not erasing.work(row, seconds=60)
    late.refresh_from_db()
    assert (row.state, late.tokens) == ("done", None)


def test_only_what_was_counted_is_erased_and_what_nobody_confirms_is_forgotten(purchase, settings, acme):
    purchase()
    row = erase(CARD, until=None)
    Erasure.objects.update(created_at=timezone.now() - timedelta(hours=25))
    tasks.keep_going()
    row.refresh_from_db()
    assert (row.state, row.held) == ("cancelled", None)
    with pytest.raises(NotToConfirm):
        erasing.confirm(row, by="ada")
    assert Transaction.objects.get().tokens is not None


def test_beat_goes_on_with_an_erasure_whose_worker_was_lost(purchase, acme):
    purchase()
    row = erase(CARD, until=None)
    erasing.confirm(row, by="ada")
    tasks.keep_going()
    row.refresh_from_db()
    assert row.state == "done"


@pytest.fixture
def pay(handbook_champion, acme):
    """Score payments in this process, with their histories."""

    def pay(customer, terminal="corner shop", **changes):
        body = {"schema": "handbook", "amount": 12.5, "customer": customer, "terminal": terminal} | changes
        sent = submission(acme.pk, body)
        loaded = predictor.refresh("handbook")
        [outcome], _ = batches.score_batch(submissions=[sent], predictor=loaded, started_at=timezone.now().timestamp())
        return Prediction.objects.select_related("transaction").get(pk=json.loads(outcome.answer)["id"])

    return pay


def test_an_entity_that_comes_again_starts_anew_even_amid_its_erasure(pay, acme):
    before = [pay("ann") for _ in range(3)]
    row = erase("ann", schema="handbook", entity="customer", until=None)
    erasing.confirm(row, by="ada")
    erasing.step(row.pk)  # from here on it begins anew
    amid = pay("ann")
    row.refresh_from_db()
    erasing.work(row)
    after = pay("ann")
    # Counts and means of the customer are those of a first and of a second payment again.
    of_customer = [name for name in amid.derived if re.match("customer_(count|mean)", name)]
    assert of_customer
    assert [amid.derived[name] for name in of_customer] == [before[0].derived[name] for name in of_customer]
    assert [after.derived[name] for name in of_customer] == [before[1].derived[name] for name in of_customer]
    assert Transaction.objects.filter(tokens__has_key="customer").count() == 2
    assert set(Transaction.objects.filter(tokens__isnull=True).values_list("pk", flat=True)) == {
        each.pk for each in before
    }
    assert History.objects.filter(entity="customer").count() == 1


def test_a_transaction_that_waits_for_its_score_while_it_is_erased_is_scored_without_the_person(
    handbook_champion, acme
):
    sent = submission(acme.pk, {"schema": "handbook", "amount": 12.5, "customer": "ann", "terminal": "corner shop"})
    pending.accept(submission=sent)
    erase("ann", schema="handbook", entity="customer")
    assert pending.score(transaction_ids=[UUID(sent.id)], predictor=predictor.refresh("handbook")) == 1
    assert not Pending.objects.exists()
    assert not History.objects.exists()


def test_the_erased_leave_no_history_and_a_repeated_call_of_theirs_is_a_new_transaction(pay, acme):
    pay("ann", transaction_id="order-1")
    erase("ann", schema="handbook", entity="customer")
    assert not History.objects.filter(entity="customer").exists()
    again = pay("ann", transaction_id="order-1")
    assert Transaction.objects.filter(transaction_id="order-1").get().pk == again.pk
    assert Transaction.objects.count() == 2


def test_histories_can_be_rebuilt_after_an_erasure(pay, acme):
    for customer in ("ann", "bob", "ann"):
        pay(customer)
    erase("ann", schema="handbook", entity="customer")
    call_command("rebuild_histories", "--schema", "handbook")
    assert History.objects.filter(entity="customer").count() == 1
    assert pay("ann").fraud_score >= 0


def test_an_entry_of_a_list_that_was_removed_or_of_a_draft_that_went_live_is_erased_too(purchase, acme):
    [token] = tokens_of(CARD, client=acme)
    draft = changes.create(schema="shop", name="stolen", about="card", by="ada", action="block", is_draft=True)
    changes.make_live(draft, by="ada")
    change = changes.create(schema="shop", name="stolen", about="card", by="ada", action="block", is_draft=True)
    changes.add_one(change, changes.Addition(token, note=WORDS, client=acme.pk), by="ada")
    changes.make_live(change, by="ada")
    gone = changes.create(schema="shop", name="gone", about="card", by="ada")
    changes.add_one(gone, changes.Addition(token, note=WORDS, client=acme.pk), by="ada")
    changes.remove(gone)
    assert erase(CARD).counts["list entries"] == 3
    assert not ListEntry.objects.exists()


def test_a_worker_lets_go_of_an_entry_of_a_list_before_its_key_is_forgotten(purchase, acme, settings):
    settings.MODEL_REFRESH_S = 3_600
    [token] = tokens_of(CARD, client=acme)
    cards = changes.create(schema="shop", name="stolen", about="card", by="ada", action="block")
    changes.add_one(cards, changes.Addition(token, client=acme.pk), by="ada")
    row = erase(CARD, until=None)
    erasing.confirm(row, by="ada")
    for _ in range(5):
        erasing.step(row.pk)
    entry = ListEntry.objects.get()
    assert (entry.key, entry.removed_at is None, entry.revision) == (token, False, 2)
    settings.MODEL_REFRESH_S = 0
    erasing.step(row.pk)
    assert not ListEntry.objects.exists()


def test_all_that_is_held_is_exported_with_the_attached_files_and_without_the_names_of_analysts(
    purchase, acme, alice, shop, tmp_path, capsys
):
    row, token, _ = make_everything(purchase, acme, alice, shop)
    purchase(card="card-of-bob", email="bob@example.com")
    options = ["--schema", "shop", "--entity", "card", "--value", CARD]
    call_command("export_held", *options, "--output", str(tmp_path / "held.zip"))
    with zipfile.ZipFile(tmp_path / "held.zip") as archive:
        lines = [json.loads(line) for line in archive.read("held.jsonl").splitlines()]
        [name] = [name for name in archive.namelist() if name.startswith("attachments/")]
        assert archive.read(name).decode() == WORDS
    kinds = {line["table"] for line in lines}
    assert kinds >= {"transaction", "prediction", "review", "label", "attachment", "history", "list entry"}
    stored = {line["id"]: line for line in lines if line["table"] == "transaction"}
    assert stored[str(row.pk)]["tokens"]["card"] == token
    assert len(stored) == 2
    assert "alice" not in json.dumps(lines)
    capsys.readouterr()
    call_command("export_held", *options, "--dry-run")
    assert "transaction 2" in capsys.readouterr().out
    erase(CARD)
    call_command("export_held", *options, "--dry-run")
    assert capsys.readouterr().out == "There is: nothing.\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_export_that_is_interrupted_leaves_nothing_behind(purchase, acme, tmp_path, monkeypatch, error):
    def interrupt(self, *args, **options):
        raise error

    purchase()
    monkeypatch.setattr("scoring.privacy.holding._of", interrupt)
    with pytest.raises((KeyboardInterrupt, CommandError)):
        call_command(
            "export_held",
            *["--schema", "shop", "--entity", "card", "--value", CARD, "--output", str(tmp_path / "held.zip")],
        )
    assert list(tmp_path.glob("*held*")) == []


def test_an_export_needs_to_know_where_it_goes(shop, acme, tmp_path):
    options = ["--schema", "shop", "--entity", "card", "--value", CARD]
    with pytest.raises(CommandError, match="--output"):
        call_command("export_held", *options)
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_held", *options, "--output", str(tmp_path / "nowhere" / "held.zip"))


NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, categories=["L", "N", "P"]), min_size=6, max_size=20
)


@checks(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mine=NAMES, others=st.lists(NAMES, max_size=3), bought=st.integers(0, 4))
def test_whatever_it_is_called_it_is_erased_and_nobody_else(purchase, acme, mine, others, bought):
    Transaction.objects.all().delete()
    others = [each for each in others if each.strip() != mine.strip()]
    try:
        tokens = tokens_of(mine, client=acme)
    except finding.EntryRefused:  # a card number
        return
    kept = [purchase(card=f"other {each}", email="o@example.com", is_alert=False).pk for each in others]
    for _ in range(bought):
        purchase(card=mine)
    receipt = erase(mine, client=acme)
    assert receipt.counts.get("transactions", 0) == bought
    assert found(*tokens) == set()
    assert Transaction.objects.filter(tokens__isnull=False).count() == len(kept)


def test_an_erased_transaction_is_still_shown_and_answered(purchase, acme_api, client, ada):
    row = purchase()
    erase(CARD)
    assert acme_api.get(f"/api/v1/predictions/{row.pk}").status_code == 200
    listed = acme_api.get("/api/v1/transactions").json()
    assert [each["id"] for each in listed["results"]] == [str(row.pk)]
    client.force_login(ada)
    for model in ("transaction", "prediction", "review"):
        assert client.get(f"/admin/scoring/{model}/{row.pk}/change/", follow=True).status_code == 200


def test_seed_transactions_without_entities_are_left_alone(transaction, shop, acme):
    row = transaction(fields=seed_payload())
    assert "transactions" not in erase(CARD).counts
    assert Transaction.objects.get(pk=row.pk).fields == seed_payload()


def test_a_page_counts_then_asks_then_erases_and_shows_the_receipt(purchase, acme, client, ada):
    purchase(transaction_id="order-1")
    client.force_login(ada)
    sent = client.post("/admin/scoring/erasure/begin/", {"entity": "shop/card", "value": CARD, "reference": "case 9"})
    row = Erasure.objects.get()
    address = f"/admin/scoring/erasure/{row.pk}/change/"
    assert sent["Location"] == address
    assert "Being counted" in client.get(address).content.decode()
    tasks.go_on(str(row.pk))
    page = client.get(address).content.decode()
    assert "<td>transactions</td><td>1</td>" in page
    assert Transaction.objects.get().transaction_id == "order-1"
    client.post(f"/admin/scoring/erasure/{row.pk}/confirm/")
    assert client.get(f"/admin/scoring/erasure/{row.pk}/progress.json").json()["state"] == "erasing"
    tasks.go_on(str(row.pk))
    page = client.get(address).content.decode()
    assert f"Receipt {row.pk}" in page
    assert "case 9" in page
    assert CARD not in page
    assert Transaction.objects.get().tokens is None
    assert "case 9" in client.get("/admin/scoring/erasure/").content.decode()


def test_a_page_cancels_what_was_counted(purchase, acme, client, ada):
    purchase()
    client.force_login(ada)
    row = erase(CARD, until=None)
    client.post(f"/admin/scoring/erasure/{row.pk}/cancel/")
    client.post(f"/admin/scoring/erasure/{row.pk}/confirm/")
    row.refresh_from_db()
    assert (row.state, row.held) == ("cancelled", None)
    assert Transaction.objects.get().tokens is not None


def test_a_page_names_the_value_that_is_missing(shop, acme, client, ada):
    client.force_login(ada)
    for sent in ({"entity": "shop/card_and_category", "value": "x"}, {"entity": "shop/cart", "value": "x"}):
        page = client.post("/admin/scoring/erasure/begin/", sent)
        assert page.status_code == 200
        assert "errorlist" in page.content.decode()
    assert not Erasure.objects.exists()


def test_an_auditor_reads_receipts_and_an_analyst_finds_none(purchase, acme, client, alice, audrey):
    row = erase(CARD)
    pages = [f"/admin/scoring/erasure/{row.pk}/change/", "/admin/scoring/erasure/"]
    for who, status in ((audrey, 200), (alice, 403)):
        client.force_login(who)
        assert [client.get(page).status_code for page in pages] == [status, status]
        assert client.get("/admin/scoring/erasure/begin/").status_code == 403
        assert client.post(f"/admin/scoring/erasure/{row.pk}/confirm/").status_code == 403


@on_postgresql
def test_where_tables_are_partitioned_an_erased_id_can_be_used_again_too(pay, partition):  # noqa: F811
    pay("ann", transaction_id="order-1")
    partition()
    erase("ann", schema="handbook", entity="customer")
    again = pay("ann", transaction_id="order-1")
    assert Transaction.objects.get(transaction_id="order-1").pk == again.pk
    assert Transaction.objects.count() == 2
