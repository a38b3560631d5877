"""The control group: a share of would-be alerts that is let through, and what it tells of the others."""

import json
import time
from datetime import timedelta
from io import StringIO

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from fraudsite.testing import fraudulent_payload, seed_payload, submission
from scoring.decisions import Decision, Thresholds
from scoring.models import Label, Prediction, Review
from scoring.policies import control, versions
from scoring.policies.checking import faults
from scoring.policies.document import Control, Document
from scoring.policies.engine import Policy
from scoring.policies.evidence import Basis
from scoring.policies.expressions import Case
from scoring.policies.lists import HeldLists
from scoring.policies.missed import Missed
from scoring.tests.test_policies import held
from scoring.worker import batches, predictor
from training.core.schema import load_schema

ULB = load_schema("ulb")
HANDBOOK = load_schema("handbook")
SMALL = Control(share=0.05, max_amount=100.0, seed="a secret")


def decide(document, amounts, scores, *, schema=ULB, tokens=(), lists=()):
    policy = Policy(schema, Thresholds(0.5, 0.9), document, lists=HeldLists(schema, lists))
    names = schema.feature_names
    cases = [
        Case([amount if name == schema.amount else 0.0 for name in names], tokens, 0.0, f"key-{i}")
        for i, amount in enumerate(amounts)
    ]
    return policy.decide(cases, [[0.0] * len(schema.derived)] * len(cases), scores)


def test_a_share_of_would_be_alerts_is_let_through_and_their_propensity_kept():
    decided = decide(Document(control=SMALL), [50.0] * 4000, [0.6, 0.95] * 2000)
    draws = [each.evidence.control for each in decided]
    through = [each for each in decided if each.evidence.control.let_through]
    assert len(through) / len(decided) == pytest.approx(0.05, abs=0.015)
    assert {each.decision for each in through} == {Decision.APPROVE}
    assert {each.evidence.basis for each in through} == {Basis.CONTROL}
    assert {draw.propensity for draw in draws} == {0.05}
    assert {draw.would for draw in draws} == {Decision.REVIEW, Decision.BLOCK}


def test_the_draw_depends_on_the_seed_and_the_transaction_alone():
    one, same = (decide(Document(control=SMALL), [50.0] * 500, [0.6] * 500) for _ in range(2))
    other = decide(Document(control=Control(share=0.05, max_amount=100.0, seed="b")), [50.0] * 500, [0.6] * 500)
    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("document", "amount", "score"),
    [
        (Document(), 50.0, 0.95),
        (Document(control=SMALL), 100.01, 0.95),
        (Document(control=SMALL), 50.0, 0.1),
    ],
)
def test_without_a_share_above_the_amount_or_without_an_alert_nothing_is_drawn(document, amount, score):
    assert all(each.evidence is None for each in decide(document, [amount] * 200, [score] * 200))


def test_what_a_list_decides_is_never_let_through():
    decided = decide(
        Document(control=SMALL), [50.0] * 500, [0.95] * 500, schema=HANDBOOK, tokens=("card", "shop"),
        lists=[held(Decision.BLOCK, "card")],
    )  # fmt: skip
    assert {each.decision for each in decided} == {Decision.BLOCK}


@pytest.mark.parametrize(
    ("group", "where"),
    [
        (Control(share=0.06, max_amount=1.0, seed="a"), "control.share"),
        (Control(share=-0.01, max_amount=1.0, seed="a"), "control.share"),
        (Control(share=0.01, seed="a"), "control.max_amount"),
        (Control(share=0.01, max_amount=1.0), "control.seed"),
    ],
)
def test_a_group_without_limits_does_not_go_live(group, where):
    assert [fault.where for fault in faults(Document(control=group), ULB)] == [where]


def simulated(seed):
    """Traffic whose truth is known: alerts, of which 60 % are fraud, and 40 frauds that were no alerts. Returns the
    estimates, and the naive ones from the outcomes that are seen."""
    random = np.random.default_rng(seed)
    fraud = random.random(4000) < 0.6
    decided = decide(
        Document(control=Control(share=0.05, max_amount=100.0, seed=str(seed))), [50.0] * 4000, [0.95] * 4000
    )
    through = np.array([each.decision == Decision.APPROVE for each in decided])
    drawn = control.Drawn(np.full(4000, 0.05), through, fraud & through)
    seen = int((fraud & through).sum())
    return control.estimate(drawn, missed=Missed(40, 40.0)), fraud.sum(), seen / (seen + 40)


def test_weighted_estimates_are_unbiased_where_naive_ones_are_not():
    runs = [simulated(seed) for seed in range(30)]
    errors = [estimates.frauds.value - truth for estimates, truth, _ in runs]
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(len(errors))
    covered = [estimates.frauds.low <= truth <= estimates.frauds.high for estimates, truth, _ in runs]
    assert sum(covered) >= 26
    truth = 2400 / 2440
    naive = [naive for _, _, naive in runs]
    assert max(naive) < truth - 0.1
    assert all(abs(estimates.recall.value - truth) < 0.01 for estimates, _, _ in runs)


def test_an_empty_group_estimates_nothing():
    nothing = control.estimate(control.Drawn(np.empty(0), np.empty(0, bool), np.empty(0, bool)), missed=Missed(0, 0.0))
    assert np.isnan(nothing.precision.value)
    assert np.isnan(nothing.recall.value)


@pytest.fixture
def everything_let_through(champion, settings):
    settings.CONTROL_SHARE_LIMIT = 0.5
    group = Control(share=0.5, max_amount=100.0, seed="a secret")
    versions.activate(versions.draft(schema="ulb", by="ada", content=Document(control=group)), by="ada")
    return predictor.refresh("ulb")


def test_what_is_let_through_is_approved_opens_no_review_and_is_counted(everything_let_through, acme):
    rows = [submission(acme.pk, fraudulent_payload(Amount=50.0)) for _ in range(40)]
    rows.append(submission(acme.pk, seed_payload()))
    outcomes, _ = batches.score_batch(submissions=rows, predictor=everything_let_through, started_at=time.time())
    answers = [json.loads(outcome.answer) for outcome in outcomes]
    through = [answer["id"] for answer in answers[:-1] if answer["decision"] == "approve"]
    assert 5 < len(through) < 35
    assert Review.objects.count() == 40 - len(through)
    assert {answer["basis"] for answer in answers if answer["id"] in through} == {"control"}
    stored = Prediction.objects.get(pk=through[0]).evidence["control"]
    assert (stored["propensity"], stored["let_through"]) == (0.5, True)
    for key in (*through[:4], answers[-1]["id"]):
        Label.objects.create(transaction_id=key, is_fraud=True, verdict=True, source="chargeback")
    found = control.of_period(ULB, timezone.now() - timedelta(hours=1), timezone.now() + timedelta(hours=1))
    assert (found.alerts, found.let_through, found.missed, found.frauds.value) == (40, len(through), 1, 8.0)
    out = StringIO()
    call_command("policy", "control", days=1.0, stdout=out)
    assert "40 would-be alerts" in out.getvalue()
    assert "8.0" in out.getvalue()


@pytest.mark.parametrize("days", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_a_number_of_days_that_is_none_is_refused(db, days):
    with pytest.raises(CommandError, match=r"--days (takes a number of days from 0 to 3,650|is above 0)"):
        call_command("policy", "control", days=days)
