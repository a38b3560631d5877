"""When an alert fires and clears: levels, times, missing values. By hand, and as laws of any series."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitoring.alerts.conditions import Condition, Direction, NoData, Verdict, change, episodes, judge
from monitoring.alerts.series import Kind, Series

START, MINUTE = datetime(2026, 3, 2, tzinfo=UTC), timedelta(minutes=1)
NAN = float("nan")


def series(*values, samples=None, kind=Kind.LEVEL):
    return Series(START, MINUTE, np.array(values, float), np.array(samples or [100] * len(values)), kind)


def rule(fires_at=10.0, clears_at=5.0, lasts=0, calm=0, direction=Direction.ABOVE, **more):
    return Condition(direction, fires_at, clears_at, lasts * MINUTE, calm * MINUTE, **more)


def open_steps(condition, *values, **options):
    """The first and last step of each episode."""
    judged = judge(series(*values, **options), condition)
    return [(each.first, each.last) for each in episodes(judged, condition)]


def test_it_fires_at_one_level_and_clears_at_a_calmer_one():
    assert open_steps(rule(), 1, 9, 10, 6, 9, 12, 5, 9, 1) == [(2, 6)]


def test_below_a_level_is_the_mirror_of_above():
    below = rule(fires_at=-10, clears_at=-5, direction=Direction.BELOW)
    assert open_steps(below, -1, -9, -10, -6, -9, -12, -5, -9) == [(2, 6)]


def test_it_fires_after_the_time_that_it_asks_for_and_clears_after_a_time_of_its_own():
    assert open_steps(rule(lasts=3, calm=2), 12, 12, 1, 12, 12, 12, 1, 12, 1, 1, 1) == [(5, 9)]


def test_a_share_of_too_few_samples_is_unknown():
    few = open_steps(rule(0.5, 0.1, min_samples=10), 5, 6, 60, samples=[9, 9, 90], kind=Kind.SHARE)
    assert few == [(2, None)]


def test_what_is_unknown_is_passed_over_unless_it_is_most():
    assert open_steps(rule(lasts=2), 12, NAN, 12, NAN, NAN, NAN, 1) == [(2, 6)]
    assert open_steps(rule(lasts=2), 12, NAN, NAN, NAN, 12) == []


def test_missing_figures_can_be_an_alert_themselves():
    assert open_steps(rule(lasts=2, no_data=NoData.FIRE), 1, NAN, NAN, 1, 1) == [(2, 3)]


# Calm, between both levels, beyond, unknown.
numbers = st.lists(st.sampled_from([1.0, 7.0, 12.0, NAN]), max_size=30)


@given(values=numbers, lasts=st.integers(0, 4), calm=st.integers(0, 4))
def test_the_preview_is_what_judging_after_each_step_would_have_done(values, lasts, calm):
    condition, is_open = rule(lasts=lasts, calm=calm), False
    found: list[tuple[int, int | None]] = []
    for index in range(len(values)):
        judged = judge(series(*values[: index + 1]), condition)
        wanted = change(judged, condition, is_open=is_open)
        if wanted is Verdict.BREACH:
            is_open = True
            found.append((index, None))
        elif wanted is Verdict.CALM:
            is_open = False
            found[-1] = (found[-1][0], index)
    assert open_steps(condition, *values) == found


@given(values=st.lists(st.sampled_from([1.0, 8.0, 11.0, 14.0]), max_size=30), level=st.sampled_from([6.0, 10.0]))
def test_a_level_further_away_never_fires_earlier(values, level):
    first = open_steps(rule(fires_at=level), *values)[:1]
    further = open_steps(rule(fires_at=level + 3), *values)[:1]
    assert not further or (first and first[0][0] <= further[0][0])


@given(values=numbers)
def test_an_episode_begins_at_a_breach_and_ends_at_a_calm_step(values):
    for first, last in open_steps(rule(), *values):
        assert values[first] >= 10
        assert last is None or values[last] <= 5
