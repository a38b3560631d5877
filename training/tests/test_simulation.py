"""What the simulator sends, and when: it keeps order, customers, hours and weekdays, and stays in the past."""

from datetime import datetime, timedelta
from itertools import islice, pairwise

import pandas as pd
import pytest

from scoring.simulation import before, paced
from training.core.schema import load_schema
from training.tests.support import made_up_payments

SCHEMA = load_schema("handbook")
NOW = pd.Timestamp("2026-11-24 15:47:51", tz="UTC")
ROWS = made_up_payments()


def recorded(*, days=10.0, speed=3600.0, label_delay_days=7.0, first=None, repeat=False):
    first = first or NOW - timedelta(days=days)
    options = {"speed": speed, "label_delay_days": label_delay_days, "repeat": repeat}
    return paced(SCHEMA, ROWS, now=NOW, first=first, **options)


def moment(call):
    return datetime.fromisoformat(call.payload["event_time"])


def test_it_sends_what_a_client_would():
    payload = next(recorded()).payload
    assert payload.keys() == {"schema", "event_time", "amount", "customer", "terminal"}
    assert payload["schema"] == "handbook"


@pytest.mark.parametrize("days", [0, 0.5, 10, 29])
def test_it_begins_so_many_days_ago_with_rows_of_the_same_weekday_and_hour(days):
    calls = list(recorded(days=days))
    first = ROWS.iloc[len(ROWS) - len(calls) :]
    begin = NOW - timedelta(days=days)
    assert begin <= moment(calls[0]) < begin + timedelta(hours=3)
    assert len(calls) > 0.75 * len(ROWS), "at most a week is left out"
    for call, row in zip(calls, first.itertuples(), strict=True):
        assert (moment(call) - row.event_time) % timedelta(days=7) == timedelta(0)
        assert (call.payload["customer"], call.payload["terminal"]) == (row.customer, row.terminal)
        assert (call.payload["amount"], call.is_fraud) == (row.amount, bool(row.fraud))


def test_calls_follow_each_other_as_their_events_do_but_faster():
    calls = list(recorded(speed=3600.0))
    for earlier, later in pairwise(calls[:500]):
        gap_s = (moment(later) - moment(earlier)).total_seconds()
        assert later.due_s - earlier.due_s == pytest.approx(gap_s / 3600, abs=1e-6)


@pytest.mark.parametrize("speed", [0.5, 1.0, 3600.0, 1e9])
def test_no_event_is_sent_before_it_happens(speed):
    for call in recorded(speed=speed):
        assert NOW + timedelta(seconds=call.due_s) >= moment(call) - timedelta(milliseconds=1)


def test_once_it_has_caught_up_it_goes_at_the_pace_of_the_clock():
    earlier, later = list(recorded(speed=3600.0))[-2:]
    assert later.due_s - earlier.due_s == pytest.approx((moment(later) - moment(earlier)).total_seconds())


def test_labels_are_known_after_their_delay_on_the_simulated_clock():
    call = next(recorded(days=10.0, speed=3600.0, label_delay_days=7.0))
    assert call.label_due_s - call.due_s == pytest.approx(7 * 24)
    call = next(recorded(label_delay_days=0.0))
    assert call.label_due_s == call.due_s


def test_repeated_traffic_goes_on_with_whole_weeks_later():
    calls = list(islice(recorded(repeat=True), 2 * len(ROWS)))
    moments = [moment(call) for call in calls]
    assert moments == sorted(moments)
    assert moments[-1] - moments[0] > timedelta(days=60), "the rows are of forty days"
    assert max(later - earlier for earlier, later in pairwise(moments)) < timedelta(hours=6)
    earlier, later = [call for call in calls if call.payload["amount"] == calls[-1].payload["amount"]][-2:]
    assert moment(later) - moment(earlier) == timedelta(weeks=5)


def test_it_goes_on_after_what_was_sent():
    sent = list(islice(recorded(), 100))
    rest = list(recorded(first=moment(sent[-1])))
    assert moment(rest[0]) > moment(sent[-1])


def test_past_traffic_ends_where_the_first_call_begins():
    first, number = NOW - timedelta(days=10), 1500
    past = before(ROWS, number, first, days=5)
    call = next(paced(SCHEMA, ROWS[number:], now=NOW, first=first, speed=1.0, label_delay_days=7.0))
    assert first - timedelta(days=5) <= past["event_time"].iloc[0] < first - timedelta(days=4.8)
    assert timedelta(0) < moment(call) - past["event_time"].iloc[-1] < timedelta(hours=3)
    place = past.index[-1] + 1
    assert (call.payload["customer"], call.payload["amount"]) == (ROWS["customer"][place], ROWS["amount"][place])
