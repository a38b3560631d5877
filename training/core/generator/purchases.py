"""Legitimate purchases: a day of all cards."""

import numpy as np

from training.core.generator import draws, origins
from training.core.generator.merchants import NOWHERE
from training.core.generator.parameters import (
    BURST_CATEGORIES,
    BURST_SHARE,
    BURST_SIZES,
    CATEGORIES,
    CENTS_LEAST,
    CHIP,
    CONTACTLESS,
    CONTACTLESS_LIMIT_CENTS,
    HOURS,
    LARGE_FACTORS,
    LARGE_SHARE,
    MAGSTRIPE,
    MAGSTRIPE_SHARE,
    NUMBER_OF,
    ONLINE,
    PERSONAS,
    PHONE_ORDER,
    PHONE_ORDER_SHARE,
    RECURRING,
    SPREE_CATEGORIES,
    SPREE_SHARE,
    SPREE_SIZES,
    WALLET,
)
from training.core.generator.places import TOWNS
from training.core.generator.world import DAY_S, NONE, World, rows_of

WEIGHTS = np.array([[kind.share * who.likes.get(kind.name, 1.0) for kind in CATEGORIES] for who in PERSONAS])
ONLINE_SHARE = np.array([[min(kind.online * who.online, 0.95) for kind in CATEGORIES] for who in PERSONAS])
ONLINE_SHARE[:, [kind.online == 1.0 for kind in CATEGORIES]] = 1.0
HOUR_WEIGHTS = np.array([HOURS[kind.hours] for kind in CATEGORIES], np.float64)
MEDIAN_CENTS = np.array([kind.median * 100 for kind in CATEGORIES])
SPREAD = np.array([kind.spread for kind in CATEGORIES])
LATER = np.array([who.later for who in PERSONAS])
UTC = np.array([town.utc for town in TOWNS])
BURSTS = np.isin(np.arange(len(CATEGORIES)), [NUMBER_OF[name] for name in BURST_CATEGORIES])
CASH = NUMBER_OF["cash"]


def of_day(world: World, random: np.random.Generator, day: int, count: int) -> np.ndarray:
    """`count` purchases of a day, as rows in no order. Some outings are several purchases: shopping in town, or many
    small ones of a game."""
    cards = world.cards
    cumulated = np.cumsum(cards.weight)
    card = np.searchsorted(cumulated, random.random(count) * cumulated[-1], side="right").clip(max=len(cards) - 1)
    persona = cards.persona[card]
    category = draws.chosen(random, WEIGHTS, persona)
    is_online = random.random(count) < ONLINE_SHARE[persona, category]
    town = cards.towns_on(day)[card]
    second = seconds_of_day(random, category, LATER[persona] - UTC[town])

    chance = random.random(count)
    burst = is_online & BURSTS[category] & (chance < BURST_SHARE)
    spree = ~is_online & (chance < SPREE_SHARE)
    sizes = np.where(
        burst, random.integers(*BURST_SIZES, count), np.where(spree, random.integers(*SPREE_SIZES, count), 1)
    )
    outing = np.repeat(np.arange(count), sizes)[:count]
    place = np.arange(count) - np.searchsorted(outing, outing)
    card, category, is_online, town, spree = (
        card[outing],
        category[outing],
        is_online[outing],
        town[outing],
        spree[outing],
    )
    follows = spree & (place > 0)
    category[follows] = draws.among(random, SPREE_CATEGORIES, NUMBER_OF, int(follows.sum()))
    minutes = np.where(spree, random.uniform(8, 40, count), random.uniform(0.5, 8, count)) * place
    time = day * DAY_S + (second[outing] + (minutes * 60).astype(np.int64)) % DAY_S
    rows = bought(world, random, time=time, card=card, category=category, town=town, is_online=is_online)
    burst = burst[outing]
    first = np.searchsorted(outing, outing)
    for same in ("merchant", "device", "network", "host", "mailbox", "entry"):
        rows[same] = np.where(burst, rows[same][first], rows[same])
    return rows


def bought(
    world: World,
    random: np.random.Generator,
    *,
    time: np.ndarray,
    card: np.ndarray,
    category: np.ndarray,
    town: np.ndarray,
    is_online: np.ndarray,
    factor: float = 1.0,
) -> np.ndarray:
    """What card holders buy by their habits: rows [n], of arguments [n]. Amounts are multiplied by `factor`."""
    cards, merchants, count = world.cards, world.merchants, len(card)
    merchant = merchants.visited(random, card, category, np.where(is_online, NOWHERE, town))
    large = np.where(random.random(count) < LARGE_SHARE, random.uniform(*LARGE_FACTORS, count), 1.0)
    usual = MEDIAN_CENTS[category] * cards.spend[card] * merchants.price[merchant] * factor * large
    cents = in_cents(random, usual, category)
    entry = np.where(is_online, _remote_entry(random, category), in_shop(random, cents, category))
    origin = origins.own(random, cards, card, time // DAY_S, town != cards.home[card])
    told = (entry != ONLINE) & (entry != RECURRING)
    for name, column in origin.items():
        origin[name] = np.where(told, NONE, column)
    return rows_of(time=time, card=card, merchant=merchant, cents=cents, entry=entry, **origin)


def in_cents(random: np.random.Generator, usual: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Amounts around the usual ones, in cents, [n] int64. Cash machines give notes."""
    cents = np.rint(usual * np.exp(SPREAD[category] * random.normal(size=len(usual)))).astype(np.int64)
    notes = np.clip(cents // 1000, 1, 50) * 1000
    return np.where(category == CASH, notes, np.clip(cents, CENTS_LEAST, 2_000_000))


def in_shop(random: np.random.Generator, cents: np.ndarray, category: np.ndarray) -> np.ndarray:
    """How the card is read in shops, [n]."""
    chance = random.random(len(cents))
    small = cents <= CONTACTLESS_LIMIT_CENTS
    entry = np.where(chance < np.where(small, 0.55, 0.08), CONTACTLESS, np.where(chance < 0.76, CHIP, WALLET))
    entry[random.random(len(cents)) < MAGSTRIPE_SHARE] = MAGSTRIPE
    return np.where(category == CASH, CHIP, entry)


def _remote_entry(random: np.random.Generator, category: np.ndarray) -> np.ndarray:
    told = random.random(len(category)) < PHONE_ORDER_SHARE
    return np.where(category == NUMBER_OF["subscriptions"], RECURRING, np.where(told, PHONE_ORDER, ONLINE))


def seconds_of_day(random: np.random.Generator, category: np.ndarray, shift_hours: np.ndarray) -> np.ndarray:
    """Seconds of the day in UTC, [n] int64."""
    hour = draws.chosen(random, HOUR_WEIGHTS, category) + shift_hours
    return (hour * 3600 + random.integers(0, 3600, len(category))) % DAY_S
