"""How figures and times are written wherever people read them: on pages, in commands, in model cards."""

from datetime import UTC, datetime
from math import floor, log10

from training.evaluation import COST_METRIC_NAMES


def threshold(value: float | None) -> str:
    """To four decimals, as scores are; a small one to three digits, or it would look like nothing.

    >>> threshold(0.5), threshold(0.00004321), threshold(0.0), threshold(None)
    ('0.5000', '0.0000432', '0.0000', 'none')
    """
    if value is None:
        return "none"
    decimals = 2 - floor(log10(value)) if 0 < value < 0.01 else 4
    return f"{value:.{min(decimals, 12)}f}"


def figure(name: str, value: float) -> str:
    """A metric to four decimals; one that is money to two.

    >>> figure("auprc", 0.81234567), figure("cost_per_1000", 16406.25)
    ('0.8123', '16,406.25')
    """
    return f"{value:,.2f}" if name in COST_METRIC_NAMES else f"{value:.4f}"


def at(time: datetime) -> str:
    """A time to the second with its zone: in a live list, the minute alone tells no two rows apart."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
