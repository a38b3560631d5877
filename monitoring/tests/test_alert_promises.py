"""What docs/alerts.md promises of the default rules: at most one false alarm for each rule in thirty days without
drift, and shifts that are reported within the stated time. With seeds, on made-up traffic."""

from datetime import timedelta

import numpy as np
import pytest

from monitoring.alerts import evaluating
from monitoring.alerts.conditions import change, episodes, judge
from monitoring.alerts.defaults import RULES
from monitoring.alerts.measures import all_of_them, silence
from monitoring.alerts.models import AlertRule
from monitoring.alerts.series import Series
from monitoring.drift.psi import PopulationStabilityIndex
from monitoring.drift.shares import lower_bound
from monitoring.tests.alert_traffic import DAYS, HOUR, HOURS, HOURS_BEFORE, MONDAY, made

SEEDS = range(6)
BEGIN = MONDAY + HOURS_BEFORE * HOUR
CLIENTS = (20_000, 3_000, 400, 60)  # transactions an hour, of each


def condition(key):
    return evaluating.condition_of(AlertRule(key=key, measure=key, **RULES[key]), all_of_them()[key])


def fired(key, series):
    """When a default rule fires on a series of its measure, in the thirty days."""
    found, rule = series.rolled(all_of_them()[key].window), condition(key)
    return [found.end_of(each.first) for each in episodes(judge(found, rule), rule, since=BEGIN)]


def quiet(counts, *, silent_from=None):
    """The silence of a source in steps of five minutes, from its counts by the hour; nothing comes after a step."""
    random, steps = np.random.default_rng(0), 12
    expected = np.repeat(silence.expected_of(counts.astype(float)), steps) / steps
    came = random.poisson(np.repeat(counts, steps) / steps)
    if silent_from is not None:
        came[silent_from:] = 0
    values = silence.missed(expected, came)
    return Series(MONDAY, HOUR / steps, values, np.ones(len(values)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_month_without_drift_has_at_most_one_false_alarm_of_each_rule_about_traffic(seed):
    clients = [made(100 * seed + place, an_hour=an_hour) for place, an_hour in enumerate(CLIENTS)]
    whole = made(100 * seed + 50, an_hour=sum(CLIENTS))
    segments = [made(100 * seed + 60 + place, an_hour=an_hour) for place, an_hour in enumerate((8_000, 900, 120))]
    alarms = {
        "transactions": fired("transactions", whole.counts()),
        "alert_rate": fired("alert_rate", whole.alert_rate()),
        "client_alert_rate": [each for client in clients for each in fired("client_alert_rate", client.alert_rate())],
        "segment_fraud_hour": [each for part in segments for each in fired("segment_fraud_hour", part.fraud())],
        "segment_fraud_day": [each for part in segments for each in fired("segment_fraud_day", part.fraud())],
        "client_silence": [each for client in clients for each in fired("client_silence", quiet(client.transactions))],
        "silence": fired("silence", quiet(whole.transactions)),
    }
    assert {key: len(found) for key, found in alarms.items() if len(found) > 1} == {}


@pytest.mark.parametrize("samples", [500, 5_000])
def test_a_month_without_drift_has_no_false_alarm_about_drift(samples):
    random = np.random.default_rng(samples)
    reports, features = DAYS * 144, 30
    shares = np.full(10, 0.1)
    psi = PopulationStabilityIndex(edges=list(range(1, 10)), proportions=shares.tolist())
    counts = random.multinomial(samples, shares, size=(reports, features)) / samples
    each = np.sum((counts - shares) * np.log(np.maximum(counts, psi.SMALLEST_SHARE) / shares), axis=2).max(axis=1)
    step = all_of_them()["feature_drift"].step
    assert fired("feature_drift", Series(BEGIN, step, each, np.full(reports, samples))) == []
    rare = 0.02  # of the training rows have values that are not in the vocabulary
    unseen = [max(0.0, lower_bound(hits, samples) - rare) for hits in random.binomial(samples, rare, reports).tolist()]
    assert fired("unseen_values", Series(BEGIN, step, np.array(unseen), np.full(reports, samples))) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_doubling_of_fraud_in_one_segment_is_reported_within_three_hours_if_it_has_100_frauds_an_hour(seed):
    first = HOURS_BEFORE + 10 * 24 + 12
    times = np.where(np.arange(HOURS) >= first, 2.0, 1.0)
    found = fired("segment_fraud_hour", made(seed, an_hour=10_000, times_fraud=times).fraud())
    began = MONDAY + first * HOUR
    assert any(began < moment <= began + timedelta(hours=3) for moment in found)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_doubling_of_fraud_in_one_segment_is_reported_within_a_day_if_it_has_250_frauds_a_day(seed):
    first = HOURS_BEFORE + 10 * 24 + 12
    times = np.where(np.arange(HOURS) >= first, 2.0, 1.0)
    found = fired("segment_fraud_day", made(seed, an_hour=1_042, times_fraud=times).fraud())
    began = MONDAY + first * HOUR
    assert any(began < moment <= began + timedelta(hours=24) for moment in found)


@pytest.mark.parametrize("an_hour", CLIENTS)
@pytest.mark.parametrize("hour", [3, 12])
def test_a_silent_client_is_reported_after_the_time_of_40_transactions_and_5_minutes(an_hour, hour):
    """Twice the 20 of the rule, as the least of four weeks is below what would have come."""
    counts = made(7, an_hour=an_hour).transactions
    first = (HOURS_BEFORE + 10 * 24 + hour) * 12
    [moment, *_] = fired("client_silence", quiet(counts, silent_from=first))
    should = np.cumsum(np.repeat(counts, 12)[first:]) / 12
    late = int(np.searchsorted(should, 40)) + 1
    assert moment <= MONDAY + (first + late + 1) * HOUR / 12


def test_a_client_that_is_silent_at_an_hour_of_some_weeks_is_not_missed_at_it():
    counts = np.full(HOURS, 100)
    counts[HOURS_BEFORE - 2 * 168 + 5] = 0
    expected = silence.expected_of(counts.astype(float))
    assert expected[HOURS_BEFORE + 5] == 0
    assert expected[HOURS_BEFORE + 6] == 100


def test_a_new_source_is_watched_after_two_weeks():
    counts = np.zeros(HOURS)
    counts[1_000:] = 50
    expected = silence.expected_of(counts)
    assert np.isnan(expected[: 1_000 + 2 * 168]).all()
    assert (expected[1_000 + 2 * 168 :] == 50).all()


def test_an_open_alert_of_a_doubling_clears_when_it_is_over():
    hours = np.arange(HOURS)
    first = HOURS_BEFORE + 10 * 24
    times = np.where((hours >= first) & (hours < first + 24), 2.5, 1.0)
    rule = condition("segment_fraud_hour")
    judged = judge(made(3, an_hour=10_000, times_fraud=times).fraud(), rule)
    [episode] = episodes(judged, rule, since=BEGIN)
    assert first <= episode.first <= first + 3
    assert episode.last is not None
    assert first + 24 <= episode.last <= first + 30
    assert change(judged, rule, is_open=False) is None
