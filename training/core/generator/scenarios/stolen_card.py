"""Stolen card: the thief goes through shops nearby before the card is blocked, quickly, and for growing amounts.

Small amounts need no PIN, so the first are contactless; with a PIN that was spied out, larger ones and cash follow.
"""

import numpy as np

from training.core.generator import draws
from training.core.generator.parameters import (
    CHIP,
    CONTACTLESS,
    CONTACTLESS_LIMIT_CENTS,
    MAGSTRIPE,
    NUMBER_OF,
    SCENARIO_NUMBER,
)
from training.core.generator.purchases import UTC
from training.core.generator.scenarios.victims import replaced, some_cards, starts
from training.core.generator.world import DAY_S, World, rows_of

CATEGORIES = ("electronics", "clothing", "jewellery", "gift_cards", "fuel", "groceries", "pharmacy", "cash")
PURCHASES, MINUTES = (4, 10), (2, 18)
HOURS = (9, 20)  # of the first purchase, local
FIRST_CENTS, GROWTH, NOISE = (800, 4500), (1.2, 1.8), 0.3
PIN_SHARE = 0.6
REPLACED_AFTER_DAYS = (0.2, 3)


def rows(world: World, random: np.random.Generator, count: int) -> np.ndarray:
    theft, place = draws.groups(random, PURCHASES, count)
    thefts = int(theft.max(initial=0)) + 1
    victim = some_cards(world, random, thefts)
    town = world.cards.home[victim]
    day = starts(world, random, thefts, 2 * DAY_S) // DAY_S
    began = (day * 24 - UTC[town] + random.uniform(*HOURS, thefts)) * 3600
    time = began.astype(np.int64).clip(min=0)[theft] + draws.elapsed(random, theft, MINUTES)
    card = victim[theft]
    category = draws.among(random, CATEGORIES, NUMBER_OF, count)
    first, growth = random.uniform(*FIRST_CENTS, thefts), random.uniform(*GROWTH, thefts)
    cents = np.rint(first[theft] * growth[theft] ** place * np.exp(NOISE * random.normal(size=count))).astype(np.int64)
    is_cash = category == NUMBER_OF["cash"]
    cents = np.where(is_cash, np.clip(cents // 1000, 1, 50) * 1000, cents.clip(100, 150_000))
    knows_pin = (random.random(thefts) < PIN_SHARE)[theft]
    entry = np.where(knows_pin, CHIP, MAGSTRIPE)
    entry = np.where((cents <= CONTACTLESS_LIMIT_CENTS) & ~is_cash, CONTACTLESS, np.where(is_cash, CHIP, entry))
    replaced(world, random, card, time, REPLACED_AFTER_DAYS)
    return rows_of(
        time=time,
        card=card,
        merchant=world.merchants.found(random, category, town[theft]),
        cents=cents,
        entry=entry,
        scenario=SCENARIO_NUMBER["stolen_card"],
    )
