"""A policy tried on stored transactions."""

import json
import time
from datetime import timedelta
from io import StringIO
from uuid import UUID

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fraudsite.testing import seed_payload, submission
from scoring.decisions import Decision, Thresholds
from scoring.lists import changes
from scoring.lists.changes import Addition
from scoring.models import Backtest, Label, Prediction
from scoring.policies import backtests, versions
from scoring.policies.backtesting import Backtester, Result
from scoring.policies.document import Document, Rule, Segment, State
from scoring.policies.engine import Policy
from scoring.policies.stored import Reader
from scoring.tests.test_batches import payment
from scoring.worker import batches, predictor

HOUR = timedelta(hours=1)


def rule(name, when, action=Decision.REVIEW, state=State.ACTIVE):
    return Rule(name=name, when=when, action=action, state=state)


LARGE = Document(rules=[rule("large", "Amount > 100")])


@pytest.fixture
def period():
    return {"since": timezone.now() - HOUR, "until": timezone.now() + HOUR}


def score(client, *payloads, schema="ulb"):
    rows = [submission(client.pk, payload) for payload in payloads]
    loaded = predictor.refresh(schema)
    outcomes, _ = batches.score_batch(submissions=rows, predictor=loaded, started_at=time.time())
    return [json.loads(outcome.answer)["id"] for outcome in outcomes]


def go_live(document, schema):
    version = versions.draft(schema=schema, by="ada", content=document)
    versions.activate(version, by="ada")


def decide_again(document, schema, period):
    """The evidence and decision of each stored transaction by this policy, by its key."""
    version = predictor.refresh(schema.name).version
    policy = Policy(schema, Thresholds(version.review_threshold, version.block_threshold), document)
    again = {}
    for page in Reader(schema, period["since"], period["until"]).pages():
        cases, derived, scores = ([getattr(row, name) for row in page] for name in ("case", "derived", "score"))
        for row, decided in zip(page, policy.decide(cases, derived, scores), strict=True):
            evidence = msgspec.to_builtins(decided.evidence) if decided.evidence else None
            again[UUID(row.key)] = (str(decided.decision), decided.threshold, evidence)
    return again


CUSTOMERS = st.sampled_from(["ada", "bob"])
BATCHES = st.lists(st.lists(st.tuples(CUSTOMERS, st.integers(1, 300), st.integers(0, 90)), max_size=5), max_size=4)


@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BATCHES)
def test_a_backtest_matches_what_matched_live_to_the_row_velocity_included(handbook_champion, acme, sent):
    from django.db import transaction

    schema = predictor.refresh("handbook").schema
    velocity = [feature.name for feature in schema.velocity if "count" in feature.name or "amount" in feature.name][:2]
    document = Document(
        rules=[
            rule("many", f"{velocity[0]} >= 2"),
            rule("much", f"{velocity[1]} > 150 && amount > 20", Decision.BLOCK),
            rule("watched", "fraud_score >= 0 && amount <= 150", state=State.SHADOW),
        ],
        segments=[Segment(name="small", when="amount < 50", review=0.9)],
    )
    with transaction.atomic():
        go_live(document, "handbook")
        now = timezone.now()
        for batch in sent:
            moments = [(now - timedelta(minutes=ago)).isoformat() for _, _, ago in batch]
            rows = [
                payment(customer=customer, amount=float(amount), event_time=moment)
                for (customer, amount, _), moment in zip(batch, moments, strict=True)
            ]
            if rows:
                score(acme, *rows, schema="handbook")
        live = {
            prediction.pk: (prediction.decision, prediction.threshold, prediction.evidence)
            for prediction in Prediction.objects.all()
        }
        period = {"since": now - HOUR, "until": timezone.now() + HOUR}
        assert decide_again(document, schema, period) == live
        transaction.set_rollback(True)


@pytest.mark.django_db
class TestResult:
    @pytest.fixture
    def result(self, champion, acme, period):
        """The result of a backtest of `LARGE` on ten transactions, of which the five largest are above 100."""
        keys = score(acme, *[seed_payload(Amount=20.0 * number + 10) for number in range(10)])
        Label.objects.create(transaction_id=keys[9], is_fraud=True, verdict=True, source="chargeback")
        Label.objects.create(transaction_id=keys[8], is_fraud=False, verdict=False, source="analyst")
        Label.objects.create(transaction_id=keys[0], is_fraud=True, verdict=True, source="chargeback")
        Label.objects.create(
            transaction_id=keys[7], is_fraud=True, verdict=True, source="chargeback", created_at=period["until"] + HOUR
        )
        backtest = backtests.start(schema="ulb", content=LARGE, by="ada", **period)
        backtests.perform(backtest.pk)
        backtest.refresh_from_db()
        assert (backtest.state, backtest.done, backtest.failure) == ("done", 10, "")
        self.keys = keys
        return msgspec.convert(backtest.result, Result)

    def test_it_counts_the_decisions_that_change_with_their_amounts_and_examples(self, result):
        [change] = result.changes
        assert (change.before, change.after, change.sum.count, change.frauds) == ("approve", "review", 5, 2)
        assert change.sum.amount == sum(20.0 * number + 10 for number in range(5, 10))
        assert change.examples == self.keys[5:]
        assert (result.before.decisions["review"].count, result.after.decisions["review"].count) == (0, 5)

    def test_it_judges_by_labels_as_known_now_and_as_known_at_the_end_of_the_period(self, result):
        now, then = result.after.now, result.after.then
        assert (now.caught.count, now.missed.count, now.false_alerts.count, now.honest) == (2, 1, 1, 3)
        assert (then.caught.count, then.missed.count, then.false_alerts.count, then.honest) == (1, 1, 1, 4)
        assert now.precision.value == pytest.approx(2 / 3)
        assert 0 < now.precision.low < 2 / 3 < now.precision.high < 1
        assert result.before.now.recall.value == 0.0
        assert result.before.now.precision.value is None

    def test_it_counts_each_rule_and_each_day(self, result):
        [large] = result.rules
        assert (large.rule, large.matched.count, large.alone, large.frauds, large.legitimate) == ("large", 5, 5, 2, 1)
        [day] = result.days
        assert (day.transactions, day.before, day.after, day.frauds, day.caught_after) == (10, 0, 5, 3, 2)


@pytest.mark.django_db
def test_rules_that_match_the_same_transactions_overlap(champion, acme, period):
    score(acme, seed_payload(Amount=50.0), seed_payload(Amount=150.0))
    document = Document(rules=[rule("all_of_them", "Amount > 0"), rule("large", "Amount > 100", state=State.SHADOW)])
    backtest = backtests.start(schema="ulb", content=document, by="ada", **period)
    all_of_them, large = _rules(backtest)
    assert (all_of_them.overlap, all_of_them.alone) == ({"large": 1}, 1)
    assert (large.overlap, large.alone) == ({"all_of_them": 1}, 0)


def _rules(backtest):
    return _result(backtest).rules


def _result(backtest):
    backtests.perform(backtest.pk)
    backtest.refresh_from_db()
    assert backtest.failure == ""
    return msgspec.convert(backtest.result, Result)


@pytest.mark.django_db
class TestLists:
    @pytest.fixture
    def listed(self, champion, acme):
        """Three transactions of an amount: before it was on a list that blocks, meanwhile, and after its removal."""
        row = changes.create(schema="ulb", name="amounts", about="Amount", action="block", by="ada")
        sent = seed_payload(Amount=777.5)
        keys = score(acme, sent)
        entry = changes.add_one(row, Addition("777.5"), by="ada")
        keys += score(acme, sent)
        changes.take_off(row, [entry.pk], by="ada")
        return keys + score(acme, sent)

    def test_a_backtest_with_lists_as_they_were_decides_as_was_decided_to_the_row(self, listed, period):
        backtest = backtests.start(schema="ulb", content=Document(), by="ada", **period)
        result = _result(backtest)
        assert result.before.decisions["block"].count == 1
        assert result.changes == []
        [amounts] = result.rules
        assert (amounts.rule, amounts.state, amounts.examples) == ("on_amounts", "list", [listed[1]])

    def test_what_a_list_did_counts_until_it_was_changed(self, champion, acme, period):
        row = changes.create(schema="ulb", name="amounts", about="Amount", action="block", by="ada")
        changes.add_one(row, Addition("777.5"), by="ada")
        sent = seed_payload(Amount=777.5)
        score(acme, sent)
        for action, max_amount in (("review", None), ("review", 500), ("", 500), ("challenge", None)):
            changes.change(row, action=action, max_amount=max_amount, note="", by="mel")
            score(acme, sent)
        result = _result(backtests.start(schema="ulb", content=Document(), by="ada", **period))
        counts = {name: decided.count for name, decided in result.before.decisions.items()}
        assert counts == {"approve": 2, "review": 1, "challenge": 1, "block": 1}
        assert result.changes == []
        [amounts] = result.rules
        assert amounts.matched.count == 5

    def test_a_draft_counts_from_the_moment_on_at_which_it_went_live(self, champion, acme, period):
        draft = changes.create(schema="ulb", name="amounts", about="Amount", action="block", by="ada", is_draft=True)
        changes.add_one(draft, Addition("777.5"), by="ada")
        keys = score(acme, seed_payload(Amount=777.5))
        changes.make_live(draft, by="mel")
        keys += score(acme, seed_payload(Amount=777.5))
        result = _result(backtests.start(schema="ulb", content=Document(), by="ada", **period))
        assert (result.changes, result.rules[0].examples) == ([], keys[1:])

    def test_a_removed_list_counts_until_its_removal(self, listed, period):
        changes.remove(changes.named("ulb", "amounts"))
        assert _result(backtests.start(schema="ulb", content=Document(), by="ada", **period)).changes == []

    def test_lists_as_they_are_now_count_for_all_times(self, listed, period):
        changes.add_one(changes.named("ulb", "amounts"), Addition("777.5"), by="ada")
        backtest = backtests.start(schema="ulb", content=Document(), by="ada", lists="now", **period)
        [change] = _result(backtest).changes
        assert (change.before, change.after, change.examples) == ("approve", "block", [listed[0], listed[2]])

    def test_a_draft_of_a_list_adds_entries_and_takes_off_those_that_expired_in_backtests_that_choose_it(
        self, champion, acme, period
    ):
        row = changes.create(schema="ulb", name="amounts", about="Amount", action="block", by="ada")
        changes.add_one(row, Addition("777.5"), by="ada")
        draft = changes.create(schema="ulb", name="amounts", about="Amount", action="review", by="ada", is_draft=True)
        changes.add_one(draft, Addition("777.5", timezone.now() - timedelta(days=9)), by="ada")
        changes.add_one(draft, Addition("888.5"), by="ada")
        new = changes.create(schema="ulb", name="odd", about="Amount", by="ada", is_draft=True)
        changes.add_one(new, Addition("999.5"), by="ada")
        score(acme, *(seed_payload(Amount=amount) for amount in (777.5, 888.5, 999.5)))
        policy = Document(rules=[rule("odd", "on_odd")])
        backtest = backtests.start(schema="ulb", content=policy, drafts=[draft, new], by="ada", **period)
        result = _result(backtest)
        assert {(change.before, change.after): change.sum.count for change in result.changes} == {
            ("block", "approve"): 1,
            ("approve", "review"): 2,
        }
        with pytest.raises(versions.PolicyFaults, match="There is no on_odd"):
            backtests.start(schema="ulb", content=policy, by="ada", **period)


@pytest.mark.django_db
class TestGroups:
    def test_results_are_told_by_the_values_of_an_expression(self, champion, acme, period):
        score(acme, *(seed_payload(Amount=amount) for amount in (50.0, 150.0, 250.0)))
        by = 'Amount > 200.0 ? "much" : "little"'
        result = _result(backtests.start(schema="ulb", content=LARGE, by_expression=by, by="ada", **period))
        told = [(group.name, group.transactions, group.after, group.changed.amount) for group in result.groups]
        assert told == [("little", 2, 1, 150.0), ("much", 1, 1, 250.0)]

    def test_what_has_too_many_values_has_a_group_of_others(self, champion, acme, period, monkeypatch):
        monkeypatch.setattr("scoring.policies.backtesting.GROUPS", 2)
        score(acme, *(seed_payload(Amount=amount) for amount in (1.0, 2.0, 3.0, 4.0)))
        result = _result(backtests.start(schema="ulb", content=LARGE, by_expression="Amount", by="ada", **period))
        assert [(group.name, group.transactions) for group in result.groups] == [("1", 1), ("2", 1), ("others", 2)]

    @pytest.mark.parametrize(
        ("schema", "by", "told"), [("ulb", "nope", "There is no nope"), ("shop", "email", "personal")]
    )
    def test_an_expression_that_makes_no_groups_is_refused(self, request, period, schema, by, told):
        if schema == "shop":
            request.getfixturevalue("shop")
        with pytest.raises(backtests.BacktestRefused, match=told):
            backtests.start(schema=schema, content=Document(), by_expression=by, by="ada", **period)


@pytest.mark.django_db
def test_pages_leave_out_and_double_nothing(champion, acme, period, monkeypatch):
    monkeypatch.setattr("scoring.policies.stored.PAGE", 3)
    for _ in range(3):
        score(acme, *[seed_payload()] * 4)
    keys = [row.key for page in Reader(predictor.refresh("ulb").schema, **period).pages() for row in page]
    assert sorted(keys) == sorted(map(str, Prediction.objects.values_list("pk", flat=True)))


@pytest.mark.django_db
def test_a_cancelled_backtest_ends_without_a_result(champion, acme, period):
    score(acme, seed_payload())
    backtest = backtests.start(schema="ulb", content=LARGE, by="ada", **period)
    assert backtests.cancel(backtest)
    backtests.perform(backtest.pk)
    backtest.refresh_from_db()
    assert (backtest.state, backtest.result) == ("cancelled", None)
    assert not backtests.cancel(backtest)


@pytest.mark.django_db
def test_a_backtest_that_cannot_go_on_says_why(champion, acme, period):
    backtest = backtests.start(schema="ulb", content=LARGE, by="ada", **period)
    type(champion).objects.update(stage="retired")
    backtests.perform(backtest.pk)
    backtest.refresh_from_db()
    assert backtest.state == "failed"
    assert "champion" in backtest.failure


@pytest.mark.django_db
def test_a_backtest_whose_worker_was_lost_has_failed(period):
    heard = timezone.now() - HOUR
    lost = Backtest.objects.create(schema="ulb", document={}, by="ada", state="running", heard_at=heard, **period)
    backtests.give_up_the_lost()
    lost.refresh_from_db()
    assert (lost.state, "not been heard" in lost.failure) == ("failed", True)


@pytest.mark.django_db
class TestRefusals:
    def test_of_a_policy_with_faults(self, period):
        with pytest.raises(versions.PolicyFaults, match="There is no nope"):
            backtests.start(schema="ulb", content=Document(rules=[rule("a", "nope > 1")]), by="ada", **period)

    def test_of_an_empty_period(self, period):
        with pytest.raises(backtests.BacktestRefused, match="empty"):
            backtests.start(schema="ulb", content=LARGE, by="ada", since=period["until"], until=period["since"])

    def test_of_too_many_at_once(self, period, settings):
        settings.BACKTESTS_LIMIT = 1
        backtests.start(schema="ulb", content=LARGE, by="ada", **period)
        with pytest.raises(backtests.BacktestRefused, match="BACKTESTS_LIMIT"):
            backtests.start(schema="ulb", content=LARGE, by="ada", **period)


def test_the_command_has_a_worker_try_a_file_and_tells_the_result(worker, post, tmp_path):
    post(seed_payload(Amount=500.0))
    post(seed_payload())
    path = tmp_path / "policy.json"
    path.write_bytes(msgspec.json.encode(LARGE))
    out = StringIO()
    call_command("policy", "backtest", str(path), days=1.0, stdout=out)
    assert "2 transactions" in out.getvalue()
    assert "approve → review" in out.getvalue()
    assert "large" in out.getvalue()
    assert Backtest.objects.get().state == "done"


@pytest.mark.django_db
def test_the_command_refuses_a_period_without_length(tmp_path):
    path = tmp_path / "policy.json"
    path.write_bytes(msgspec.json.encode(LARGE))
    with pytest.raises(CommandError, match="days"):
        call_command("policy", "backtest", str(path), days=0.0)


def test_a_backtester_without_transactions_has_an_empty_result():
    from training.core.schema import load_schema

    result = Backtester(Policy(load_schema("ulb"), Thresholds(0.5), LARGE)).result()
    assert (result.transactions, result.changes, result.days) == (0, [], [])
