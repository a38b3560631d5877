"""Generates payments: cards with habits, merchants, devices, and fraud in named scenarios.

The same `Wanted` gives the same transactions. They are made day by day, so that memory is bounded by the
cards, the frauds and one day's purchases. `parameters` has the numbers of habits with their sources; those of a
scenario are in its module, and are assumptions of ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from training.core.exceptions import DatasetError
from training.core.generator import cards, purchases, world
from training.core.generator.parameters import SCENARIOS, WEEKDAYS
from training.core.generator.scenarios import PLANNED, compromised_merchant
from training.core.generator.table import as_table
from training.core.generator.world import DAY_S, World, in_order

EPOCH = date(1970, 1, 1)
DAYS_LEAST = 60
SHARE_MOST = 0.2


@dataclass(frozen=True)
class Wanted:
    """What to generate: about `rows` transactions of `cards` cards in `days` days from `start` on, this share of them
    fraudulent.

    Raises:
        DatasetError: a number is out of bounds; names it.
    """

    rows: int
    cards: int
    days: int
    start: date
    seed: int
    fraud_share: float

    def __post_init__(self) -> None:
        if not DAYS_LEAST <= self.days <= 3660:
            raise DatasetError(
                f"The days must lie between {DAYS_LEAST} and 3660, not {self.days:,}: a compromised merchant's cards "
                "are abused weeks later."
            )
        if not 100 <= self.cards <= 50_000_000:
            raise DatasetError(
                f"The cards must lie between 100 and 50,000,000, not {self.cards:,}: ask for other rows."
            )
        if not 0 < self.fraud_share <= SHARE_MOST:
            raise DatasetError(
                f"The share of fraud must be more than 0 and at most {SHARE_MOST}, not {self.fraud_share}."
            )
        if self.seed < 0:
            raise DatasetError(f"The seed must be at least 0, not {self.seed}.")
        if not date(1990, 1, 1) <= self.start <= date(2100, 1, 1) - timedelta(days=self.days):
            raise DatasetError(f"The start must lie between 1990 and 2090, not on {self.start}.")


def wanted(
    *, rows: int | None, card_count: int | None, days: int, start: date, seed: int, fraud_share: float
) -> Wanted:
    """What to generate, by the number of transactions or of cards.

    Raises:
        DatasetError: a number is out of bounds; names it.
    """
    if card_count is None:
        rows = rows or 0
        card_count = cards.cards_for(rows, days) if days > 0 else 0
    else:
        rows = cards.rows_for(card_count, days)
    return Wanted(rows, card_count, days, start, seed, fraud_share)


def generated(what: Wanted) -> Iterator[pa.Table]:
    """The transactions of each day, by time."""
    first_day = (what.start - EPOCH).days
    random = np.random.default_rng(what.seed)
    made = world.made(random, cards=what.cards, days=what.days, first_day=first_day)
    frauds = round(what.rows * what.fraud_share)
    weekday = (what.start.weekday() + np.arange(what.days)) % 7
    weights = np.array(WEEKDAYS)[weekday]
    counts = random.multinomial(what.rows - frauds, weights / weights.sum())
    number = 1
    for rows in _days(made, random, counts.tolist(), frauds):
        yield as_table(made, rows, number)
        number += len(rows)


def _days(made: World, random: np.random.Generator, counts: list[int], frauds: int) -> Iterator[np.ndarray]:
    shares = {name: round(frauds * share) for name, share in SCENARIOS.items()}
    to_come = in_order(*(plan(made, random, shares[name]) for name, plan in PLANNED.items()))
    breaches = compromised_merchant.breaches(made, random, shares["compromised_merchant"])
    for day, count in enumerate(counts):
        bought = purchases.of_day(made, random, day, count)
        if len(abuse := breaches.see(day, bought)):
            to_come = in_order(to_come, abuse)
        due = np.searchsorted(to_come["time"], (day + 1) * DAY_S) if day < len(counts) - 1 else len(to_come)
        yield in_order(bought, to_come[:due])
        to_come = to_come[due:]
