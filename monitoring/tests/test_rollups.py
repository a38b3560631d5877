"""Roll-ups agree with the answers, however often, however late and by however many schedulers these are counted."""

import threading
from datetime import timedelta

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from monitoring.rollups import checking, counting, reading, retention, updating
from monitoring.rollups.histograms import LATENCY_EDGES_MS, SCORE_BINS
from monitoring.rollups.models import RefusalRollup, ReviewRollup, RollupProgress, Span, TrafficRollup
from monitoring.rollups.updating import update
from monitoring.rollups.windows import Window
from monitoring.tests.support import NOON, decide, fall_back, moments, predict
from scoring.models import (
    Client,
    Decision,
    Fallback,
    Prediction,
    Review,
)

pytestmark = pytest.mark.django_db

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
EVER = NOON - 400 * DAY, NOON + 400 * DAY


def faults(*spans):
    """What the roll-ups say otherwise than counting one by one would."""
    return [fault for span in spans or Span for fault in checking.differences(span, *EVER)]


def total(span=Span.DAY, **of):
    rows = TrafficRollup.objects.filter(span=span, **{"client": counting.ALL_CLIENTS} | of)
    return rows.aggregate(sum=Sum("transactions"))["sum"] or 0


def as_stored():
    columns = ("span", *counting.Key._fields, "transactions", "amount")
    return sorted(TrafficRollup.objects.values_list(*columns))


@pytest.mark.parametrize("seed", range(3))
def test_it_counts_what_counting_one_by_one_would(score, acme, handbook_champion, seed):
    random = np.random.default_rng(seed)
    globex = Client.objects.create(name="Globex")
    for client in (acme, globex):
        for decision in Decision:
            count = int(random.integers(0, 80))
            made = score(
                *moments(count, before=NOON, within=HOUR * int(random.choice([1, 40])), seed=seed),
                client=client,
                decision=decision,
                fraud_scores=random.uniform(0, 1, count).tolist(),
                latencies_ms=random.lognormal(2, 2, count).tolist(),
            )
            for each in made:
                each.queue_ms, each.features_ms, each.model_ms = random.lognormal(1, 2, 3).tolist()
            Prediction.objects.bulk_update(made, ["queue_ms", "features_ms", "model_ms"])
        fall_back(client, moments(20, before=NOON, within=HOUR))
    predict(handbook_champion, globex, moments(9, before=NOON, within=HOUR))
    update(now=NOON)
    assert faults() == []
    answers = Prediction.objects.count() + Fallback.objects.count()
    assert total(Span.MINUTE) == total(Span.HOUR) == total(Span.DAY) == answers
    assert total(client=acme.pk) + total(client=globex.pk) == answers


def test_the_edge_of_a_bin_belongs_to_the_bin_above(score):
    scores = [0.0, *[i / SCORE_BINS for i in range(1, SCORE_BINS)], 1.0]
    score(*[NOON] * len(scores), fraud_scores=scores)
    edges = [0.0, *LATENCY_EDGES_MS, 60_000.0]
    score(*[NOON + MINUTE] * len(edges), latencies_ms=edges)
    update(now=NOON + MINUTE)
    assert faults() == []
    seen = reading.traffic(Window.between(NOON, NOON + 2 * MINUTE, now=NOON))
    assert seen.scores[0].tolist() == [1] * (SCORE_BINS - 1) + [2]
    assert seen.latencies()[1].tolist() == [1] * len(LATENCY_EDGES_MS) + [2]


def test_a_minute_ends_before_the_next_begins(score):
    score(NOON - timedelta(microseconds=1), NOON)
    update(now=NOON)
    rows = TrafficRollup.objects.filter(span=Span.MINUTE, client=0).values_list("start", "transactions")
    assert dict(rows) == {NOON - MINUTE: 1, NOON: 1}


def test_money_is_added_up_by_decision(score):
    score(NOON, NOON, fields=[{"Amount": 10.0}, {"Amount": 2.5}])
    score(NOON, decision=Decision.BLOCK, fields=[{"Amount": 100.0}])
    update(now=NOON)
    seen = reading.traffic(Window.last(HOUR, now=NOON), schema="ulb")
    assert (seen.amounts["approve"].sum(), seen.amounts["block"].sum()) == (12.5, 100.0)


def test_counting_again_changes_nothing(score):
    score(*moments(50, before=NOON, within=10 * MINUTE))
    update(now=NOON)
    before = as_stored()
    for _ in range(3):
        assert update(now=NOON) == 0
    assert as_stored() == before


@pytest.mark.parametrize("seconds_late", [0, 90, 5 * 60, 14 * 60, -5 * 60, -14 * 60])
def test_rows_that_are_committed_late_or_by_a_clock_that_is_wrong_are_counted_by_the_next_run(score, seconds_late):
    """Each run sees rows whose moment is so long before it, or after it."""
    for second in range(0, 180, 20):
        now = NOON + timedelta(seconds=second)
        score(*moments(4, before=now - timedelta(seconds=seconds_late), within=timedelta(seconds=20), seed=second))
        update(now=now)
        assert total() == Prediction.objects.count()
    assert faults() == []


def test_a_busy_minute_is_counted_once_it_is_over_and_said_to_lack_until_then(score, settings):
    settings.ROLLUP_BUSY_MINUTE = 10
    score(*moments(30, before=NOON, within=MINUTE))
    score(*moments(11, before=NOON + MINUTE / 2, within=MINUTE / 2))
    for seconds in (30, 35, 40):
        update(now=NOON + timedelta(seconds=seconds))
        assert total() == 30
        assert reading.progress().counted_until == NOON
    now = NOON + MINUTE * 0.9
    assert "busy a minute" in reading.progress().lacks(Window.last(HOUR, now=now), now=now)
    update(now=NOON + MINUTE)
    assert total() == 41
    assert reading.progress().counted_until == NOON + MINUTE
    assert faults() == []


def test_rows_that_come_hours_late_are_found_within_two_days(score):
    score(NOON)
    update(now=NOON)
    score(NOON - 5 * HOUR, NOON - 30 * HOUR)
    for minute in range(50):
        update(now=NOON + minute * MINUTE)
    assert total() == 3
    assert faults() == []


def test_when_beat_was_dead_it_counts_everything_since(score):
    score(NOON)
    update(now=NOON)
    later = NOON + 30 * HOUR
    score(*moments(100, before=later, within=24 * HOUR))
    assert reading.progress().counted_until == NOON
    assert "counted until 2026-03-01 12:00" in reading.progress().lacks(Window.last(HOUR, now=later), now=later)
    update(now=later)
    assert faults() == []
    assert reading.progress().lacks(Window.last(HOUR, now=later), now=later) == ""


def test_a_year_without_traffic_costs_no_more_than_a_minute(score, django_assert_max_num_queries):
    score(NOON)
    update(now=NOON)
    score(NOON + 365 * DAY)
    with django_assert_max_num_queries(90):
        update(now=NOON + 365 * DAY)
    assert faults(Span.HOUR, Span.DAY) == []


def test_at_first_it_counts_today_and_then_the_days_before(score):
    score(NOON, NOON - DAY, NOON - 40 * DAY)
    update(now=NOON, seconds=0)  # it has no time for more than one hour
    assert "before 2026-03-01 00:00 UTC is still being counted" in reading.progress().lacks(
        Window.last(7 * DAY, now=NOON), now=NOON
    )
    update(now=NOON)
    assert reading.progress().lacks(Window.last(90 * DAY, now=NOON), now=NOON) == ""
    assert faults(Span.HOUR, Span.DAY) == []
    # The minutes of a day that is long past are not kept.
    assert total(Span.MINUTE) == 2


def test_without_an_answer_it_counts_nothing(db):
    assert update() == 0
    assert not TrafficRollup.objects.exists()


def test_two_schedulers_at_once_count_each_answer_once(transactional_db, score):
    score(*moments(60, before=NOON, within=3 * HOUR))
    start = threading.Barrier(2)
    failures = []

    def run():
        try:
            start.wait()
            update(now=NOON)
        except Exception as error:  # told by the test below
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    update(now=NOON)
    assert failures == []
    assert total() == 60
    assert faults() == []


def test_a_run_that_counted_before_another_wrote_does_not_replace_what_that_wrote(score, monkeypatch):
    score(NOON)
    count = counting.count

    def slow(start, end):
        cells = count(start, end)
        monkeypatch.setattr(counting, "count", count)
        score(NOON)
        update(now=NOON)
        return cells

    monkeypatch.setattr(counting, "count", slow)
    update(now=NOON)
    assert total() == 2
    assert faults() == []


def test_a_run_that_is_killed_midway_leaves_whole_hours_and_says_what_is_missing(score, monkeypatch):
    score(NOON)
    update(now=NOON)
    later = NOON + 3 * HOUR
    score(NOON + HOUR, NOON + 2 * HOUR)
    merge, left = updating.merge, [3]

    def dying(*args):
        """The process is killed between an hour and its day."""
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        merge(*args)

    monkeypatch.setattr(updating, "merge", dying)
    with pytest.raises(KeyboardInterrupt):
        update(now=later)
    assert total(Span.MINUTE) == total(Span.HOUR) == total(Span.DAY) <= 2
    assert reading.progress().lacks(Window.last(DAY, now=later), now=later).startswith("Incomplete: counted until")
    monkeypatch.undo()
    update(now=later)
    assert total() == 3
    assert faults() == []


def test_minutes_and_hours_are_deleted_in_time_and_days_stay(score, settings):
    settings.ROLLUP_MINUTES_DAYS, settings.ROLLUP_HOURS_DAYS = 3, 32
    score(NOON - 60 * DAY, NOON - 10 * DAY, NOON)
    update(now=NOON)
    retention.delete_old(now=NOON)
    assert [total(span) for span in Span] == [1, 1, 2, 2, 3]
    for length in (HOUR, DAY, 31 * DAY, 90 * DAY):
        counted = reading.traffic(Window.last(length, now=NOON)).transactions
        assert counted == sum(moment > NOON - length for moment in (NOON - 60 * DAY, NOON - 10 * DAY, NOON))


def test_after_an_upgrade_spans_that_are_new_are_added_up_and_said_to_lack_until_then(score, alice):
    """An earlier version had neither quarters of an hour nor thirds of a day."""
    score(NOON - MINUTE, NOON - 5 * HOUR, NOON - 3 * DAY, NOON - 25 * DAY, decision=Decision.REVIEW)
    decide(Review.objects.all(), alice, "fraud", NOON - 3 * HOUR)
    update(now=NOON)
    before = as_stored()
    for rollups in (TrafficRollup, ReviewRollup):
        rollups.objects.filter(span__in=[Span.QUARTER, Span.THIRD]).delete()
    tomorrow = NOON + 12 * HOUR
    RollupProgress.objects.update(merged_from=tomorrow)
    assert "still being counted" in reading.progress().lacks(Window.last(DAY, now=NOON), now=NOON)
    update(now=NOON, seconds=0)
    assert reading.progress().counted_from == tomorrow
    update(now=NOON)
    assert as_stored() == before
    assert reading.progress().lacks(Window.last(30 * DAY, now=NOON), now=NOON) == ""
    for length in (DAY, 30 * DAY):
        assert reading.decided(Window.last(length, now=NOON), schema="ulb").by_step.sum() == 4


def test_what_a_process_of_an_earlier_version_counts_beside_is_added_up_within_an_hour(score):
    score(NOON - 2 * HOUR)
    update(now=NOON)
    before = as_stored()
    TrafficRollup.objects.filter(span__in=[Span.QUARTER, Span.THIRD]).delete()
    for minute in range(1, 50):
        update(now=NOON + minute * MINUTE)
    assert as_stored() == before


# --- refused calls and rules ----------------------------------------------------------------------------------------


def ago(**duration):
    return timezone.now() - timedelta(**duration)


def test_the_command_counts_again_what_was_lost(score, capsys):
    times = [ago(days=3), ago(days=3), ago(days=1), ago(hours=2)]
    score(*times)
    update()
    TrafficRollup.objects.filter(start__lt=ago(hours=20)).delete()
    with pytest.raises(CommandError, match="rows, 0 in the roll-up"):
        call_command("rebuild_rollups", "--check")
    call_command("rebuild_rollups", "--from", f"{times[0]:%Y-%m-%d}", "--to", f"{times[2]:%Y-%m-%d}")
    assert "3 answers of 3 days are counted; 0 hours were kept" in capsys.readouterr().out
    call_command("rebuild_rollups", "--check")
    assert "Every roll-up says what its rows say." in capsys.readouterr().out


def test_the_check_notices_a_figure_that_is_wrong(score):
    score(ago(hours=3))
    update()
    TrafficRollup.objects.filter(span=Span.HOUR, client=0).update(amount=1e6)
    with pytest.raises(CommandError, match=r"Hour .* 0 ulb .* rows come to an amount of"):
        call_command("rebuild_rollups", "--check")


def test_the_check_notices_a_span_that_nothing_was_counted_in(score):
    score(ago(hours=3))
    update()
    hour = counting.start_of(ago(hours=3), HOUR)
    RefusalRollup.objects.create(span=Span.HOUR, start=hour, client=0, status=503, kind="No worker", count=2)
    with pytest.raises(CommandError, match=r"503 No worker: nothing counted, \(2,\) in the roll-up"):
        call_command("rebuild_rollups", "--check")
    call_command("rebuild_rollups")
    assert RefusalRollup.objects.exists(), "its counts may have been deleted"
    call_command("rebuild_rollups", "--even-if-fewer")
    call_command("rebuild_rollups", "--check")


def test_hours_whose_rows_are_gone_keep_their_counts_unless_that_is_wanted(score, capsys):
    made = score(*[ago(days=2)] * 3)
    update()
    made[0].delete()
    call_command("rebuild_rollups")
    assert "1 hours were kept" in capsys.readouterr().out
    assert total() == 3
    call_command("rebuild_rollups", "--even-if-fewer")
    assert total() == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--from", "yesterday"], "write it as 2026-03-01"),
        (["--from", "2026-03-02", "--to", "2026-03-01"], "is after --to"),
        (["--check"], "No traffic has been counted yet"),
    ],
)
def test_the_command_says_what_is_wrong_with_what_it_is_asked(db, asked, said):
    with pytest.raises(CommandError, match=said):
        call_command("rebuild_rollups", *asked)


def test_a_rebuild_while_beat_goes_on_counts_all(score, monkeypatch):
    """A run of beat that counted before the rebuild wrote gives up; the next finds what came meanwhile."""
    score(ago(hours=2))
    count = counting.count

    def slow(start, end):
        cells = count(start, end)
        monkeypatch.setattr(counting, "count", count)
        call_command("rebuild_rollups", verbosity=0)
        return cells

    monkeypatch.setattr(counting, "count", slow)
    update()
    score(ago(hours=1))
    update()
    assert total() == 2
    assert RollupProgress.objects.get().whole
    assert faults_until_now() == []


def faults_until_now():
    return [fault for span in Span for fault in checking.differences(span, ago(days=5), timezone.now())]


# --- reading --------------------------------------------------------------------------------------------------------
