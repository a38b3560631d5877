"""The cards and their holders: persona, home, age, device, trips."""

from dataclasses import dataclass

import numpy as np

from training.core.generator import draws
from training.core.generator.parameters import (
    ABROAD_SHARE,
    EXCURSION_SHARE,
    PERSONAS,
    PHONE_LIFE_DAYS,
    PURCHASES_PER_DAY,
    TRIP_DAYS,
)
from training.core.generator.places import TOWNS

NEVER = np.iinfo(np.int64).max
COUNTRY_OF_TOWN = np.unique([town.country for town in TOWNS], return_inverse=True)[1]


@dataclass(frozen=True, eq=False)
class Trips:
    """`t` trips: card, first day and the day after the last, and the town. All [t]."""

    card: np.ndarray
    first: np.ndarray
    end: np.ndarray
    town: np.ndarray


@dataclass(frozen=True, eq=False)
class Cards:
    """`c` cards, all fields [c]. `birth` is in days since 1970, `renewed` the day of the new phone in days since the
    start. `spend` is how much the holder pays, and `weight` how often, relative to others. `reissued` is from when on
    the card has a new number, in seconds since the start; scenarios set it."""

    persona: np.ndarray
    home: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    birth: np.ndarray
    spend: np.ndarray
    weight: np.ndarray
    renewed: np.ndarray
    reissued: np.ndarray
    trips: Trips

    def __len__(self) -> int:
        return len(self.persona)

    def towns_on(self, day: int) -> np.ndarray:
        """The town where each card is that day, [c]."""
        number = np.arange(len(self))
        away = draws.uniform_of(number, day, 1) < EXCURSION_SHARE
        town = np.where(away, _other_town(self.home, draws.uniform_of(number, day, 2), abroad=False), self.home)
        under_way = (self.trips.first <= day) & (day < self.trips.end)
        town[self.trips.card[under_way]] = self.trips.town[under_way]
        return town

    def reissue(self, card: np.ndarray, time: np.ndarray) -> None:
        """Give cards a new number from `time` on, both [n]; of several times the first holds."""
        np.minimum.at(self.reissued, card, time)


def issued(random: np.random.Generator, count: int, days: int, first_day: int) -> Cards:
    """`count` cards for so many days from `first_day` on, in days since 1970."""
    persona = random.choice(len(PERSONAS), count, p=np.array([persona.share for persona in PERSONAS]))
    homes = np.array([town.homes for town in TOWNS])
    home = random.choice(len(TOWNS), count, p=homes / homes.sum())
    ages = np.array([persona.ages for persona in PERSONAS])[persona]
    age_days = random.uniform(ages[:, 0] * 365.25, ages[:, 1] * 365.25)
    degrees = random.normal(0, [0.08, 0.11], (count, 2))
    activity = np.array([persona.activity for persona in PERSONAS])[persona]
    renewed = random.integers(-PHONE_LIFE_DAYS, days, count)
    return Cards(
        persona=persona,
        home=home,
        latitude=np.round(np.array([town.latitude for town in TOWNS])[home] + degrees[:, 0], 3),
        longitude=np.round(np.array([town.longitude for town in TOWNS])[home] + degrees[:, 1], 3),
        birth=(first_day - age_days).astype(np.int64),
        spend=np.array([persona.spend for persona in PERSONAS])[persona] * np.exp(random.normal(0, 0.3, count)),
        weight=activity * np.exp(random.normal(0, 0.4, count)),
        renewed=renewed,
        reissued=np.full(count, NEVER),
        trips=_trips(random, persona, home, days),
    )


def cards_for(rows: int, days: int) -> int:
    """How many cards make about so many purchases in so many days."""
    return max(round(rows / days / PURCHASES_PER_DAY), 1)


def rows_for(cards: int, days: int) -> int:
    """About how many purchases so many cards make in so many days."""
    return round(cards * days * PURCHASES_PER_DAY)


def _trips(random: np.random.Generator, persona: np.ndarray, home: np.ndarray, days: int) -> Trips:
    yearly = np.array([persona.trips for persona in PERSONAS])[persona]
    card = np.repeat(np.arange(len(persona)), random.poisson(yearly * days / 365))
    first = random.integers(0, days, len(card))
    abroad = random.random(len(card)) < ABROAD_SHARE
    where = random.random(len(card))
    town = np.where(abroad, _other_town(home[card], where, abroad=True), _other_town(home[card], where, abroad=False))
    return Trips(card, first, first + random.integers(TRIP_DAYS[0], TRIP_DAYS[1], len(card)), town)


def _other_town(home: np.ndarray, where: np.ndarray, *, abroad: bool) -> np.ndarray:
    """Another town for each home [n], abroad or in the same country, chosen by numbers in [0, 1) [n]; home if there is
    no other in the country."""
    town = np.arange(len(TOWNS))
    is_choice = (COUNTRY_OF_TOWN[:, None] != COUNTRY_OF_TOWN) == abroad
    is_choice &= town[:, None] != town
    is_choice[~is_choice.any(axis=1)] = np.eye(len(TOWNS), dtype=bool)[~is_choice.any(axis=1)]
    choices = np.argsort(~is_choice, axis=1, kind="stable")  # of each town, first those that are choices
    return choices[home, (where * is_choice.sum(axis=1)[home]).astype(np.int64)]
