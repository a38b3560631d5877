"""The towns of the generated traffic: real ones, so that distances and time zones are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Town:
    """`homes` is its share of card holders, relative to the others; 0 for places that are only travelled to. `utc` is
    its offset in hours, without daylight saving time."""

    name: str
    country: str
    latitude: float
    longitude: float
    utc: int
    homes: float = 0.0


TOWNS = (
    Town("Berlin", "DE", 52.52, 13.40, 1, 6),
    Town("Hamburg", "DE", 53.55, 9.99, 1, 4),
    Town("Munich", "DE", 48.14, 11.58, 1, 4),
    Town("Leipzig", "DE", 51.34, 12.37, 1, 3),
    Town("Paris", "FR", 48.86, 2.35, 1, 6),
    Town("Lyon", "FR", 45.76, 4.84, 1, 4),
    Town("Nantes", "FR", 47.22, -1.55, 1, 3),
    Town("Madrid", "ES", 40.42, -3.70, 1, 5),
    Town("Valencia", "ES", 39.47, -0.38, 1, 3),
    Town("Milan", "IT", 45.46, 9.19, 1, 4),
    Town("Rome", "IT", 41.90, 12.50, 1, 4),
    Town("Amsterdam", "NL", 52.37, 4.90, 1, 4),
    Town("Utrecht", "NL", 52.09, 5.12, 1, 3),
    Town("Vienna", "AT", 48.21, 16.37, 1, 4),
    Town("Graz", "AT", 47.07, 15.44, 1, 2),
    Town("Brussels", "BE", 50.85, 4.35, 1, 3),
    Town("Dublin", "IE", 53.35, -6.26, 0, 3),
    Town("Helsinki", "FI", 60.17, 24.94, 2, 2),
    Town("Lisbon", "PT", 38.72, -9.14, 0, 2),
    Town("Athens", "GR", 37.98, 23.73, 2, 2),
    Town("London", "GB", 51.51, -0.13, 0),
    Town("Zurich", "CH", 47.37, 8.54, 1),
    Town("Copenhagen", "DK", 55.68, 12.57, 1),
    Town("Stockholm", "SE", 59.33, 18.07, 1),
    Town("Prague", "CZ", 50.08, 14.44, 1),
    Town("Warsaw", "PL", 52.23, 21.01, 1),
    Town("Istanbul", "TR", 41.01, 28.98, 3),
    Town("Cairo", "EG", 30.04, 31.24, 2),
    Town("Dubai", "AE", 25.20, 55.27, 4),
    Town("New York", "US", 40.71, -74.01, -5),
    Town("Los Angeles", "US", 34.05, -118.24, -8),
    Town("Bangkok", "TH", 13.76, 100.50, 7),
    Town("Tokyo", "JP", 35.68, 139.69, 9),
    Town("Sao Paulo", "BR", -23.55, -46.63, -3),
)
CURRENCIES = {
    "GB": "GBP",
    "CH": "CHF",
    "DK": "DKK",
    "SE": "SEK",
    "CZ": "CZK",
    "PL": "PLN",
    "TR": "TRY",
    "EG": "EGP",
    "AE": "AED",
    "US": "USD",
    "TH": "THB",
    "JP": "JPY",
    "BR": "BRL",
    "CN": "CNY",
}
# Where online merchants are, relative to each other.
ONLINE_COUNTRIES = {
    "DE": 20,
    "FR": 14,
    "NL": 10,
    "ES": 8,
    "IT": 8,
    "IE": 10,
    "AT": 4,
    "GB": 8,
    "US": 10,
    "CN": 6,
    "SE": 2,
}


def currency_of(country: str) -> str:
    """The currency in which a country's merchants charge.

    >>> currency_of("DE"), currency_of("JP")
    ('EUR', 'JPY')
    """
    return CURRENCIES.get(country, "EUR")
