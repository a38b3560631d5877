"""The merchants: shops in towns, and online ones."""

from dataclasses import dataclass

import numpy as np

from training.core.generator import draws
from training.core.generator.parameters import (
    CARDS_PER_MERCHANT,
    CATEGORIES,
    FAVOURITE,
    MERCHANTS_LEAST,
    STROLL_SHARE,
)
from training.core.generator.places import ONLINE_COUNTRIES, TOWNS

NOWHERE = len(TOWNS)  # the town of online merchants
CELLS = NOWHERE + 1  # of each category
NAMES = (
    "Adler", "Bauer", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Hansen", "Ito", "Jansen", "Keller", "Lopez",
    "Moreau", "Novak", "Olsen", "Peeters", "Quinn", "Rossi", "Silva", "Tanaka", "Urban", "Vega", "Weber", "Yilmaz",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Merchants:
    """`m` merchants, in the order of their cells. `cell` = category × `CELLS` + town. `start` [cells] and `count`
    [cells] say where the merchants of a cell are. `price` [m] is how dear one is, relative to the category."""

    cell: np.ndarray
    country: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    price: np.ndarray
    name: np.ndarray
    start: np.ndarray
    count: np.ndarray

    @property
    def category(self) -> np.ndarray:
        return self.cell // CELLS

    @property
    def town(self) -> np.ndarray:
        return self.cell % CELLS

    def visited(
        self, random: np.random.Generator, card: np.ndarray, category: np.ndarray, town: np.ndarray
    ) -> np.ndarray:
        """The merchants that cards go to: mostly their favourites. All [n]."""
        cell = category * CELLS + town
        count = self.count[cell]
        habit = draws.hashed(card, cell).astype(np.int64) & 0xFFFFFFFF
        step = random.geometric(FAVOURITE, len(card)) - 1
        strolled = random.random(len(card)) < STROLL_SHARE
        return self.start[cell] + np.where(strolled, self._anywhere(random, count), (habit + step) % count)

    def found(self, random: np.random.Generator, category: np.ndarray, town: np.ndarray) -> np.ndarray:
        """Merchants that a stranger goes to, all [n]."""
        cell = category * CELLS + town
        return self.start[cell] + self._anywhere(random, self.count[cell])

    @staticmethod
    def _anywhere(random: np.random.Generator, count: np.ndarray) -> np.ndarray:
        return (random.random(len(count)) ** 2 * count).astype(np.int64)  # the first ones are the best known


def founded(random: np.random.Generator, cards: int) -> Merchants:
    """The merchants for so many cards."""
    homes = np.array([town.homes for town in TOWNS])
    customers = np.append(cards * np.maximum(homes / homes.sum(), 0.01), cards)
    share = np.array([category.share for category in CATEGORIES])
    count = np.maximum((share[:, None] * 10 * customers / CARDS_PER_MERCHANT).astype(np.int64), MERCHANTS_LEAST).ravel()
    cell = np.repeat(np.arange(len(count)), count)
    total, town = len(cell), cell % CELLS
    is_online = town == NOWHERE
    codes = np.array([place.country for place in TOWNS])
    weights = np.array(list(ONLINE_COUNTRIES.values()), np.float64)
    seats = random.choice(list(ONLINE_COUNTRIES), total, p=weights / weights.sum())
    place = np.where(is_online, 0, town)
    degrees = random.normal(0, [0.05, 0.07], (total, 2))
    latitude = np.array([town.latitude for town in TOWNS])[place] + degrees[:, 0]
    longitude = np.array([town.longitude for town in TOWNS])[place] + degrees[:, 1]
    return Merchants(
        cell=cell,
        country=np.where(is_online, seats, codes[place]),
        latitude=np.where(is_online, np.nan, np.round(latitude, 4)),
        longitude=np.where(is_online, np.nan, np.round(longitude, 4)),
        price=np.exp(random.normal(0, 0.25, total)),
        name=_names(cell),
        start=np.cumsum(count) - count,
        count=count,
    )


def _names(cell: np.ndarray) -> np.ndarray:
    """A name for each merchant, such as "Weber Market Berlin 12"."""
    nouns = [category.noun for category in CATEGORIES]
    towns = [*(town.name for town in TOWNS), "Online"]
    return np.array(
        [
            f"{NAMES[number % len(NAMES)]} {nouns[of // CELLS]} {towns[of % CELLS]} {number}"
            for number, of in enumerate(cell.tolist())
        ],
        dtype=object,
    )
