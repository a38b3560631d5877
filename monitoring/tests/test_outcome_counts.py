"""Counts of outcomes agree with the decisions one by one, whatever labels arrive, however late and however often."""

import threading
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.forms import model_to_dict
from django.utils import timezone

from monitoring.matured import counting, delays, estimates, selectors, updating
from monitoring.matured.bands import bands_of
from monitoring.matured.counting import start_of
from monitoring.matured.models import LabelDelay, OutcomeCount, OutcomeProgress, ScoreOutcome
from monitoring.matured.selectors import Window
from monitoring.rollups.counting import ALL_CLIENTS
from monitoring.tests.support import transactions
from scoring.decisions import ALERTS, Decision
from scoring.learning import outcomes
from scoring.models import Client, Label, Prediction, Review, ReviewQueue, SampledPeriod, Transaction
from scoring.policies import evidence, missed
from scoring.reviews import labelling
from scoring.worker.opening import review_of
from training.core.schema import load_schema

pytestmark = pytest.mark.django_db

LONG_AGO = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = Window("ulb", LONG_AGO.date(), LONG_AGO.date() + 6 * DAY, LONG_AGO.date() + 30 * DAY)


@pytest.fixture
def decide(champion, acme):
    """Store a decision; a review if it is an alert."""

    def make(
        decision=Decision.APPROVE,
        *,
        client=acme,
        at=LONG_AGO,
        amount=10.0,
        would=None,
        rules=(),
        share=0.25,
        score=0.5,
        **review,
    ):
        [row] = transactions(client, [at], [{"Amount": amount}])
        why: dict = {"rules": [{"rule": rule, "action": "review", "state": "active"} for rule in rules]}
        if would:
            why["control"] = {"would": would, "propensity": share, "let_through": decision == Decision.APPROVE}
        scored = {"fraud_score": score, "threshold": 0.5, "latency_ms": 4.0, "created_at": at, "evidence": why}
        made = Prediction.objects.create(transaction=row, model_version=champion, decision=decision, **scored)
        if made.is_alert or review:
            opened = review_of(made)
            for name, value in review.items():
                setattr(opened, name, value)
            opened.save()
        return made

    return make


@pytest.fixture
def say(alice):
    def label(made, is_fraud, source=Label.Source.CHARGEBACK, **changes):
        by_analyst = source == Label.Source.ANALYST
        more = {"author": alice, "reason": "Seen."} if by_analyst else {}
        return labelling.add_label(transaction_id=made.pk, is_fraud=is_fraud, source=source, **more | changes)

    return label


def table():
    """Everything that is counted, but for the keys of the rows."""
    counts = [model_to_dict(row, exclude=["id"]) for row in OutcomeCount.objects.all()]
    found = [model_to_dict(row, exclude=["id"]) for row in LabelDelay.objects.all()]
    scores = [model_to_dict(row, exclude=["id"]) for row in ScoreOutcome.objects.all()]
    return sorted(map(str, counts)), sorted(map(str, found)), sorted(map(str, scores))


def total(name, **kind):
    return sum(OutcomeCount.objects.filter(**{"by": "", "client": ALL_CLIENTS} | kind).values_list(name, flat=True))


def test_an_alert_counts_once_for_all_and_once_for_each_of_its_rules_and_its_queue(decide, say):
    queue = ReviewQueue.objects.create(name="Cards")
    say(decide(Decision.REVIEW, rules=["night", "abroad"], queue=queue, amount=30.0), True)
    decide(Decision.BLOCK, rules=["night"])
    decide(rules=["night"])  # approved: the rule is not one that alerts
    updating.update()
    assert (total("rows"), total("frauds"), total("fraud_amount")) == (3, 1, 30.0)
    by_name = OutcomeCount.objects.filter(client=ALL_CLIENTS).exclude(by="").order_by("by", "name", "decision")
    assert list(by_name.values_list("by", "name", "decision", "rows", "frauds")) == [
        ("queue", "Cards", "review", 1, 1),
        ("queue", "no queue", "block", 1, 0),
        ("rule", "abroad", "review", 1, 1),
        ("rule", "night", "block", 1, 0),
        ("rule", "night", "review", 1, 1),
    ]


def test_a_late_label_a_correction_and_a_reversal_each_bring_the_day_up_to_date(decide, say):
    made = decide(Decision.REVIEW)
    updating.update()
    assert total("labelled") == 0
    say(made, True)
    assert updating.update() == 1
    assert (total("labelled"), total("frauds")) == (1, 1)
    say(made, False)
    updating.update()
    assert (total("labelled"), total("frauds")) == (1, 0)
    say(made, True, Label.Source.ANALYST)  # and a chargeback of the case that an analyst decided
    say(made, False)
    updating.update()
    assert (total("labelled"), total("frauds"), total("rows")) == (1, 0, 1)
    word = {"is_fraud": None, "verdict": None, "kind": "retracted", "source": "chargeback"}
    Label.objects.create(transaction=made.transaction, **word)
    updating.update()
    assert (total("labelled"), total("undecided"), total("frauds")) == (0, 1, 0)


def test_a_label_that_was_committed_late_is_seen_all_the_same(decide, say):
    first, second = decide(Decision.REVIEW), decide(Decision.REVIEW)
    updating.update()
    hidden = say(first, True)
    seen = say(second, True)
    # What a run sees while the first is in a transaction that is not committed.
    Label.objects.filter(pk=hidden.pk).delete()
    updating.update()
    assert OutcomeProgress.objects.get().labels_until < hidden.pk
    hidden.save(force_insert=True)
    updating.update()
    assert total("frauds") == 2
    updating.update(now=seen.created_at + 2 * updating.SETTLED)
    assert OutcomeProgress.objects.get().labels_until == seen.pk


def test_when_nothing_happened_no_day_is_counted_again(decide, say):
    say(decide(Decision.REVIEW), True)
    later = timezone.now() + timedelta(hours=1)
    updating.update(now=later)
    assert updating.update(now=later) == 0


def test_what_leaves_no_label_is_found_within_a_day(decide):
    made = decide(Decision.REVIEW, at=timezone.now() - 5 * DAY)
    updating.update()
    Review.objects.filter(pk=made.pk).update(queue=ReviewQueue.objects.create(name="Moved"))
    updating.update()
    assert not OutcomeCount.objects.filter(name="Moved").exists()
    updating.update(now=timezone.now() + timedelta(hours=25))
    assert OutcomeCount.objects.filter(name="Moved").exists()


@pytest.mark.parametrize("seed", range(4))
def test_the_table_is_what_counting_one_by_one_gives(decide, say, seed):
    random = np.random.default_rng(seed)
    SampledPeriod.objects.create(since=LONG_AGO - DAY, until=LONG_AGO + 4 * DAY)
    made = []
    for _ in range(6):
        for _ in range(12):
            at = LONG_AGO + float(random.uniform(0, 6)) * DAY
            kind = random.choice(["approve", "challenge", "review", "block", "through", "drawn", "held"])
            amount, score = float(random.integers(1, 100)), float(random.choice([1e-6, 0.003, 0.4, 0.999, 1.0]))
            if kind in ("through", "held"):
                decision = Decision.APPROVE if kind == "through" else Decision.BLOCK
                made.append(decide(decision, at=at, amount=amount, would="block", score=score))
            elif kind == "drawn":
                chance = float(random.choice([0.1, 0.5]))
                state = str(random.choice(["open", "fraud", "legitimate"]))
                drawn = {"is_sample": True, "sample_probability": chance, "state": state}
                made.append(decide(at=at, amount=amount, score=score, **drawn))
            else:
                made.append(decide(Decision(kind), at=at, amount=amount, score=score))
        for _ in range(8):
            source = str(random.choice(["chargeback", "client", "network"]))
            say(made[random.integers(len(made))], bool(random.random() < 0.7), source)
        updating.update()
    updating.update()
    assert_agrees_with_one_by_one()
    before = table()
    list(updating.recount())
    assert table() == before


def assert_agrees_with_one_by_one():
    """The estimates of the table are those of the functions that read the decisions themselves."""
    rows = list(Prediction.objects.select_related("transaction"))
    known = outcomes.known([row.pk for row in rows])
    draws = {row.pk: evidence.read(row.evidence).control for row in rows}
    coverage = outcomes.Coverage()
    held = [(row.pk, draw) for row in rows if row.decision != Decision.APPROVE and (draw := draws[row.pk])]
    coverage.add(held, known)
    alerts = [row for row in rows if row.decision in ALERTS or draws[row.pk]]
    found = [
        outcomes.outcome(
            row.decision,
            known.get(row.pk),
            is_disputed=row.pk in known,
            draw=draws[row.pk],
            coverage=coverage,
        )
        for row in alerts
    ]
    weight = sum(each.weight for each in found if each)
    frauds = sum(each.weight for each in found if each and each.is_fraud)
    counts = selectors.counts(WEEK)[()]
    caught = estimates.caught(counts, estimates.coverage(counts))
    assert (caught.alerts, caught.known) == (len(alerts), sum(each is not None for each in found))
    assert caught.precision.value == pytest.approx(frauds / weight)
    in_group = {key for key, draw in draws.items() if draw}
    since, until = start_of(WEEK.since), start_of(WEEK.until) + DAY
    direct = missed.of_period(load_schema("ulb"), since, until, in_group)
    ours = estimates.missed(counts)
    assert (ours.drawn, ours.judged) == (direct.sampled, direct.judged)
    assert ours.reported + ours.unreported == pytest.approx(direct.value)
    assert total("rows") == len(rows)
    assert total("labelled") == sum(verdict is not None for verdict in known.values())
    assert_bands_agree(rows, known, draws)


def assert_bands_agree(rows, known, draws):
    """The sums by bands of the score are those of the decisions one by one, and add up to those without bands."""
    direct: dict = defaultdict(float)
    for row, band in zip(rows, bands_of(np.array([row.fraud_score for row in rows])).tolist(), strict=True):
        draw = draws[row.pk]
        kind = draw.would if draw else row.decision
        sums = {"rows": 1, "score": row.fraud_score, "frauds": known.get(row.pk) is True}
        for name, value in sums.items():
            direct[kind, name, str(band)] += value
    counted: dict = defaultdict(float)
    of_all = ScoreOutcome.objects.filter(client=ALL_CLIENTS)
    for outcome in of_all:
        for name in ("rows", "score", "frauds"):
            for band, value in outcome.sums.get(name, {}).items():
                counted[outcome.decision, name, band] += value
    assert counted == pytest.approx({key: value for key, value in direct.items() if value}, abs=1e-6)
    for name in ("reported", "unreported", "unreported_square"):
        banded = sum(sum(outcome.sums.get(name, {}).values()) for outcome in of_all)
        assert banded == pytest.approx(total(name))


def of_client(client):
    """Everything that is counted of a client, or of all."""
    return [
        sorted(str(model_to_dict(row, exclude=["id", "client"])) for row in model.objects.filter(client=client))
        for model in (OutcomeCount, ScoreOutcome, LabelDelay)
    ]


def test_the_counts_of_a_client_are_those_that_all_would_have_without_the_other_clients(decide, say, acme):
    globex = Client.objects.create(name="Globex")
    for number in range(40):
        client = acme if number % 3 else globex
        decision = Decision.REVIEW if number % 5 == 0 else Decision.APPROVE
        made = decide(decision, client=client, amount=number, rules=["night"], score=number / 40)
        if number % 4 == 0:
            say(made, number % 8 == 0)
    updating.update()
    before = of_client(acme.pk)
    assert total("rows", client=acme.pk) + total("rows", client=globex.pk) == total("rows") == 40
    only_acme = selectors.counts(replace(WEEK, client=acme.pk))[()]
    assert sum(sums.rows for sums in only_acme.values()) == total("rows", client=acme.pk) == 26
    Label.objects.filter(transaction__client=globex).delete()
    Review.objects.filter(client=globex).delete()
    Prediction.objects.filter(transaction__client=globex).delete()
    list(updating.recount())
    assert of_client(ALL_CLIENTS) == of_client(acme.pk) == before
    Transaction.objects.filter(client=globex).delete()
    globex.delete()  # then nobody asks of which client a transaction is
    list(updating.recount())
    assert of_client(ALL_CLIENTS) == of_client(acme.pk) == before


def test_two_schedulers_at_once_count_each_day_once(transactional_db, decide, say):
    for number in range(6):
        say(decide(Decision.REVIEW, at=LONG_AGO + number * DAY), True)
    start = threading.Barrier(2)
    failures = []

    def run():
        try:
            start.wait()
            updating.update()
        except Exception as error:  # told by the test below
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    updating.update()
    assert failures == []
    assert (total("rows"), total("frauds")) == (6, 6)


def test_a_run_that_began_earlier_does_not_replace_what_one_that_began_later_counted(decide, say, monkeypatch):
    made = decide(Decision.REVIEW)
    updating.update()
    say(made, True)
    count = counting.count

    def slow(day):
        counted = count(day)
        monkeypatch.setattr(counting, "count", count)
        say(made, False)
        updating.update()
        return counted

    monkeypatch.setattr(counting, "count", slow)
    updating.update()
    assert (total("labelled"), total("frauds")) == (1, 0)


def test_a_run_that_is_killed_midway_leaves_whole_days_and_the_next_goes_on(decide, say, monkeypatch):
    for number in range(3):
        say(decide(Decision.REVIEW, at=LONG_AGO + number * DAY), True)
    monkeypatch.setattr(updating, "LabelDelay", Dying(LabelDelay, after=1))
    with pytest.raises(KeyboardInterrupt):
        updating.update()
    assert total("rows") == 1
    monkeypatch.undo()
    updating.update()
    assert total("rows") == 3


class Dying:
    """A model whose rows can be written so often, before the process is killed."""

    def __init__(self, model, *, after):
        self.model, self.left = model, after

    @property
    def objects(self):
        return self

    def filter(self, **lookups):
        return self.model.objects.filter(**lookups)

    def bulk_create(self, rows):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self.model.objects.bulk_create(rows)


def test_delays_are_counted_by_source_from_the_decision_to_the_first_word(decide, say):
    made = decide(Decision.REVIEW)
    first = say(made, True)
    say(made, False)
    for label, days in ((first, 20), (Label.objects.last(), 40)):
        Label.objects.filter(pk=label.pk).update(created_at=LONG_AGO + days * DAY)
    updating.update()
    counts = selectors.delays(WEEK)["chargeback"]
    assert sum(counts.values()) == 1
    assert delays.quantile(counts, 0.5) == pytest.approx(20 * delays.DAY, rel=0.35)


def test_the_command_counts_again_what_was_lost_and_says_how_much(decide, say, capsys):
    say(decide(Decision.REVIEW), True)
    decide(at=LONG_AGO + 3 * DAY)
    updating.update()
    before = table()
    OutcomeCount.objects.all().delete()
    call_command("recount_outcomes")
    assert table() == before
    assert "2 days" in capsys.readouterr().out


@pytest.mark.parametrize("days", ["-1", "nan", "99999"])
def test_the_command_refuses_days_that_make_no_sense(days):
    with pytest.raises(CommandError, match="--days"):
        call_command("recount_outcomes", f"--days={days}")
