"""Where an online purchase comes from: device, IP address and e-mail address, as numbers.

Devices: below `OTHER_DEVICES` the phones and tablets of card holders. Mailboxes: below `ALIASES` those of card holders.
Networks: the first three are the documentation ranges of IPv4 (RFC 5737), which stand for mobile carriers; the others
are numbers of /48 networks in the documentation range of IPv6 (RFC 3849).
"""

import numpy as np

from training.core.generator import draws
from training.core.generator.cards import Cards
from training.core.generator.parameters import (
    ALIAS_SHARE,
    GUEST_SHARE,
    MOBILE_SHARE,
    OTHER_DEVICE_SHARE,
    TABLET_SHARE,
    VPN_SHARE,
    WORK_SHARE,
)

OTHER_DEVICES = 10**12
ALIASES = 10**12
IPV4_NETWORKS = 3
HOMES, GUESTS, HOSTING, END = 43, 50_000, 60_000, 60_040
HOSTS = 65_536


def own(random: np.random.Generator, cards: Cards, card: np.ndarray, day: np.ndarray, away: np.ndarray) -> dict:
    """The origin of card holders' purchases on a `day`, at home or `away`: columns of rows, all [n]."""
    count = len(card)
    household = draws.hashed(card // 2, 11)
    which = random.random(count)
    phone = card * 4 + (day >= cards.renewed[card])
    device = np.where(which < TABLET_SHARE, (card // 2) * 8 + 6, phone)
    other = which > 1 - OTHER_DEVICE_SHARE
    device[other] = new_devices(random, int(other.sum()))

    mobile = draws.hashed(card, 12) % np.uint64(HOMES)
    choices = (
        mobile,
        HOMES + draws.hashed(card, 13) % np.uint64(GUESTS - HOMES),
        random.integers(GUESTS, HOSTING, count),
        random.integers(HOSTING, END, count),
        HOMES + household % np.uint64(GUESTS - HOMES),
    )
    limits = np.cumsum([MOBILE_SHARE, WORK_SHARE, GUEST_SHARE, VPN_SHARE])
    at_home = np.searchsorted(limits, random.random(count), side="right")
    abroad = np.where(random.random(count) < 0.5, 0, 2)
    network = np.choose(np.where(away, abroad, at_home), [choice.astype(np.int64) for choice in choices])
    host = np.where(network < HOMES, random.integers(1, HOSTS, count), household.astype(np.int64) % HOSTS)
    alias = random.random(count) < ALIAS_SHARE
    mailbox = np.where(alias, new_mailboxes(random, count), card)
    return {"device": device, "network": network, "host": host, "mailbox": mailbox}


def new_devices(random: np.random.Generator, count: int) -> np.ndarray:
    """Devices that nobody used before, [count]."""
    return random.integers(OTHER_DEVICES, 2 * OTHER_DEVICES, count)


def new_mailboxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Mailboxes that nobody used before, [count]."""
    return random.integers(ALIASES, 2 * ALIASES, count)


def hidden_networks(random: np.random.Generator, count: int, hosting: float) -> np.ndarray:
    """Networks behind which fraudsters hide: this share of hosting companies, the others are strangers' homes."""
    return np.where(
        random.random(count) < hosting,
        random.integers(HOSTING, END, count),
        random.integers(HOMES, GUESTS, count),
    )
