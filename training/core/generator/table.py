"""The rows of transactions with their names and texts, as a table of Arrow."""

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.core.generator import draws, origins
from training.core.generator.parameters import CATEGORIES, ENTRY_MODES, SCENARIO_NAMES
from training.core.generator.places import currency_of
from training.core.generator.world import DAY_S, World

IPV4_RANGES = ("192.0.2", "198.51.100", "203.0.113")  # RFC 5737
FIRST_NAMES = ("ada", "ben", "cleo", "dan", "eva", "finn", "gia", "hugo", "ida", "jon", "kim", "lea", "max", "nora")
LAST_NAMES = ("berg", "costa", "diaz", "engel", "fox", "gallo", "hill", "jung", "klein", "lang", "maas", "nagy", "ott")
# Domains that nobody can own (RFC 2606), and how often; the last two give addresses to everybody.
DOMAINS = {
    "mail.example": 40,
    "post.example": 25,
    "example.com": 12,
    "example.org": 8,
    "quick.example": 10,
    "temp.example": 5,
}
OWN_DOMAINS, NEW_DOMAINS = (40, 25, 20, 10, 4, 1), (30, 18, 10, 4, 22, 16)
TIME_TYPE = pa.timestamp("us", tz="UTC")


def as_table(world: World, rows: np.ndarray, first_number: int) -> pa.Table:
    """Rows [n] of the type `ROW` as a table [n]; ids count from `first_number`."""
    cards, merchants, card, merchant = world.cards, world.merchants, rows["card"], rows["merchant"]
    country = merchants.country[merchant]
    start_s = world.first_day * DAY_S
    issue = (rows["time"] >= cards.reissued[card]).astype(np.int64)
    born = (cards.birth[card]).astype("datetime64[D]")
    return pa.table(
        {
            "transaction_id": _joined("t-", pc.utf8_lpad(_digits(first_number + np.arange(len(rows))), 10, "0")),
            "event_time": pa.array((start_s + rows["time"]) * 1_000_000).cast(TIME_TYPE),
            "amount": pa.array(rows["cents"] / 100),
            "currency": pa.array(_mapped(country, currency_of)),
            "card": _joined("card-", _digits(card), "-", _digits(issue + 1)),
            "merchant": pa.array(merchants.name[merchant], pa.string()),
            "category": pa.array(np.array([kind.name for kind in CATEGORIES])[merchants.category[merchant]]),
            "entry_mode": pa.array(np.array(ENTRY_MODES)[rows["entry"]]),
            "country": pa.array(country),
            "device": _where(rows["device"] >= 0, _joined("d-", _digits(rows["device"]))),
            "email": _where(rows["mailbox"] >= 0, _addresses(rows["mailbox"])),
            "ip": _where(rows["network"] >= 0, _ips(rows["network"], rows["host"])),
            "home_latitude": pa.array(cards.latitude[card]),
            "home_longitude": pa.array(cards.longitude[card]),
            "merchant_latitude": pa.array(merchants.latitude[merchant], from_pandas=True),
            "merchant_longitude": pa.array(merchants.longitude[merchant], from_pandas=True),
            "birth_date": pa.array(np.datetime_as_string(born)),
            "is_fraud": pa.array((rows["scenario"] > 0).astype(np.int8)),
            "fraud_scenario": pa.array(np.array(SCENARIO_NAMES)[rows["scenario"]]),
        }
    )


def _digits(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _joined(*parts: str | pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _where(known: np.ndarray, texts: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(known), texts, pa.scalar(None, pa.string()))


def _mapped(values: np.ndarray, function: object) -> np.ndarray:
    known, number = np.unique(values, return_inverse=True)
    return np.array([function(value) for value in known.tolist()])[number]  # type: ignore[operator]


def _addresses(mailbox: np.ndarray) -> pa.Array:
    """E-mail addresses. New mailboxes are more often of those who give one to everybody."""
    is_new = mailbox >= origins.ALIASES
    first = pa.array(np.array(FIRST_NAMES)[draws.hashed(mailbox, 31) % np.uint64(len(FIRST_NAMES))])
    last = pa.array(np.array(LAST_NAMES)[draws.hashed(mailbox, 32) % np.uint64(len(LAST_NAMES))])
    weights = np.cumsum([OWN_DOMAINS, NEW_DOMAINS], axis=1) / 100
    domain = (draws.uniform_of(mailbox, 33)[:, None] >= weights[is_new.astype(np.int64)]).sum(axis=1)
    number = _digits((draws.hashed(mailbox, 34) % np.uint64(10**9)).astype(np.int64))
    return _joined(first, ".", last, ".", number, "@", pa.array(np.array(list(DOMAINS))[domain]))


@cache
def _hexadecimal() -> np.ndarray:
    return np.array([f"{number:x}" for number in range(origins.HOSTS)])


def _ips(network: np.ndarray, host: np.ndarray) -> pa.Array:
    """Addresses in the ranges for documentation, of IPv4 and IPv6."""
    digits = _hexadecimal()
    in_six = _joined("2001:db8:", pa.array(digits[network.clip(min=0)]), "::", pa.array(digits[host.clip(min=0)]))
    ranges = np.array(IPV4_RANGES)[network.clip(0, len(IPV4_RANGES) - 1)]
    in_four = _joined(pa.array(ranges), ".", _digits(host % 254 + 1))
    return pc.if_else(pa.array(network < origins.IPV4_NETWORKS), in_four, in_six)
