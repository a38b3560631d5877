"""Countries (ISO 3166-1) and currencies (ISO 4217), stored by their letters."""

from functools import cache
from typing import TYPE_CHECKING, Any

from training.core.schema.kinds.categories import code_of
from training.core.schema.kinds.kind import Kind, ValueRefused, read_text

if TYPE_CHECKING:
    from training.core.schema.values import Field


def _read_country(field: "Field", value: Any) -> str:
    found = countries().get(read_text(value).upper())
    if found is None:
        raise ValueRefused("unknown_country", "Send a country code of ISO 3166, such as DE or DEU.")
    return found


def _read_currency(field: "Field", value: Any) -> str:
    text = read_text(value).upper()
    if text not in currencies():
        raise ValueRefused("unknown_currency", "Send a currency code of ISO 4217, such as EUR.")
    return text


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


COUNTRY = Kind(
    _read_country, {"type": "string", "minLength": 2, "maxLength": 3}, "DE", encode=code_of, is_category=True
)
CURRENCY = Kind(
    _read_currency, {"type": "string", "minLength": 3, "maxLength": 3}, "EUR", encode=code_of, is_category=True
)
