"""Compromised merchant: for some days card numbers are copied at one merchant. Weeks later they are abused elsewhere:
online, or in shops of other towns with counterfeit cards, which have a magnetic stripe and no chip.
"""

from dataclasses import dataclass, field

import numpy as np

from training.core.generator import draws, origins
from training.core.generator.cards import NEVER
from training.core.generator.merchants import CELLS, NOWHERE
from training.core.generator.parameters import CATEGORIES, MAGSTRIPE, NUMBER_OF, ONLINE, SCENARIO_NUMBER
from training.core.generator.places import TOWNS
from training.core.generator.purchases import MEDIAN_CENTS
from training.core.generator.scenarios.victims import replaced
from training.core.generator.world import DAY_S, ROW, World, rows_of

ROWS = 30  # of a breach
COPYING_DAYS, PAUSE_DAYS, ABUSE_DAYS = 14, 10, 25
ONLINE_CATEGORIES = ("electronics", "clothing", "travel", "gift_cards", "digital_goods", "home_garden", "entertainment")
SHOP_CATEGORIES = ("electronics", "fuel", "groceries", "jewellery", "clothing", "cash")
COUNTERFEIT_SHARE = 0.35  # of the victims
PURCHASES, MINUTES = (1, 4), (10, 600)
FACTOR, SPREAD, CENTS = 1.4, 0.7, (800, 300_000)
HOSTING_SHARE, OWN_MAILBOX_SHARE = 0.25, 0.45
REPLACED_AFTER_DAYS = (0.5, 6)
# Days that a breach takes to its last abuse, with a day for purchases that follow each other.
DAYS = COPYING_DAYS + PAUSE_DAYS + ABUSE_DAYS + 2


@dataclass(eq=False)
class Breaches:
    """All breaches of a world. `merchant` and `first_day` [b] are where and when each begins, `wanted` [b] how many
    rows it is to make."""

    world: World
    random: np.random.Generator
    merchant: np.ndarray
    first_day: np.ndarray
    wanted: np.ndarray
    seen: dict[int, list[np.ndarray]] = field(default_factory=dict)

    def see(self, day: int, bought: np.ndarray) -> np.ndarray:
        """Take note of the purchases of a day. Returns rows to come: the abuse of breaches that end on it."""
        active = np.flatnonzero((self.first_day <= day) & (day < self.first_day + COPYING_DAYS))
        to_come = [np.empty(0, ROW)]
        for breach in active.tolist():
            self.seen.setdefault(breach, []).append(bought["card"][bought["merchant"] == self.merchant[breach]])
            if day == self.first_day[breach] + COPYING_DAYS - 1:
                cards = np.unique(np.concatenate(self.seen.pop(breach)))
                rows = self._abuse(cards, (day + 1 + PAUSE_DAYS) * DAY_S, int(self.wanted[breach]))
                # What one breach falls short of, later ones make up for.
                later = np.flatnonzero(self.first_day > self.first_day[breach])
                if len(later):
                    self.wanted[self.random.choice(later)] += self.wanted[breach] - len(rows)
                to_come.append(rows)
        return np.concatenate(to_come)

    def _abuse(self, cards: np.ndarray, from_time: int, wanted: int) -> np.ndarray:
        world, random = self.world, self.random
        valid = cards[world.cards.reissued[cards] == NEVER]
        group, _ = draws.groups(random, PURCHASES, wanted)
        rows = group < len(valid)  # a smaller merchant gives fewer victims
        group = group[rows]
        count, victims = len(group), int(group.max(initial=-1)) + 1
        victim = random.permutation(valid)[:victims]
        began = from_time + random.integers(0, ABUSE_DAYS * DAY_S, victims)
        time = began[group] + draws.elapsed(random, group, MINUTES)
        counterfeit = (random.random(victims) < COUNTERFEIT_SHARE)[group]
        category = np.where(
            counterfeit,
            draws.among(random, SHOP_CATEGORIES, NUMBER_OF, count),
            draws.among(random, ONLINE_CATEGORIES, NUMBER_OF, count),
        )
        town = np.where(counterfeit, random.integers(0, len(TOWNS), victims)[group], NOWHERE)
        cents = np.rint(MEDIAN_CENTS[category] * FACTOR * np.exp(SPREAD * random.normal(size=count))).astype(np.int64)
        cents = np.where(category == NUMBER_OF["cash"], np.clip(cents // 1000, 1, 50) * 1000, cents.clip(*CENTS))
        own = random.random(victims) < OWN_MAILBOX_SHARE
        mailbox = np.where(own, victim, origins.new_mailboxes(random, victims))[group]
        network = origins.hidden_networks(random, victims, HOSTING_SHARE)[group]
        replaced(world, random, victim[group], time, REPLACED_AFTER_DAYS)
        return rows_of(
            time=time,
            card=victim[group],
            merchant=world.merchants.found(random, category, town),
            cents=cents,
            entry=np.where(counterfeit, MAGSTRIPE, ONLINE),
            device=np.where(counterfeit, -1, origins.new_devices(random, victims)[group]),
            network=np.where(counterfeit, -1, network),
            host=random.integers(1, origins.HOSTS, victims)[group],
            mailbox=np.where(counterfeit, -1, mailbox),
            scenario=SCENARIO_NUMBER["compromised_merchant"],
        )


def breaches(world: World, random: np.random.Generator, count: int) -> Breaches:
    """Breaches that make about `count` rows together, at merchants with many customers."""
    merchants, number = world.merchants, max(round(count / ROWS), 1)
    customers = np.bincount(world.cards.home, minlength=NOWHERE)
    customers = np.append(customers, len(world.cards) * 0.3)  # online
    share = np.array([category.share for category in CATEGORIES])
    visits = np.repeat(share, CELLS) * np.tile(customers, len(CATEGORIES)) / merchants.count
    cell = random.choice(np.argsort(-visits)[: max(15, number)], number)
    first_day = random.integers(0, world.days - DAYS + 1, number)
    wanted = np.diff(np.linspace(0, count, number + 1).astype(np.int64))
    return Breaches(world, random, merchants.start[cell], first_day, wanted)
