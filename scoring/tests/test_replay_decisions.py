"""Old decisions, computed again on the versions that made them."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, seed_payload
from scoring.decisions import Decision
from scoring.models import Prediction
from scoring.policies import versions
from scoring.policies.document import Document, Rule, Segment, State
from scoring.policies.engine import Policy
from scoring.policies.lists import HeldLists
from scoring.tests.test_backtests import score
from scoring.tests.test_batches import payment
from scoring.tests.test_policies import held
from scoring.worker import predictor

LARGE = Rule(name="large", when="Amount > 100", action=Decision.BLOCK, state=State.ACTIVE)


@pytest.fixture
def again():
    def run(**options):
        out = StringIO()
        since = (timezone.now() - timedelta(hours=1)).isoformat()
        call_command("replay_decisions", since=since, stdout=out, **options)
        return out.getvalue()

    return run


def go_live(document, schema="ulb"):
    versions.activate(versions.draft(schema=schema, by="ada", content=document), by="ada")


def differences(again, **options):
    out = StringIO()
    since = (timezone.now() - timedelta(hours=1)).isoformat()
    with pytest.raises(CommandError, match="differences"):
        call_command("replay_decisions", since=since, stdout=out, **options)
    return out.getvalue()


def test_decisions_of_several_policies_and_thresholds_come_out_the_same_to_the_last_bit(champion, acme, again):
    score(acme, seed_payload(), fraudulent_payload())
    go_live(Document(rules=[LARGE], segments=[Segment(name="small", when="Amount < 50", review=0.9)]))
    score(acme, seed_payload(Amount=500.0), fraudulent_payload(Amount=5.0))
    champion.review_threshold, champion.block_threshold = 0.9, 0.99
    champion.save(update_fields=["review_threshold", "block_threshold"])
    score(acme, fraudulent_payload(Amount=80.0))
    go_live(Document(appetite="bold", challenge=0.01))
    score(acme, fraudulent_payload(), seed_payload())
    versions.roll_back(schema="ulb", by="ada")
    score(acme, seed_payload(Amount=500.0))
    assert "8 decisions computed again, none differs" in again()


def test_computed_features_and_lists_are_those_of_the_time(handbook_champion, acme, again, monkeypatch):
    loaded = predictor.refresh("handbook")
    row = payment(customer="ada", amount=150.0)
    score(acme, row, payment(customer="ada", amount=20.0), schema="handbook")
    token = next(iter(Prediction.objects.first().transaction.tokens.values()))
    lists = HeldLists(loaded.schema, [held(Decision.BLOCK, token), held(None, token, name="watched")])
    policy = Policy(loaded.schema, loaded.policy.of_model, lists=lists)
    monkeypatch.setitem(predictor._loaded, "handbook", loaded.under(policy))
    monkeypatch.setattr(predictor, "refresh", lambda schema: predictor._loaded[schema])
    score(acme, payment(customer="ada", amount=30.0), schema="handbook")
    stored = Prediction.objects.order_by("-created_at").first()
    assert (stored.decision, stored.evidence["on"]) == ("block", ["watched"])
    assert "3 decisions computed again, none differs" in again(schema="handbook")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"fraud_score": 0.123}, "fraud_score"),
        ({"decision": "block"}, "decision"),
        ({"evidence": {"basis": "rule", "rules": []}}, "evidence"),
    ],
)
def test_what_was_tampered_with_is_named(champion, acme, again, change, part):
    [key] = score(acme, seed_payload())
    Prediction.objects.filter(pk=key).update(**change)
    assert f"{key} {part}: stored" in differences(again)


def test_a_score_may_differ_by_a_stated_tolerance(champion, acme, again):
    [key] = score(acme, seed_payload())
    stored = Prediction.objects.get(pk=key).fraud_score
    Prediction.objects.filter(pk=key).update(fraud_score=stored + 1e-9)
    assert "fraud_score" in differences(again)
    assert "none differs" in again(tolerance=1e-6)


def test_a_bundle_that_is_gone_is_told_for_each_of_its_decisions(champion, acme, again, settings, tmp_path):
    [key] = score(acme, seed_payload())
    settings.BUNDLES_DIR, settings.STORAGE_URL = tmp_path / "models", str(tmp_path / "storage")
    assert f"{key} model: stored" in differences(again)


def test_a_sample_is_as_large_as_asked_for(champion, acme, again):
    score(acme, *[seed_payload()] * 5)
    assert "3 decisions computed again" in again(sample=3)
    assert "5 decisions computed again" in again(sample=0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"since": "yesterday"}, "ISO time"),
        ({"since": "2026-01-01", "schema": "nope"}, "no schema nope"),
    ],
)
def test_options_that_make_no_sense_are_refused(db, options, told):
    with pytest.raises(CommandError, match=told):
        call_command("replay_decisions", **options)


@pytest.mark.parametrize(
    "command", [("check_parity", "--schema", "ulb"), ("replay_decisions", "--since", "2026-01-01")]
)
@pytest.mark.parametrize("option", ["--sample=-1", "--sample=100000000000000000000", "--sample=1.5"])
def test_a_sample_that_cannot_be_is_refused_with_what_may_be(command, option):
    with pytest.raises(CommandError, match="--sample: give a whole number from 0 to 1,000,000,000"):
        call_command(*command, option)


@pytest.mark.parametrize("tolerance", ["nan", "-1", "inf"])
def test_a_tolerance_by_which_nothing_would_differ_is_refused(tolerance):
    with pytest.raises(CommandError, match="--tolerance is 0 to 1"):
        call_command("replay_decisions", "--since", "2026-01-01", f"--tolerance={tolerance}")


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"])
def test_a_time_that_cannot_be_is_refused(since):
    with pytest.raises(CommandError, match="--since takes an ISO time"):
        call_command("replay_decisions", "--since", since)
