"""Dates: of birth, of the opening of an account, of expiry. A model gets the age of one, see `features.declaration`."""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from training.core.schema.kinds.kind import Kind, ValueRefused, read_text

if TYPE_CHECKING:
    from training.core.schema.values import Field

EARLIEST, LATEST = date(1850, 1, 1), date(2200, 1, 1)
EPOCH = date(1970, 1, 1)
# A date is of some time zone, up to this far ahead of UTC.
ZONES = timedelta(hours=14)


def _read_date(field: "Field", value: Any) -> str:
    text = read_text(value)
    try:
        if len(text) != len("2026-01-31"):
            raise ValueError
        day = date.fromisoformat(text)
        if day.isoformat() != text:  # 2026-W05-1, a week's day
            raise ValueError
    except ValueError as error:
        raise ValueRefused("invalid_date", "Send a date like 2026-01-31.", malformed=True) from error
    if not EARLIEST <= day <= LATEST:
        raise ValueRefused("out_of_range", f"Send a date from {EARLIEST} to {LATEST}.")
    return day.isoformat()


def days_since_1970(text: str) -> float:
    """The encoding of a date.

    >>> days_since_1970("1970-01-31")
    30.0
    """
    return float((date.fromisoformat(text) - EPOCH).days)


DATE = Kind(
    _read_date,
    {"type": "string", "format": "date"},
    "1985-04-12",
    encode=days_since_1970,
    conceal=lambda text, token_of: f"{text[:4]}-01-01",
)
