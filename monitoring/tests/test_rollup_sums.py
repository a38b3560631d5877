"""Sums of refused calls, of rules and of decided reviews agree with their counts and rows, however late these come."""

from datetime import timedelta

import pytest

from monitoring.rollups import checking, reading, rebuilding
from monitoring.rollups.models import RefusalRollup, ReviewRollup, RuleRollup, Span
from monitoring.rollups.updating import update
from monitoring.rollups.windows import Window
from monitoring.tests.support import NOON, decide
from scoring.models import (
    Client,
    Decision,
    Forgotten,
    PolicyVersion,
    RefusalCount,
    RefusalOfClientCount,
    Review,
    RuleCount,
    RuleOfClientCount,
)

pytestmark = pytest.mark.django_db

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
EVER = NOON - 400 * DAY, NOON + 400 * DAY


def test_refused_calls_and_rules_are_added_up_by_the_hour_and_the_day(champion):
    policy = PolicyVersion.objects.create(schema="ulb", number=3, document={})
    for minutes in (0, 1, 70, 60 * 24):
        minute = NOON - minutes * MINUTE
        RefusalCount.objects.create(minute=minute, status=503, kind="No worker", count=2)
        RuleCount.objects.create(minute=minute, policy=policy, rule="large", decided=10, matched=1, absent=2, failed=0)
    for _ in range(2):
        update(now=NOON)
    for length, times in ((HOUR, 2), (DAY, 3), (7 * DAY, 4), (30 * DAY, 4), (90 * DAY, 4)):
        window = Window.last(length, now=NOON)
        assert reading.refusals(window)[503, "No worker"].sum() == 2 * times
        rule = reading.rules(window, schema="ulb", policy=3)["large"]
        assert (rule.decided.sum(), rule.matched.sum(), rule.absent.sum()) == (10 * times, times, 2 * times)
        assert reading.rules(window, schema="handbook") == {}


def test_refused_calls_and_rules_of_a_client_are_read_at_any_length_and_agree_with_counting_one_by_one(champion, acme):
    policy = PolicyVersion.objects.create(schema="ulb", number=3, document={})
    nothing = {"decided": 0, "matched": 0, "absent": 0, "failed": 0}
    for minutes in (0, 1, 70, 60 * 24):
        minute = NOON - minutes * MINUTE
        RefusalCount.objects.create(minute=minute, status=503, kind="No worker", count=5)
        RefusalOfClientCount.objects.create(minute=minute, client=acme.pk, status=503, kind="No worker", count=2)
        of_client = {"minute": minute, "client": acme.pk, "policy": policy}
        for rule, matched in (("large", 4), ("idle", 0), ("night", 1)):
            RuleCount.objects.create(
                minute=minute, policy=policy, rule=rule, **nothing | {"decided": 10, "matched": matched}
            )
        RuleOfClientCount.objects.create(**of_client, rule="", **nothing | {"decided": 6})
        RuleOfClientCount.objects.create(**of_client, rule="large", **nothing | {"matched": 3, "failed": 1})
    update(now=NOON)
    for length, times in ((2 * HOUR, 3), (7 * DAY, 4), (90 * DAY, 4)):
        window = Window.last(length, now=NOON)
        assert reading.refusals(window, client=acme.pk)[503, "No worker"].sum() == 2 * times
        assert reading.refusals(window)[503, "No worker"].sum() == 5 * times
        assert reading.refusals(window, client=acme.pk + 1) == {}
        found = reading.rules(window, schema="ulb", client=acme.pk)
        sums = {name: [int(column.sum()) for column in rule] for name, rule in found.items()}
        assert sums == {
            "large": [6 * times, 3 * times, 0, times],
            "idle": [6 * times, 0, 0, 0],
            "night": [6 * times, 0, 0, 0],
        }
        assert reading.rules(window, schema="ulb")["large"].matched.sum() == 4 * times
    for span in list(Span)[1:]:
        assert list(checking.differences_of_sums(span, *EVER)) == []
    RuleRollup.objects.filter(span=Span.DAY, client=acme.pk, rule="large", start=NOON - 12 * HOUR).update(matched=1)
    RefusalRollup.objects.filter(span=Span.DAY, client=acme.pk, start=NOON - 12 * HOUR).delete()
    wrong_refusals, wrong_rules = checking.differences_of_sums(Span.DAY, *EVER)
    assert wrong_refusals.endswith("503 No worker: (6,) counted, nothing in the roll-up.")
    assert "ulb 3 large: (0, 9, 0, 3) counted, (0, 1, 0, 3) in the roll-up." in wrong_rules
    for _ in rebuilding.rebuild(NOON.date(), NOON.date(), now=NOON):
        pass
    assert list(checking.differences_of_sums(Span.DAY, *EVER)) == []


def test_what_web_processes_and_workers_add_late_is_added_up(champion):
    update(now=NOON)
    RefusalCount.objects.create(minute=NOON - 30 * MINUTE, status=429, kind="Too many requests", count=5)
    update(now=NOON + MINUTE)
    RefusalCount.objects.create(minute=NOON - 20 * HOUR, status=429, kind="Too many requests", count=7)
    update(now=NOON + HOUR)
    assert sum(RefusalRollup.objects.filter(span=Span.HOUR).values_list("count", flat=True)) == 12
    assert sum(RefusalRollup.objects.filter(span=Span.DAY).values_list("count", flat=True)) == 12
    assert not RuleRollup.objects.exists()


def test_what_was_added_while_beat_was_away_for_days_is_added_up(champion, score):
    RefusalCount.objects.create(minute=NOON - 10 * DAY, status=429, kind="Too many requests", count=1)
    update(now=NOON - 10 * DAY)
    score(*[NOON - hours * HOUR for hours in range(0, 200, 24)])
    for days in (8, 5, 3, 1):
        RefusalCount.objects.create(minute=NOON - days * DAY, status=429, kind="Too many requests", count=2)
    update(now=NOON, seconds=0)  # a run that has no time to come to an end
    update(now=NOON)
    for span in (Span.HOUR, Span.DAY):
        assert sum(RefusalRollup.objects.filter(span=span).values_list("count", flat=True)) == 9


def test_decided_reviews_are_the_same_by_the_minute_the_hour_and_the_day(score, acme, alice, mel):
    globex = Client.objects.create(name="Globex")
    score(*[NOON - DAY] * 6, decision=Decision.REVIEW)
    score(*[NOON - DAY] * 2, decision=Decision.REVIEW, client=globex)
    of_acme, of_globex = (list(Review.objects.filter(client=each)) for each in (acme, globex))
    decide(of_acme[:3], alice, "fraud", NOON - MINUTE)
    decide(of_acme[3:5], mel, "legitimate", NOON - 59 * MINUTE, is_sample=True)
    decide(of_globex, None, "legitimate", NOON - 2 * MINUTE, decided_by_default=True)
    for _ in range(2):
        update(now=NOON)
    for length in (2 * HOUR, DAY, 7 * DAY, 30 * DAY, 90 * DAY):
        window = Window.last(length, now=NOON)
        for client, by_default in ((None, 2), (acme.pk, 0), (globex.pk, 2)):
            found = reading.decided(window, schema="ulb", client=client)
            shares = {(share.analyst, share.state, share.is_sample): share.number for share in found.shares}
            assert found.by_step.sum() == sum(shares.values())
            assert shares.get((None, "legitimate", False), 0) == by_default
            if client != globex.pk:
                assert shares[alice.pk, "fraud", False] == 3
                assert shares[mel.pk, "legitimate", True] == 2
        assert reading.decided(window, schema="handbook").shares == []
    assert [fault for span in list(Span)[1:] for fault in checking.differences_of_sums(span, *EVER)] == []


def test_a_decision_that_is_taken_back_is_no_longer_counted(score, alice):
    score(NOON - DAY, NOON - DAY, decision=Decision.REVIEW)
    first, second = Review.objects.all()
    decide([first, second], alice, "fraud", NOON - HOUR)
    update(now=NOON)
    decide([second], None, "open", None)
    update(now=NOON + MINUTE)
    for length in (2 * HOUR, 90 * DAY):
        assert reading.decided(Window.last(length, now=NOON), schema="ulb").by_step.sum() == 1


def test_an_hour_whose_only_decision_is_taken_back_or_corrected_counts_it_no_longer(score, alice):
    score(NOON - DAY, NOON - DAY, decision=Decision.REVIEW)
    first, second = Review.objects.all()
    decide([first], alice, "fraud", NOON - 30 * HOUR)
    decide([second], alice, "fraud", NOON - HOUR)
    update(now=NOON)
    decide([first], None, "open", None)
    decide([second], alice, "legitimate", NOON + 3 * HOUR)
    update(now=NOON + 4 * HOUR)
    window = Window.last(7 * DAY, now=NOON + 4 * HOUR)
    assert [share.state for share in reading.decided(window, schema="ulb").shares] == ["legitimate"]
    for span in list(Span)[1:]:
        assert sum(ReviewRollup.objects.filter(span=span, client=0).values_list("decided", flat=True)) == 1
        assert list(checking.differences_of_sums(span, *EVER)) == []


def test_a_rebuild_keeps_what_is_known_of_reviews_that_retention_deleted(score, alice):
    score(NOON - 40 * DAY, NOON - 40 * DAY, decision=Decision.REVIEW)
    decide(Review.objects.all(), alice, "fraud", NOON - 39 * DAY)
    update(now=NOON)
    Review.objects.all()[0].delete()
    Forgotten.objects.create(client=Client.objects.get(), before=NOON - 38 * DAY, decided_before=NOON - 38 * DAY)
    for _ in rebuilding.rebuild((NOON - 39 * DAY).date(), (NOON - 39 * DAY).date(), now=NOON):
        pass
    assert reading.decided(Window.last(90 * DAY, now=NOON), schema="ulb").by_step.sum() == 2


# --- the command ----------------------------------------------------------------------------------------------------
