"""The parameters of the generated traffic, all in one place.

Sources, by their short names below:

- DCPC: Federal Reserve Banks of Atlanta and Boston, 2023 Survey and Diary of Consumer Payment Choice (2024): 29.5 card
  payments a month and consumer; 22 % of purchases are remote.
- CE: US Bureau of Labor Statistics, Consumer Expenditures in 2022 (2023): of a household's spending 12.8 % are food,
  16.8 % transportation, 8.0 % healthcare, and less than 5 % each other consumption but housing.
- ECB: European Central Bank, Report on card fraud in 2020 and 2021 (2023): of the value of card fraud, 84 % were
  without the card being present, and 63 % across borders, as against 11 % of all payments; fraud was 0.028 % of all
  value.
- RTS: Commission Delegated Regulation (EU) 2018/389, article 11: a contactless payment above 50 EUR needs the PIN.

Everything else is an assumption of ours. Publications give totals, not habits: how purchases are spread over hours,
merchants and devices, and the course of each kind of fraud, follow no published figure. Fraud is more frequent than in
reality, so that a model has enough to learn from and an analyst something to see.
"""

from dataclasses import dataclass, field

# DCPC: 29.5 a month. Personas differ from this mean.
PURCHASES_PER_DAY = 29.5 / 30.4
# By weekday, from Monday; our assumption.
WEEKDAYS = (0.93, 0.93, 0.96, 1.0, 1.15, 1.2, 0.83)
CONTACTLESS_LIMIT_CENTS = 5000  # RTS
CENTS_LEAST = 50


@dataclass(frozen=True)
class Category:
    """A category of merchants: its `share` of purchases, the `median` amount in EUR and the standard deviation of its
    logarithm, the share of `online` purchases, and when people buy (`HOURS`)."""

    name: str
    share: float
    median: float
    spread: float
    online: float
    hours: str
    noun: str


# Shares are by number: what CE says of spending, divided by the usual amount, and rounded. Amounts and hours are ours.
# The shares of online purchases are ours, and add up to DCPC's 22 %.
CATEGORIES = (
    Category("groceries", 0.225, 24, 0.8, 0.03, "day", "Market"),
    Category("restaurants", 0.10, 28, 0.65, 0.0, "meals", "Kitchen"),
    Category("fast_food", 0.12, 9, 0.5, 0.10, "meals", "Grill"),
    Category("fuel", 0.075, 45, 0.45, 0.0, "commute", "Fuels"),
    Category("transport", 0.08, 6, 0.8, 0.35, "commute", "Lines"),
    Category("clothing", 0.05, 48, 0.8, 0.42, "day", "Fashion"),
    Category("electronics", 0.022, 110, 1.1, 0.5, "day", "Electronics"),
    Category("home_garden", 0.04, 45, 0.9, 0.3, "day", "Home"),
    Category("pharmacy", 0.05, 16, 0.7, 0.06, "day", "Pharmacy"),
    Category("health", 0.02, 60, 0.9, 0.05, "office", "Clinic"),
    Category("entertainment", 0.04, 25, 0.7, 0.45, "evening", "Events"),
    Category("bars", 0.04, 14, 0.7, 0.0, "night", "Bar"),
    Category("digital_goods", 0.055, 6, 1.0, 1.0, "evening", "Games"),
    Category("subscriptions", 0.03, 11, 0.5, 1.0, "any", "Streaming"),
    Category("travel", 0.012, 190, 0.9, 0.85, "day", "Travel"),
    Category("hotels", 0.01, 130, 0.7, 0.5, "evening", "Hotel"),
    Category("jewellery", 0.004, 150, 1.0, 0.2, "day", "Jewellers"),
    Category("gift_cards", 0.006, 40, 0.7, 0.6, "day", "Vouchers"),
    Category("gambling", 0.01, 25, 0.9, 0.9, "night", "Casino"),
    Category("cash", 0.045, 80, 0.6, 0.0, "day", "Cash machine"),
    Category("charity", 0.006, 15, 0.9, 0.6, "evening", "Aid"),
    Category("utilities", 0.012, 70, 0.6, 0.9, "office", "Energy"),
)
NUMBER_OF = {category.name: number for number, category in enumerate(CATEGORIES)}
# What somebody buys one after the other in town, and what in several small parts online.
SPREE_CATEGORIES = ("clothing", "electronics", "home_garden", "groceries", "restaurants", "fast_food", "jewellery")
BURST_CATEGORIES = ("digital_goods", "gambling")
SPREE_SHARE, BURST_SHARE = 0.02, 0.25
SPREE_SIZES, BURST_SIZES = (2, 6), (2, 8)
# Purchases that are many times the usual amount: furniture, a notebook, a wedding.
LARGE_SHARE, LARGE_FACTORS = 0.012, (3.0, 9.0)

# Relative numbers of purchases by local hour.
HOURS = {
    "day": (0, 0, 0, 0, 0, 0, 1, 3, 6, 9, 10, 10, 10, 9, 9, 10, 11, 12, 10, 6, 3, 1, 0.5, 0.2),
    "meals": (0.3, 0.1, 0, 0, 0, 0.2, 1, 3, 3, 2, 3, 8, 14, 10, 4, 3, 4, 7, 11, 12, 9, 5, 2, 1),
    "commute": (0.3, 0.2, 0.1, 0.1, 0.4, 2, 6, 11, 10, 6, 4, 4, 5, 5, 5, 7, 10, 11, 8, 5, 3, 2, 1, 0.6),
    "office": (0, 0, 0, 0, 0, 0, 0, 1, 6, 10, 11, 10, 7, 7, 9, 9, 8, 6, 3, 2, 1, 0.5, 0, 0),
    "evening": (3, 1.5, 0.8, 0.4, 0.2, 0.2, 0.5, 1, 2, 2, 3, 3, 4, 4, 4, 5, 6, 7, 9, 11, 12, 11, 9, 6),
    "night": (9, 6, 4, 2, 1, 0.3, 0.1, 0.1, 0.2, 0.3, 0.5, 1, 1, 1, 1, 2, 3, 4, 6, 8, 10, 12, 12, 11),
    "any": (4, 5, 6, 6, 5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4),
}


@dataclass(frozen=True)
class Persona:
    """A kind of card holder: its `share` of all, its ages, purchases relative to the mean, amounts and online shares
    relative to the category's, trips a year, and how much more or less of a category it buys. `later` shifts hours."""

    name: str
    share: float
    ages: tuple[int, int]
    activity: float
    spend: float
    online: float
    trips: float
    later: int = 0
    likes: dict[str, float] = field(default_factory=dict)


# Our assumptions.
PERSONAS = (
    Persona("student", 0.15, (18, 27), 0.95, 0.65, 1.3, 1.5, 2, {"bars": 2.5, "fast_food": 1.6, "fuel": 0.3}),
    Persona("employee", 0.32, (24, 64), 1.0, 1.0, 1.0, 1.5, 0, {"transport": 1.4, "restaurants": 1.2}),
    Persona("family", 0.25, (28, 55), 1.15, 1.25, 1.1, 1.0, 0, {"groceries": 1.4, "home_garden": 1.5, "bars": 0.3}),
    Persona("traveller", 0.06, (27, 63), 1.4, 1.6, 1.3, 14.0, 0, {"travel": 5.0, "hotels": 6.0, "restaurants": 1.5}),
    Persona("pensioner", 0.15, (65, 89), 0.65, 0.85, 0.35, 0.8, 0, {"pharmacy": 2.5, "digital_goods": 0.1}),
    Persona("gamer", 0.07, (18, 40), 1.2, 0.8, 1.6, 0.6, 3, {"digital_goods": 4.0, "electronics": 1.8, "fuel": 0.5}),
)
# A trip is this long; of shop purchases at home, this share of days is spent in another town of the country.
TRIP_DAYS, EXCURSION_SHARE = (2, 15), 0.03
ABROAD_SHARE = 0.7  # of trips
PHONE_LIFE_DAYS = 800  # then there is a new one, whose owner often buys more that day
# Where an online purchase is made from.
TABLET_SHARE, OTHER_DEVICE_SHARE = 0.14, 0.09
MOBILE_SHARE, WORK_SHARE, GUEST_SHARE, VPN_SHARE = 0.24, 0.10, 0.06, 0.04
ALIAS_SHARE = 0.04  # of online purchases: with an address for this one purchase
PHONE_ORDER_SHARE = 0.02  # of online purchases: card number told on the phone
MAGSTRIPE_SHARE = 0.015  # of purchases in shops: old terminals
FAVOURITE = 0.35  # the chance that a card goes to its favourite merchant, and so on to the next
STROLL_SHARE = 0.15  # of purchases at any merchant of the town

# A cell is a category in a town, or online. Cards for each of its merchants.
CARDS_PER_MERCHANT, MERCHANTS_LEAST = 80, 3

ENTRY_MODES = ("chip", "contactless", "wallet", "magstripe", "online", "recurring", "phone_order")
CHIP, CONTACTLESS, WALLET, MAGSTRIPE, ONLINE, RECURRING, PHONE_ORDER = range(len(ENTRY_MODES))

# Share of the fraudulent transactions. ECB's 84 % are of the value; by our shares about 70 % of the number are without
# the card, and most of the value, as stolen cards are used for less.
SCENARIOS = {
    "card_testing": 0.27,
    "stolen_card": 0.23,
    "account_takeover": 0.20,
    "compromised_merchant": 0.24,
    "friendly_fraud": 0.06,
}
SCENARIO_NAMES = ("", *SCENARIOS)
SCENARIO_NUMBER = {name: number for number, name in enumerate(SCENARIO_NAMES)}
