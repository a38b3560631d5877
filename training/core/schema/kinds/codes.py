"""Countries (ISO 3166-1), currencies (ISO 4217) and time zones (IANA), stored by their codes."""

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from training.core.schema.kinds.categories import code_of
from training.core.schema.kinds.kind import TEXT_LIMIT, Kind, ValueRefused, read_text

if TYPE_CHECKING:
    from training.core.schema.values import Field

# The decimals of amounts, by ISO 4217 (list one, column "minor unit"); all other currencies have two.
DECIMALS = (
    dict.fromkeys(["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"], 0)
    | dict.fromkeys(["RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"], 0)
    | dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3)
    | dict.fromkeys(["CLF", "UYW"], 4)
)


def _code(value: Any) -> str:
    """A text that can be a code; empty if other letters are in it, such as ß, which is SS in capitals, South Sudan."""
    text = read_text(value)
    return text if text.isascii() else ""


def _read_country(field: "Field", value: Any) -> str:
    found = countries().get(_code(value).upper())
    if found is None:
        raise ValueRefused("unknown_country", "Send a country code of ISO 3166, such as DE or DEU.")
    return found


def _read_currency(field: "Field", value: Any) -> str:
    text = _code(value).upper()
    if text not in currencies():
        raise ValueRefused("unknown_currency", "Send a currency code of ISO 4217, such as EUR.")
    return text


def _read_timezone(field: "Field", value: Any) -> str:
    found = timezones().get(_code(value).casefold())
    if found is None:
        raise ValueRefused("unknown_timezone", "Send a time zone of IANA, such as Europe/Berlin.")
    return found


@cache
def countries() -> dict[str, str]:
    """The two letters of each country, by its two or three letters or its number."""
    import pycountry  # reads its tables when they are first used

    return {
        code: country.alpha_2
        for country in pycountry.countries
        for code in (country.alpha_2, country.alpha_3, country.numeric)
    }


@cache
def currencies() -> frozenset[str]:
    import pycountry

    return frozenset(currency.alpha_3 for currency in pycountry.currencies)


@cache
def timezones() -> dict[str, str]:
    """The name of each time zone, by its letters in lower case."""
    names = resources.files("tzdata").joinpath("zones").read_text().split()
    return {name.casefold(): name for name in names}


def decimals_of(currency: str) -> int:
    """How many decimals an amount in a currency has.

    >>> decimals_of("EUR"), decimals_of("JPY"), decimals_of("KWD")
    (2, 0, 3)
    """
    return DECIMALS.get(currency, 2)


COUNTRY = Kind(
    _read_country, {"type": "string", "minLength": 2, "maxLength": 3}, "DE", encode=code_of, is_category=True
)
CURRENCY = Kind(
    _read_currency, {"type": "string", "minLength": 3, "maxLength": 3}, "EUR", encode=code_of, is_category=True
)
TIMEZONE = Kind(
    _read_timezone,
    {"type": "string", "minLength": 2, "maxLength": TEXT_LIMIT},
    "Europe/Berlin",
    encode=code_of,
    is_category=True,
)
