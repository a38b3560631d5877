"""Counts the rows of a file against the transactions that its key may have scored in a day.

How many rows a file has is known when a worker has read it. Limits per second do not count them: workers score files at
a pace of their own. As elsewhere, a Redis that does not answer limits nothing.
"""

import logging
import os
from functools import lru_cache

import redis

from scoring.exceptions import FileUnacceptable
from scoring.files.models import BatchFile
from scoring.limits.allowances import Allowance, quota_of
from scoring.limits.ledger import Ledger

logger = logging.getLogger(__name__)


def take(file: BatchFile, rows: int) -> None:
    """Take the rows of a file out of today's quota. The calls that sent the file and watch it are not counted there.

    Raises:
        FileUnacceptable: it has not so many; nothing was taken.
    """
    allowance = quota_of(file.key) if file.key else None
    left = _taken(allowance, rows) if allowance else 0
    if allowance and left < 0:
        raise FileUnacceptable(
            f"The file has {rows:,} rows, and of the {allowance.most:,.0f} transactions that the key may have scored "
            f"in a day, {max(0, int(left + rows)):,} are left until midnight (UTC). Send it afterwards, or in parts."
        )


def _taken(allowance: Allowance, rows: int) -> float:
    """What is left after these were taken; below zero what is lacking. Nothing lacks if Redis does not answer."""
    try:
        return _ledger(os.getpid()).take(allowance, rows)
    except redis.RedisError as error:
        logger.warning("The rows of a file were not counted: %s", error)
        return 0


@lru_cache(maxsize=1)
def _ledger(process: int) -> Ledger:
    """The connection of this process: it does not survive a fork."""
    return Ledger()
