"""Tells, for the pages of the admin, how an amount was converted."""

from datetime import datetime

import msgspec

from scoring.messages.submission import Conversion
from scoring.models import Transaction
from training.core.figures import at
from training.core.schema.kinds.codes import decimals_of


def sent_amount(transaction: Transaction) -> str:
    """The amount in the currency in which it was sent, and by what rate it was converted."""
    how = msgspec.convert(transaction.conversion, Conversion)
    sent = f"{how.sent:,.{decimals_of(how.currency)}f} {how.currency}"
    since = at(datetime.fromisoformat(how.rate_from))
    stale = ", older than allowed" if how.rate_stale else ""
    return f"{sent}, at {how.rate} {how.currency} for 1 {how.base}: the rate since {since}{stale}"
