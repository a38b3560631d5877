"""Converts amounts by rates of exchange that hold from a time on. All arithmetic is of whole numbers.

A rate is quoted as the European Central Bank does it: how many units of a currency one unit of the base buys.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, NamedTuple, Self

from training.core.exceptions import FraudsiteError
from training.core.schema.kinds.codes import decimals_of

if TYPE_CHECKING:
    from training.core.schema import Schema

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
AHEAD = timedelta(days=1)  # how far ahead of our clock a rate may begin
# What both databases store without loss: SQLite keeps 15 digits.
RATE_DIGITS, RATE_DECIMALS = 15, 18
HIGHEST_RATE = Decimal(10**9)
SCALE = 10**RATE_DECIMALS
# An amount up to this many minor units is exact as a float64, also after one rounding.
MOST_MINOR = 10**14
ROUNDING_ULPS = 4  # of an amount that a client has added up as floats
SHOWN = Context(prec=RATE_DIGITS)
IMPORT = "Import one with manage.py import_rates, or add it in the admin."


class RatesRefused(FraudsiteError):
    """The rates cannot be used."""


class AmountRefused(ValueError):
    """An amount cannot be converted. `code` is for programs, the message says why and what to do. `of_currency` says
    that this is due to its currency, not to the amount."""

    def __init__(self, code: str, remedy: str, *, of_currency: bool = False) -> None:
        super().__init__(remedy)
        self.code, self.remedy, self.of_currency = code, remedy, of_currency


class Quote(NamedTuple):
    """From `valid_from` on, one unit of a base buys `rate` units of `currency`."""

    currency: str
    rate: Decimal
    valid_from: datetime


class Converted(NamedTuple):
    """An amount in a base currency. `sent` is the amount before, in `currency`; both are in major units.

    `units` and `base_units` are the rate: so many units of the currency are worth so many of the base. They hold from
    `since_us` on, in microseconds since 1970. `stale` says that they are older than allowed. An amount that was sent in
    the base currency needs no rate.
    """

    amount: float
    sent: float
    currency: str
    units: int = 1
    base_units: int = 1
    since_us: int | None = None
    stale: bool = False

    @property
    def rate(self) -> str:
        """How many units of the currency one unit of the base buys, with up to 15 digits."""
        return f"{SHOWN.divide(Decimal(self.units), Decimal(self.base_units)):f}"


class _Course(NamedTuple):
    """The rates of one currency in the order of time: their beginnings in microseconds since 1970, and they themselves
    times `SCALE`."""

    since_us: list[int]
    scaled: list[int]

    def at(self, moment_us: int) -> tuple[int, int] | None:
        """The rate that holds at a moment, and since when; None before the first."""
        place = bisect_right(self.since_us, moment_us) - 1
        return (self.scaled[place], self.since_us[place]) if place >= 0 else None


@dataclass(frozen=True)
class Rates:
    """The rates that are known. A rate more than `max_age` older than the transaction is refused or, with `use_last`,
    used and flagged. `courses` are by base and currency."""

    max_age: timedelta = timedelta(days=7)
    use_last: bool = False
    courses: dict[str, dict[str, _Course]] = field(default_factory=dict)

    @classmethod
    def of(cls, quotes: Iterable[tuple[str, Quote]], *, max_age: timedelta, use_last: bool) -> Self:
        """The rates of these bases and quotes. Of those with the same base, currency and beginning the last counts."""
        found: dict[str, dict[str, dict[int, int]]] = {}
        for base, quote in quotes:
            course = found.setdefault(base, {}).setdefault(quote.currency, {})
            course[microseconds(quote.valid_from)] = int(quote.rate.scaleb(RATE_DECIMALS))
        courses = {
            base: {
                currency: _Course(sorted(course), [course[since] for since in sorted(course)])
                for currency, course in by_currency.items()
            }
            for base, by_currency in found.items()
        }
        return cls(max_age, use_last, courses)

    def convert(self, amount: float, currency: str, base: str, moment_us: int) -> Converted:
        """Convert an amount at a moment, in microseconds since 1970. The result is rounded half to even to whole minor
        units of the base.

        Raises:
            AmountRefused: it has more decimals than its currency, is too large, or there is no usable rate.
        """
        decimals = decimals_of(currency)
        minor = minor_units(amount, currency)
        sent = minor / 10**decimals
        if currency == base:
            return Converted(sent, sent, currency)
        units, base_units, since_us = self._rate(currency, base, moment_us)
        stale = moment_us - since_us > self.max_age // MICROSECOND
        if stale and not self.use_last:
            raise AmountRefused(
                "rate_too_old",
                f"The last rate of {currency} to {base} before {_written(moment_us)} is of {_written(since_us)}, more "
                f"than {self.max_age / timedelta(days=1):g} days older. {IMPORT}",
                of_currency=True,
            )
        base_decimals = decimals_of(base)
        made = half_even(minor * base_units * 10**base_decimals, units * 10**decimals)
        if abs(made) > MOST_MINOR:
            raise _too_large(base)
        return Converted(made / 10**base_decimals, sent, currency, units, base_units, since_us, stale)

    def of_transaction(self, schema: "Schema", sent: float, currency: str, moment_us: int) -> Converted:
        """Convert the amount of a transaction to the base currency of its schema.

        Raises:
            AmountRefused: as above, or it is outside of its declared range after conversion.
        """
        converted = self.convert(sent, currency, schema.currency, moment_us)
        amount = schema.features[schema.amount_index]
        if not amount.lowest <= converted.amount <= amount.highest:
            raise AmountRefused(
                "out_of_range",
                f"Send an amount that is {amount.lowest:g} to {amount.highest:g} {schema.currency} after conversion.",
            )
        return converted

    def _rate(self, currency: str, base: str, moment_us: int) -> tuple[int, int, int]:
        """So many units of the currency are worth so many of the base, since a moment. By quotes in the base itself
        or, if there are none, in another currency that quotes both."""
        for quoting in sorted(self.courses, key=lambda name: (name != base, name)):
            units = self._quoted(quoting, currency, moment_us)
            base_units = self._quoted(quoting, base, moment_us)
            if units and base_units:
                return units[0], base_units[0], min(units[1], base_units[1])
        raise AmountRefused(
            "no_rate",
            f"There is no rate of {currency} to {base} that holds at {_written(moment_us)}. {IMPORT}",
            of_currency=True,
        )

    def _quoted(self, quoting: str, currency: str, moment_us: int) -> tuple[int, int] | None:
        if currency == quoting:
            return SCALE, moment_us
        course = self.courses[quoting].get(currency)
        return course.at(moment_us) if course else None


NO_RATES = Rates()


def minor_units(amount: float, currency: str) -> int:
    """An amount as whole minor units of its currency.

    >>> minor_units(0.1 + 0.2, "EUR"), minor_units(1050.0, "JPY"), minor_units(1.234, "KWD")
    (30, 1050, 1234)

    Raises:
        AmountRefused: it has more decimals than the currency, or is too large.
    """
    scale = 10 ** decimals_of(currency)
    if not abs(amount) * scale <= MOST_MINOR:
        raise _too_large(currency)
    minor = round(amount * scale)
    if abs(amount - minor / scale) > ROUNDING_ULPS * math.ulp(amount):
        decimals = decimals_of(currency)
        wanted = f"at most {decimals} decimals" if decimals else "no decimals"
        raise AmountRefused("too_many_decimals", f"An amount in {currency} has {wanted}.")
    return minor


def half_even(numerator: int, denominator: int) -> int:
    """A quotient rounded to the nearest whole number, halves to the even one. The denominator is positive.

    >>> [half_even(numerator, 2) for numerator in (1, 3, 5, -1, -3)]
    [0, 2, 2, 0, -2]
    """
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1))


def checked(rate: Decimal) -> Decimal:
    """A rate that can be stored and converted by.

    Raises:
        ValueError: it cannot; says what can.
    """
    try:
        plain = rate.normalize()
        digits, exponent = len(plain.as_tuple().digits), plain.as_tuple().exponent
    except InvalidOperation:
        digits, exponent = 0, "n"
    if not isinstance(exponent, int) or not 0 < rate < HIGHEST_RATE:
        raise ValueError(f"a rate lies between 0 and {HIGHEST_RATE:,}, without them")
    if digits > RATE_DIGITS or -exponent > RATE_DECIMALS:
        raise ValueError(f"a rate has at most {RATE_DIGITS} digits and {RATE_DECIMALS} decimals")
    return plain


def microseconds(moment: datetime) -> int:
    """A moment in microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def _written(moment_us: int) -> str:
    return f"{EPOCH + moment_us * MICROSECOND:%Y-%m-%dT%H:%M:%SZ}"


def _too_large(currency: str) -> AmountRefused:
    most = MOST_MINOR // 10 ** decimals_of(currency)
    return AmountRefused("out_of_range", f"An amount in {currency} is at most {most:,}, before and after conversion.")
