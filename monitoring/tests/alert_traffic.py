"""Traffic as it is without any drift, made up with a seed: by hour of the week, by client, restless, with fraud."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from monitoring.alerts.series import Kind, Series

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAYS, WEEKS_BEFORE = 30, 6
HOURS_BEFORE = WEEKS_BEFORE * 168
HOURS = HOURS_BEFORE + DAYS * 24


@dataclass(frozen=True, eq=False)
class Made:
    """Of hours from `WEEKS_BEFORE` weeks before the `DAYS` on: transactions, alerts and the sums of scores [n]."""

    transactions: np.ndarray
    alerts: np.ndarray
    scores: np.ndarray

    def counts(self) -> Series:
        return Series(MONDAY, HOUR, self.transactions.astype(float), self.transactions, Kind.COUNT)

    def alert_rate(self) -> Series:
        return Series(MONDAY, HOUR, self.alerts.astype(float), self.transactions, Kind.SHARE)

    def fraud(self) -> Series:
        return Series(MONDAY, HOUR, self.scores, self.transactions, Kind.SHARE)


def shape() -> np.ndarray:
    """Of each hour, how busy it is: quiet nights, busy evenings, another weekend. The mean is 1."""
    hours = np.arange(HOURS)
    day = 1.0 + 0.75 * np.sin(2 * np.pi * (hours % 24 - 9) / 24) + 0.2 * np.sin(4 * np.pi * (hours % 24 - 3) / 24)
    weekend = np.where((hours // 24) % 7 >= 5, 1.25, 0.9)
    busy = np.maximum(day, 0.08) * weekend
    return busy / busy.mean()


def made(
    seed: int,
    *,
    an_hour: float,
    alert_rate: float = 0.02,
    fraud_rate: float = 0.01,
    restless: float = 0.15,
    growth_a_week: float = 0.01,
    times_fraud: np.ndarray | float = 1.0,
) -> Made:
    """Hours of a source with so many transactions `an_hour` in the mean.

    They vary more than by chance, by the factor `restless` from one hour to the next and from one day to the next, and
    grow; so does the share of fraud vary. `times_fraud` [n] multiplies the frauds, and with them the alerts.
    """
    random = np.random.default_rng(seed)
    by_hour = random.lognormal(0.0, restless, HOURS)
    by_day = np.repeat(random.lognormal(0.0, restless, HOURS // 24 + 1), 24)[:HOURS]
    growth = (1 + growth_a_week) ** (np.arange(HOURS) / 168)
    transactions = random.poisson(an_hour * shape() * by_hour * by_day * growth)
    swing = random.lognormal(0.0, 0.1, HOURS)
    frauds = random.binomial(transactions, np.clip(fraud_rate * swing * times_fraud, 0, 1))
    caught = random.binomial(frauds, 0.7)
    false = random.binomial(transactions - frauds, alert_rate - 0.7 * fraud_rate)
    scores = _sum_of_scores(random, caught, 8.0, 2.0) + _sum_of_scores(random, frauds - caught, 1.0, 9.0)
    scores += 0.002 * (transactions - frauds)
    return Made(transactions, caught + false, scores)


def _sum_of_scores(random: np.random.Generator, numbers: np.ndarray, a: float, b: float) -> np.ndarray:
    """Sums [n] of so many scores from a beta distribution, by its mean and spread."""
    mean, variance = a / (a + b), a * b / ((a + b) ** 2 * (a + b + 1))
    return np.maximum(0.0, numbers * mean + random.normal(0, 1, len(numbers)) * np.sqrt(numbers * variance))
