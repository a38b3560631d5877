"""What waits for its score: only a fault of the row counts against it."""

import json
from contextlib import suppress
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.management import call_command
from django.db import OperationalError
from django.urls import reverse
from django.utils import timezone

from fraudsite.testing import seed_payload
from scoring import tasks
from scoring.models import Pending, Prediction
from scoring.worker import pending, predictor
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


@pytest.mark.parametrize(("arguments", "said"), [([], "1 "), (["--schema", "handbook"], "0 "), (["--all"], "2 ")])
def test_the_command_tries_again_and_says_how_many(accept, settings, arguments, said):
    set_aside(accept(), settings=settings)
    accept()
    out = StringIO()
    call_command("retry_pending", *arguments, stdout=out)
    assert out.getvalue().startswith(f"{said}will be tried again")
