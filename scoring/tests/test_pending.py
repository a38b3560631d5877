"""What waits for its score: only a fault of the row counts against it."""

import json
import time
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from uuid import UUID

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.management import call_command
from django.db import OperationalError
from django.urls import reverse
from django.utils import timezone
from msgspec.structs import replace

from fraudsite.testing import seed_payload, submission
from scoring import tasks
from scoring.messages.replies import Kind
from scoring.models import Fallback, Label, Pending, Prediction, Review, Transaction
from scoring.worker import batches, pending, predictor
from training import registry
from training.core.exceptions import StaleHistory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    """As in a worker that has just started; and every message is lost."""
    monkeypatch.setattr(predictor, "_loaded", {})
    monkeypatch.setattr(predictor, "_refused", {})
    monkeypatch.setattr(tasks, "send_pending", lambda transaction_id: None)


@pytest.fixture
def accept(acme_api):
    def post():
        headers = {"Prefer": "respond-async"}
        body = json.dumps(seed_payload())
        return acme_api.post("/predict", data=body, content_type="application/json", headers=headers).json()["id"]

    return post


def sweep():
    """What the reconciler sends, taken by a worker at once."""
    Pending.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    due = pending.claim_due(limit=100)
    tasks.score_pending([str(key) for key in due])
    return due


def test_it_waits_for_a_champion_however_long_and_is_scored_when_there_is_one(accept, acme_api, bundle, settings):
    key = accept()
    for _ in range(settings.PENDING_ATTEMPTS_LIMIT + 3):
        assert len(sweep()) == 1
    assert Pending.objects.get().attempts == 0
    response = acme_api.get(f"/api/v1/predictions/{key}")
    assert response.status_code == 202
    assert "no champion" in response.json()["detail"]
    assert "manage.py" not in response.json()["detail"]
    registry.register(bundle, promote=True)
    sweep()
    assert acme_api.get(f"/api/v1/predictions/{key}").status_code == 200


@pytest.mark.parametrize("error", [OperationalError("away"), StaleHistory("ulb")])
@pytest.mark.parametrize("suspect", [False, True])
def test_a_cause_outside_counts_no_attempt(champion, accept, acme_api, monkeypatch, error, suspect):
    def fail(**_):
        raise error

    accept()
    Pending.objects.update(suspect=suspect)
    with monkeypatch.context() as patched:
        patched.setattr(pending, "score", fail)
        sweep()
    waiting = Pending.objects.get()
    assert (waiting.attempts, waiting.suspect) == (0, False)
    assert waiting.fault
    sweep()
    assert Prediction.objects.count() == 1


def test_a_fault_that_is_longer_than_its_column_is_cut_off(accept):
    key = accept()
    for longer in ("a" * 300, "b" * 300):
        pending.record_fault([key], longer)
        assert Pending.objects.get().fault == longer[: Pending._meta.get_field("fault").max_length]
        pending.postpone([key], longer.upper(), counted=False)
        assert Pending.objects.get().fault == longer[: Pending._meta.get_field("fault").max_length].upper()


def test_a_row_that_kills_its_worker_is_set_aside_and_the_others_of_its_batch_are_scored(
    champion, accept, settings, monkeypatch
):
    poison, *others = (accept() for _ in range(4))
    score = pending.score

    def score_or_die(*, transaction_ids, predictor):
        if poison in map(str, transaction_ids):
            raise SystemExit
        return score(transaction_ids=transaction_ids, predictor=predictor)

    monkeypatch.setattr(pending, "score", score_or_die)
    for _ in range(settings.PENDING_ATTEMPTS_LIMIT + 1):
        Pending.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        for key in pending.claim_due(limit=100) if Pending.objects.filter(suspect=True).exists() else [None]:
            with suppress(SystemExit):
                tasks.score_pending([str(key)] if key else [poison, *others])
    assert pending.claim_due(limit=100) == []
    left = Pending.objects.get()
    assert (str(left.pk), left.attempts) == (poison, settings.PENDING_ATTEMPTS_LIMIT)
    assert "worker was lost" in left.fault
    assert Prediction.objects.count() == len(others)


def set_aside(*keys, settings):
    Pending.objects.filter(pk__in=keys).update(attempts=settings.PENDING_ATTEMPTS_LIMIT, fault="What once was wrong.")


def test_the_admin_tries_again_exactly_what_was_ticked(champion, client, mel, alice, accept, settings):
    ticked, other = accept(), accept()
    set_aside(ticked, other, settings=settings)
    chosen = {"action": "retry", "select_across": "1", ACTION_CHECKBOX_NAME: [ticked]}
    for person, tried in ((alice, 0), (mel, 1)):
        client.force_login(person)
        page = client.post(reverse("admin:scoring_pending_changelist"), chosen, follow=True).content.decode()
        assert ("1 will be tried again" in page) == bool(tried)
        assert Pending.objects.filter(attempts=0).count() == tried
    assert Pending.objects.get(attempts=0).pk.hex == ticked.replace("-", "")
    sweep()
    assert Prediction.objects.count() == 1


@pytest.mark.parametrize(("arguments", "count"), [([], "1 "), (["--schema", "handbook"], "0 "), (["--all"], "2 ")])
def test_the_command_tries_again_and_says_how_many(accept, settings, arguments, count):
    set_aside(accept(), settings=settings)
    accept()
    out = StringIO()
    call_command("retry_pending", *arguments, stdout=out)
    assert out.getvalue().startswith(f"{count}will be tried again")


def test_each_try_waits_twice_as_long_as_the_one_before_up_to_a_limit(accept, settings):
    settings.PENDING_RETRY_S, settings.PENDING_WAIT_LIMIT_S = 10, 60
    accept()
    waits = []
    for _ in range(5):
        Pending.objects.update(due_at=timezone.now())
        before = timezone.now()
        assert len(pending.claim_due(limit=1)) == 1
        waits.append(round((Pending.objects.get().due_at - before).total_seconds()))
    assert waits == [10, 20, 40, 60, 60]


def test_what_is_claimed_is_nobody_elses_and_what_waits_longest_comes_first(accept):
    newer, older, not_yet = accept(), accept(), accept()
    now = timezone.now()
    for key, seconds in ((newer, -1), (older, -2), (not_yet, 60)):
        Pending.objects.filter(pk=key).update(due_at=now + timedelta(seconds=seconds))
    assert [str(key) for key in pending.claim_due(limit=1)] == [older]
    assert [str(key) for key in pending.claim_due(limit=9)] == [newer]
    assert pending.claim_due(limit=9) == []


def test_a_row_that_the_model_cannot_score_is_set_aside_and_the_others_are_scored(
    champion, accept, settings, monkeypatch
):
    bad, good = accept(), accept()
    Transaction.objects.filter(pk=bad).update(fields=seed_payload(Amount=666.0))
    loaded = predictor.refresh("ulb")
    score = loaded.score

    def overflow(features, requests=()):
        scores = score(features, requests)
        scores[features[:, -1] == 666] = float("nan")
        return scores

    monkeypatch.setattr(loaded, "score", overflow)
    assert pending.score(transaction_ids=[bad, good], predictor=loaded) == 1
    assert str(Prediction.objects.get().pk) == good
    left = Pending.objects.get()
    assert (str(left.pk), left.attempts) == (bad, settings.PENDING_ATTEMPTS_LIMIT)
    assert "no finite score" in left.fault
    assert pending.score(transaction_ids=[good], predictor=loaded) == 0, "it is done already"


def test_a_score_that_comes_later_has_its_times_too(champion, accept):
    accept()
    sweep()
    stored = Prediction.objects.get()
    assert stored.features_ms > 0
    assert stored.model_ms > 0
    clocks_ms = 5  # two clocks measure these
    assert stored.queue_ms + stored.features_ms + stored.model_ms <= stored.latency_ms + clocks_ms


def test_each_schema_is_scored_by_its_own_and_what_is_set_aside_by_none(accept, settings):
    one, other, aside = accept(), accept(), accept()
    Transaction.objects.filter(pk=other).update(schema="handbook")
    set_aside(aside, settings=settings)
    found = pending.by_schema([one, other, aside])
    assert {schema: list(map(str, rows)) for schema, rows in found.items()} == {"ulb": [one], "handbook": [other]}


@pytest.mark.parametrize(("amount", "decision", "reviews"), [(99.0, "approve", 0), (100.0, "review", 1)])
def test_what_rules_decided_is_scored_later_and_keeps_its_answer(champion, acme, settings, amount, decision, reviews):
    settings.FALLBACK_REVIEW_AMOUNT = 100.0
    sent = submission(acme.pk, seed_payload(Amount=amount, transaction_id="order-1"))
    outcome = pending.fall_back(submission=sent, reason="deadline")
    told = json.loads(outcome.answer)
    assert (outcome.kind, told["decision"], told["degraded"], told["fraud_score"]) == (
        Kind.SCORED,
        decision,
        "deadline",
        None,
    )
    assert pending.fall_back(submission=sent, reason="deadline") == outcome, "a repeat is told the same"
    assert not Review.objects.exists()
    sweep()
    assert str(Prediction.objects.get().pk) == sent.id
    assert Review.objects.count() == reviews
    assert not Pending.objects.exists()


def test_no_answer_was_given_before_its_call_arrived_though_clocks_differ(acme):
    sent = submission(acme.pk, seed_payload())
    sent = replace(sent, received_at=sent.received_at + 3600)
    outcome = pending.fall_back(submission=sent, reason="deadline")
    assert json.loads(outcome.answer)["latency_ms"] == 0


def test_rules_do_not_overrule_what_a_worker_stored_a_moment_earlier(champion, acme):
    sent = submission(acme.pk, seed_payload())
    [scored], _ = batches.score_batch(submissions=[sent], predictor=predictor.refresh("ulb"), started_at=time.time())
    assert pending.fall_back(submission=sent, reason="deadline") == scored
    assert not Fallback.objects.exists()


def test_what_is_sent_again_while_it_waits_still_waits_and_other_content_is_a_conflict(acme):
    first, again, other = (
        submission(acme.pk, seed_payload(transaction_id="order-1", Amount=amount)) for amount in (1.0, 1.0, 2.0)
    )
    accepted = pending.accept(submission=first)
    assert (accepted.kind, accepted.answer.decode()) == (Kind.PENDING, first.id)
    assert pending.accept(submission=again) == accepted
    assert pending.accept(submission=other).kind == Kind.CONFLICT
    assert Pending.objects.count() == 1


def test_a_score_is_stored_with_what_its_labels_changed_or_not_at_all(handbook_champion, acme, monkeypatch):
    def fail(*_):
        raise OperationalError("away")

    payload = {"schema": "handbook", "amount": 12.5, "customer": "ada", "terminal": "shop"}
    key = UUID(pending.accept(submission=submission(acme.pk, payload)).answer.decode())
    loaded = predictor.refresh("handbook")
    with monkeypatch.context() as patched:
        patched.setattr(Label.objects, "bulk_update", fail)
        with pytest.raises(OperationalError):
            pending.score(transaction_ids=[key], predictor=loaded)
    assert not Prediction.objects.exists()
    assert pending.score(transaction_ids=[key], predictor=loaded) == 1


def test_what_waits_enters_the_histories_when_it_is_scored(handbook_champion, acme):
    loaded = predictor.refresh("handbook")

    def pay():
        now = timezone.now().isoformat()
        payload = {"schema": "handbook", "amount": 12.5, "customer": "ada", "terminal": "shop", "event_time": now}
        return submission(acme.pk, payload)

    waits = [UUID(pending.accept(submission=pay()).answer.decode()) for _ in range(2)]
    [at_once], _ = batches.score_batch(submissions=[pay()], predictor=loaded, started_at=time.time())
    assert pending.score(transaction_ids=waits, predictor=loaded) == 2
    scored = list(Prediction.objects.order_by("transaction__sequence"))
    assert [row.pk for row in scored] == [UUID(json.loads(at_once.answer)["id"]), *waits]
    # Of each, what the customer had done by then: what comes later in the day is not counted for what waited.
    assert [row.derived["customer_count_1d"] for row in scored] == [1, 1, 2]
    assert all(row.features_ms > 0 for row in scored)
