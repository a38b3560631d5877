"""Formats figures and times for people: on pages, in commands, in model cards."""

from datetime import UTC, datetime
from math import floor, log10

from training.core.evaluation import COST_METRIC_NAMES


def score(value: float) -> str:
    """A score with four decimals; a small one with three significant digits.

    >>> score(0.5), score(0.00004321), score(0.0)
    ('0.5000', '0.0000432', '0.0000')
    """
    decimals = 2 - floor(log10(value)) if 0 < value < 0.01 else 4
    return f"{value:.{min(decimals, 12)}f}"


def threshold(value: float | None) -> str:
    """A threshold, in the form of the scores that are compared with it.

    >>> threshold(0.00004321), threshold(None)
    ('0.0000432', 'none')
    """
    return "none" if value is None else score(value)


def milliseconds(value: float) -> str:
    """A latency with one decimal.

    >>> milliseconds(8.4567), milliseconds(1234.5)
    ('8.5', '1,234.5')
    """
    return f"{value:,.1f}"


def psi(value: float) -> str:
    """A population stability index with three decimals.

    >>> psi(0.04567)
    '0.046'
    """
    return f"{value:.3f}"


def figure(name: str, value: float) -> str:
    """A metric with four decimals; a cost with two.

    >>> figure("auprc", 0.81234567), figure("cost_per_1000", 16406.25)
    ('0.8123', '16,406.25')
    """
    return f"{value:,.2f}" if name in COST_METRIC_NAMES else f"{value:.4f}"


def short(time: datetime) -> str:
    """A time to the minute, in UTC, where there is little room; with the year if that is not this one.

    >>> short(datetime(2020, 3, 1, 12, 30, tzinfo=UTC))
    '2020-03-01 12:30'
    """
    time = time.astimezone(UTC)
    return f"{time:%d %b %H:%M}" if time.year == datetime.now(UTC).year else f"{time:%Y-%m-%d %H:%M}"


def at(time: datetime) -> str:
    """A time to the second, with its zone."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
