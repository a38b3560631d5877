"""The generated world: cards, merchants, and the rows of transactions that both make."""

from dataclasses import dataclass

import numpy as np

from training.core.generator.cards import Cards, issued
from training.core.generator.merchants import Merchants, founded

DAY_S = 86_400
# A transaction: `time` in seconds since the start, numbers of card and merchant, the amount in cents, and where an
# online purchase came from; see `origins`. `scenario` is 0 unless it is a fraud.
ROW = np.dtype(
    [
        ("time", "<i8"),
        ("card", "<i8"),
        ("merchant", "<i8"),
        ("cents", "<i8"),
        ("entry", "i1"),
        ("device", "<i8"),
        ("network", "<i8"),
        ("host", "<i8"),
        ("mailbox", "<i8"),
        ("scenario", "i1"),
    ]
)
NONE = -1  # no device, network or mailbox


@dataclass(frozen=True, eq=False)
class World:
    """`days` from `first_day` on, which is in days since 1970."""

    cards: Cards
    merchants: Merchants
    days: int
    first_day: int


def made(random: np.random.Generator, *, cards: int, days: int, first_day: int) -> World:
    return World(issued(random, cards, days, first_day), founded(random, cards), days, first_day)


def rows_of(**columns: np.ndarray | int) -> np.ndarray:
    """Rows [n] of the type `ROW`. Columns that are not given are `NONE`, the scenario 0."""
    rows = np.empty(len(np.asarray(columns["time"])), ROW)
    for name in ROW.names or ():
        rows[name] = columns.get(name, 0 if name == "scenario" else NONE)
    return rows


def in_order(*parts: np.ndarray) -> np.ndarray:
    """All rows, by time."""
    rows = np.concatenate(parts)
    return rows[np.argsort(rows["time"], kind="stable")]
