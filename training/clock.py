"""The time that all machines go by: that of this machine's clock, less what the clock is ahead.

Deadlines, leases and due times are written on one machine and judged on another. So whoever writes or judges them asks
here, and a machine whose clock is minutes ahead or behind takes nothing for expired that is not. How much it is ahead
is learnt in the background, see `scoring.messages.clock`; asking costs no more than asking this machine's clock.
"""

import time
from datetime import datetime, timedelta

from django.utils import timezone

_ahead_s = 0.0
_ahead = timedelta()


def now() -> datetime:
    return told(timezone.now())


def told(moment: datetime) -> datetime:
    """What the clock of all machines says when this machine's says so."""
    return moment - _ahead


def seconds() -> float:
    """Seconds since the epoch."""
    return time.time() - _ahead_s


def correct(ahead_s: float) -> None:
    """From now on, this machine's clock counts as so many seconds ahead; behind, if they are negative."""
    global _ahead, _ahead_s
    _ahead_s, _ahead = ahead_s, timedelta(seconds=ahead_s)
