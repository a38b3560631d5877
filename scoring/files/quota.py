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


def check(file: BatchFile, rows: int) -> None:
    """Check that today's quota has room for the rows of a file.

    Raises:
        FileUnacceptable: it has not.
    """
    allowance = _allowance(file)
    left = _settled(allowance, 0) if allowance else None
    if allowance and left is not None and left < rows:
        raise FileUnacceptable(
            f"The file has {rows:,} rows, and of the {allowance.most:,.0f} transactions that the key may have scored "
            f"in a day, {max(0, int(left)):,} are left until midnight (UTC). Send it afterwards, or in parts."
        )


def count(file: BatchFile, rows: int) -> None:
    """Take the rows out of the quota. The calls that sent the file and watch it are not counted there."""
    if allowance := _allowance(file):
        _settled(allowance, rows)


def _allowance(file: BatchFile) -> Allowance | None:
    return quota_of(file.key) if file.key else None


def _settled(allowance: Allowance, spent: float) -> float | None:
    """What is left after so much was spent; None if Redis does not answer."""
    try:
        [left] = _ledger(os.getpid()).settle([(allowance, spent)]).left
    except redis.RedisError as error:
        logger.warning("The rows of a file were not counted: %s", error)
        return None
    return left


@lru_cache(maxsize=1)
def _ledger(process: int) -> Ledger:
    """The connection of this process: it does not survive a fork."""
    return Ledger()
