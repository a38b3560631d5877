"""Windows of any length are read from few rows of roll-ups, and lack nothing."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.rollups import reading
from monitoring.rollups.models import Span
from monitoring.rollups.updating import update
from monitoring.rollups.windows import Window
from monitoring.tests.support import NOON, fall_back, moments
from scoring.models import (
    Decision,
)

pytestmark = pytest.mark.django_db

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
EVER = NOON - 400 * DAY, NOON + 400 * DAY


def test_a_window_is_read_in_few_rows_whatever_its_length():
    for length, span, step in (
        (15 * MINUTE, Span.MINUTE, MINUTE),
        (DAY, Span.QUARTER, 15 * MINUTE),
        (7 * DAY, Span.HOUR, 2 * HOUR),
        (31 * DAY, Span.THIRD, 8 * HOUR),
        (90 * DAY, Span.DAY, DAY),
        (3_000 * DAY, Span.DAY, 30 * DAY),
    ):
        window = Window.last(length, now=NOON)
        assert (window.span, window.step) == (span, step)
        assert len(window) <= 125
        assert length > 1_000 * DAY or (window.end - window.start) / span.length <= 200


def test_a_short_window_long_ago_is_shown_by_what_is_still_kept(score, settings):
    score(NOON - 20 * DAY, NOON - 200 * DAY)
    update(now=NOON)
    for days, step in ((20, HOUR), (200, DAY)):
        at = NOON - days * DAY
        window = Window.between(at - HOUR, at + HOUR, now=NOON)
        assert window.step == step
        assert reading.traffic(window).transactions == 1


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(minutes=st.integers(1, 200_000), offset=st.integers(0, 100_000))
def test_the_steps_of_any_window_lie_side_by_side_and_hold_its_end(minutes, offset):
    now = NOON + offset * timedelta(seconds=7)
    window = Window.last(minutes * MINUTE, now=now)
    assert window.start > now - minutes * MINUTE - window.step
    assert window.end - window.step <= now < window.end
    between = Window.between(now - minutes * MINUTE, now, now=now)
    assert between.start <= now - minutes * MINUTE
    assert between.end - between.step < now <= between.end


def test_a_series_has_a_value_for_each_step_and_none_where_a_rate_has_no_traffic(score, acme):
    score(NOON, NOON, NOON, latencies_ms=[2.5, 2.5, 2.5])
    score(NOON, decision=Decision.BLOCK)
    fall_back(acme, [NOON - 2 * MINUTE])
    update(now=NOON)
    rate = reading.series("alert_rate", 3 * MINUTE, now=NOON, schema="ulb")
    assert (rate.starts[-1], rate.values, rate.samples) == (NOON, [None, None, 0.25], [0, 0, 4])
    assert reading.series("transactions", 3 * MINUTE, now=NOON).values == [0, 0, 4]
    assert reading.series("fallbacks", 3 * MINUTE, now=NOON, client=acme.pk).values == [1, 0, 0]
    assert reading.series("total_p50", 3 * MINUTE, now=NOON).values[-1] == pytest.approx(2.667, abs=0.01)
    assert reading.series("transactions", DAY, step=HOUR, now=NOON, version="another").values == [0] * 24
    assert rate.progress.counted_until == NOON


@pytest.mark.parametrize("metric", reading.METRICS)
def test_every_metric_can_be_asked_of_any_window_with_and_without_traffic(score, metric):
    for _ in range(2):
        found = reading.series(metric, HOUR, now=NOON)
        assert len(found.values) == len(found.starts) == 60
        score(NOON)
        update(now=NOON)


def test_reading_takes_one_query_whatever_the_traffic(score, django_assert_num_queries):
    for count in (1, 40):
        score(*moments(count, before=NOON, within=DAY))
        update(now=NOON)
        with django_assert_num_queries(1):
            reading.traffic(Window.last(90 * DAY, now=NOON), schema="ulb")
