"""Retention: what is older than it is to be kept is deleted with all that belongs to it, and nothing else."""

from datetime import timedelta
from io import StringIO
from urllib.parse import urlencode

import pytest
import uuid_utils.compat
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import IntegrityError
from django.urls import reverse
from django.utils import timezone

from fraudsite.audit.models import Entry
from monitoring.matured import updating
from monitoring.matured.models import OutcomeCount
from monitoring.tests.support import transactions
from monitoring.tests.test_dashboard import answer_of, words
from scoring.models import (
    Attachment,
    Client,
    Fallback,
    Forgotten,
    History,
    Label,
    Pending,
    Prediction,
    Review,
    ReviewEvent,
    ReviewLink,
    SecondOpinion,
    ShadowScore,
    Transaction,
)
from scoring.retention import applying, deleting, tasks
from scoring.reviews import attachments, labelling
from scoring.worker.opening import review_of

pytestmark = pytest.mark.django_db

NOW = timezone.now()
OLD = NOW - timedelta(days=101)
YOUNG = NOW - timedelta(days=99)


@pytest.fixture(autouse=True)
def store(settings, tmp_path):
    settings.STORAGES = settings.STORAGES | {
        "attachments": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": tmp_path / "attachments"},
        }
    }
    return tmp_path / "attachments"


@pytest.fixture
def keep(settings):
    """Keep transactions for so many days."""

    def days(number):
        settings.TRANSACTION_RETENTION_DAYS = number

    return days


@pytest.fixture
def stored(champion, acme):
    """Store a scored transaction of a time, of Acme if nobody else is named."""

    def make(at, client=None, decision="approve"):
        [row] = transactions(client or acme, [at])
        scored = {"fraud_score": 0.1, "threshold": 0.5, "latency_ms": 4.0, "created_at": at, "decision": decision}
        Prediction.objects.create(transaction=row, model_version=champion, **scored)
        return row

    return make


def apply(**options):
    return {progress.what: progress.deleted for progress in applying.apply(**options)}


def run(*arguments):
    out = StringIO()
    call_command("apply_retention", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("seconds", ["nan", "-1", "0"])
def test_a_time_in_which_nothing_could_be_done_is_refused(db, seconds):
    with pytest.raises(CommandError, match="--seconds must be positive"):
        call_command("apply_retention", "--seconds", seconds)


def test_without_a_time_everything_is_kept(stored):
    stored(OLD - timedelta(days=10_000))
    assert "Nothing is old enough" in run()
    assert Transaction.objects.count() == 1


def test_transactions_go_with_the_day_that_is_older_than_they_are_to_be_kept(stored, keep):
    keep(100)
    midnight = (NOW - timedelta(days=100)).replace(hour=0, minute=0, second=0, microsecond=0)
    stored(midnight - timedelta(microseconds=1))
    kept = stored(midnight)
    run()
    assert [row.pk for row in Transaction.objects.all()] == [kept.pk]
    assert [row.pk for row in Prediction.objects.all()] == [kept.pk]


def test_all_that_belongs_to_a_transaction_goes_with_it(
    stored, keep, alice, champion, store, django_capture_on_commit_callbacks
):
    def whole(at):
        row = stored(at, decision="review")
        review = review_of(row.prediction)
        review.save(force_insert=True)
        labelling.add_label(transaction_id=row.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
        ReviewEvent.objects.create(review=review, did="late")
        ReviewLink.objects.create(review=review, name="card", key="1")
        SecondOpinion.objects.create(review=review, first=alice, first_is_fraud=True, asked_at=at)
        ShadowScore.objects.create(transaction=row, model_version=champion, fraud_score=0.1, created_at=at)
        Fallback.objects.create(transaction=row, decision="review", reason="deadline", latency_ms=1.0)
        Pending.objects.create(transaction=row, due_at=NOW)
        file = SimpleUploadedFile("letter.txt", b"A letter.")
        attachments.add(review=review, file=file, author=alice)
        return row

    keep(100)
    whole(OLD)
    kept = whole(YOUNG)
    with django_capture_on_commit_callbacks(execute=True):
        run()
    for model, column in deleting.BELONGINGS:
        assert list(model._base_manager.values_list(column, flat=True)) == [kept.pk], model
    assert [path.name for path in store.iterdir() if any(path.iterdir())] == [str(kept.pk)]


def test_whatever_refers_to_a_transaction_a_prediction_or_a_review_is_deleted_with_it():
    known = {(model, model._meta.get_field(column).name) for model, column in deleting.BELONGINGS if column != "pk"}
    referring = {
        (relation.related_model, relation.field.name)
        for model in (Transaction, Prediction, Review)
        for relation in model._meta.related_objects
    }
    assert referring == known


def test_each_client_has_its_own_time_and_0_is_for_ever(stored, keep, acme, globex):
    keep(100)
    shop = Client.objects.create(name="Shop", keep_transactions_days=0)
    Client.objects.filter(pk=globex.pk).update(keep_transactions_days=60)
    for client in (acme, globex, shop):
        for at in (OLD, YOUNG):
            stored(at, client)
    run()
    left = Transaction.objects.order_by("client__name", "received_at").values_list("client__name", "received_at")
    assert [(name, at == OLD) for name, at in left] == [("Acme", False), ("Shop", True), ("Shop", False)]


def test_a_dry_run_tells_the_numbers_and_deletes_nothing(stored, keep):
    keep(100)
    for at in (OLD, OLD, YOUNG):
        stored(at)
    told = run("--dry-run")
    assert "2 transactions of Acme that were received before" in told
    assert "would be deleted" in told
    assert Transaction.objects.count() == 3
    assert not Forgotten.objects.exists()


def test_it_deletes_in_steps_stops_in_time_and_goes_on(stored, keep, settings):
    keep(100)
    settings.RETENTION_STEP_ROWS = 2
    for _ in range(5):
        stored(OLD)
    assert list(apply(seconds=0).values()) == [2]
    assert Transaction.objects.count() == Prediction.objects.count() == 3
    assert [progress.deleted for progress in applying.apply()] == [2, 3]
    assert not Transaction.objects.exists()


def test_the_nightly_task_makes_room_for_others_and_goes_on_until_nothing_is_left(stored, keep, settings, monkeypatch):
    keep(100)
    settings.RETENTION_STEP_ROWS, settings.RETENTION_LIMIT_S = 1, 0
    sent: list = []
    monkeypatch.setattr(tasks.apply_retention, "delay", lambda: sent.append(tasks.apply_retention))
    monkeypatch.setattr(tasks.delete_idle_histories, "delay", lambda: None)
    for _ in range(3):
        stored(OLD)
    tasks.apply_retention()
    assert Transaction.objects.count() == 2
    while sent:
        sent.pop()()
    assert not Transaction.objects.exists()


def test_what_was_deleted_is_in_the_audit_trail(stored, keep, acme):
    keep(100)
    stored(OLD)
    run()
    begun, ended = Entry.objects.filter(kind="scoring.forgotten").order_by("pk").values_list("action", "detail")
    assert begun[0] == ended[0] == "deleted"
    assert begun[1].startswith("Begun to delete transactions of Acme that were received before")
    assert ended[1].startswith("1 transactions of Acme that were received before")


def test_scores_of_shadows_files_and_idle_histories_have_times_of_their_own(
    stored, settings, champion, alice, django_capture_on_commit_callbacks, store
):
    settings.SHADOW_SCORE_RETENTION_DAYS = settings.ATTACHMENT_RETENTION_DAYS = settings.HISTORY_RETENTION_DAYS = 100
    for at in (OLD, YOUNG):
        row = stored(at, decision="review")
        ShadowScore.objects.create(transaction=row, model_version=champion, fraud_score=0.1, created_at=at)
        review = review_of(row.prediction)
        review.save(force_insert=True)
        attachments.add(review=review, file=SimpleUploadedFile("letter.txt", b"A letter."), author=alice)
        Attachment.objects.filter(review=review).update(added_at=at)
        History.objects.create(
            token=f"{at:%j}", schema="ulb", entity="card", events=b"", last_sequence=1, updated_at=at
        )
    with django_capture_on_commit_callbacks(execute=True):
        run()
    assert Transaction.objects.count() == 2
    assert [score.created_at for score in ShadowScore.objects.all()] == [YOUNG]
    assert [history.updated_at for history in History.objects.all()] == [YOUNG]
    removed, kept = Attachment.objects.order_by("added_at")
    assert "ATTACHMENT_RETENTION_DAYS" in removed.removed_because
    assert not attachments.store().exists(removed.stored)
    assert attachments.store().exists(kept.stored)


def test_a_label_of_a_deleted_transaction_is_refused_with_the_reason(stored, keep, post, acme):
    keep(100)
    stored(OLD)
    run()
    ours = uuid_utils.compat.uuid7(nanoseconds=int(OLD.timestamp() * 1e9))
    body = {"id": str(ours), "kind": "fraud", "event_time": NOW.isoformat()}
    answer = post(body, path="/api/v1/labels")
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/id", "deleted_transaction")
    # An id of a later time is no deleted transaction, but an unknown one.
    body["id"] = str(uuid_utils.compat.uuid7())
    [error] = post(body, path="/api/v1/labels").json()["errors"]
    assert error["code"] == "unknown_transaction"


def test_a_label_by_the_clients_id_of_a_deleted_transaction_waits_and_expires(stored, keep, post):
    keep(100)
    row = stored(OLD)
    Transaction.objects.filter(pk=row.pk).update(transaction_id="order-1")
    run()
    body = {"transaction_id": "order-1", "kind": "fraud", "event_time": NOW.isoformat()}
    answer = post(body, path="/api/v1/labels")
    assert (answer.status_code, answer.json()["status"]) == (202, "waiting")


def test_a_label_whose_transaction_is_deleted_meanwhile_is_answered_as_one_of_an_unknown(
    stored, keep, post, monkeypatch
):
    from scoring.reviews import bulk

    row = stored(OLD)
    calls = []

    def deleted_meanwhile(**_):
        calls.append(1)
        if len(calls) == 2:
            deleting.delete([row.pk])
        raise IntegrityError

    monkeypatch.setattr(bulk, "add_labels", deleted_meanwhile)
    body = {"id": str(row.pk), "kind": "fraud", "event_time": NOW.isoformat()}
    answer = post(body, path="/api/v1/labels")
    assert answer.status_code == 422
    assert len(calls) == 2


def test_outcomes_of_days_that_were_deleted_keep_their_counts(stored, keep, alice, client, acme, globex):
    keep(100)
    Client.objects.filter(pk=globex.pk).update(keep_transactions_days=0)
    stored(OLD)
    other = stored(OLD, globex)
    updating.update(now=NOW)
    of_all = OutcomeCount.objects.filter(day=OLD.date(), client=0)
    [before] = of_all.values_list("rows", flat=True)
    assert before == 2
    run()
    assert Transaction.objects.filter(received_at=OLD).count() == 1
    # A label of what is left would have the day counted from half of its rows.
    labelling.add_label(transaction_id=other.pk, is_fraud=True, source=Label.Source.CHARGEBACK)
    updating.update(now=NOW)
    assert OLD.date() not in list(updating.recount(now=NOW))
    assert list(of_all.values_list("rows", flat=True)) == [2]


def test_the_page_of_outcomes_says_that_decisions_are_deleted(stored, keep, admin_client):
    keep(100)
    stored(OLD)
    stored(YOUNG)
    updating.update(now=NOW)
    run()
    window = {"schema": "ulb", "from": f"{OLD:%Y-%m-%d}", "to": f"{YOUNG + timedelta(days=1):%Y-%m-%d}"}
    told = answer_of(admin_client, urlencode(window), "model")["notice"]["children"]
    assert any("are deleted, at least those of some clients" in text for text in words(told))


def test_a_time_below_the_maturity_of_labels_is_refused(admin_client, acme):
    address = reverse("admin:scoring_client_change", args=[acme.pk])
    page = admin_client.post(address, {"name": acme.name, "is_active": "on", "keep_transactions_days": "10"})
    assert "Keep them for at least 45 days (LABEL_MATURITY_DAYS)" in page.content.decode()
    admin_client.post(address, {"name": acme.name, "is_active": "on", "keep_transactions_days": "90"})
    acme.refresh_from_db()
    assert acme.keep_transactions_days == 90
