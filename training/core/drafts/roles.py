"""Finds out which column is the label, the amount, the time, the id, and which name entities and places."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pandas as pd

from training.core.drafts import moments
from training.core.drafts.columns import Column, as_numbers
from training.core.exceptions import ConfigurationError, did_you_mean

LABELS = {
    *("fraud", "isfraud", "txfraud", "fraudlabel", "isfraudulent", "fraudulent", "fraudflag", "fraudind", "class"),
    *("label", "target", "chargeback", "ischargeback", "betrug", "istbetrug", "fraude", "esfraude", "frode", "frauds"),
}
YES = {"1", "true", "t", "yes", "y", "ja", "j", "si", "oui", "fraud", "fraudulent", "betrug", "fraude", "chargeback"}
NO = {"0", "false", "f", "no", "n", "nein", "non", "legit", "legitimate", "genuine", "ok", "normal"}
AMOUNTS = (
    "amount",
    "amt",
    "betrag",
    "umsatz",
    "montant",
    "importe",
    "importo",
    "bedrag",
    "valor",
    "price",
    "value",
    "total",
)
TIMES = ("time", "datetime", "timestamp", "date", "datum", "zeit", "buchung", "dt", "step", "hour", "seconds", "fecha")
NO_EVENTS = (
    "birth",
    "dob",
    "born",
    "open",
    "opened",
    "expiry",
    "expires",
    "valid",
    "geburt",
    "since",
    "valuta",
    "wertstellung",
)
IDS = ("id", "num", "number", "no", "nr", "key", "ref", "reference", "uuid", "transaction", "trans", "txn")
# The names of who pays, the first of them the best, and of who is paid.
PAYERS: tuple[str, ...] = (
    "card",
    "karte",
    "kartennummer",
    "pan",
    "cc",
    "customer",
    "kunde",
    "kundennummer",
    "account",
    "konto",
    "iban",
)
PAYERS = (*PAYERS, "client", "user", "payer", "orig", "sender", "member")
PAYEES: tuple[str, ...] = (
    "merchant",
    "haendler",
    "terminal",
    "dest",
    "payee",
    "recipient",
    "beneficiary",
    "receiver",
    "shop",
    "store",
)
PAYEES = (*PAYEES, "empfaenger", "vendor", "seller", "device", "ip")
MEASURES = ("balance", "saldo", "amount", "limit", "count")  # numbers that no name makes an id
UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
NAMED_UNITS = {
    "h": ("step", "hour", "hours"),
    "d": ("day", "days"),
    "min": ("minute", "minutes"),
    "s": ("second", "seconds"),
}
SINCE_1970 = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}
# A Monday: where times that count from an unknown moment are taken to begin.
ORIGIN = "2001-01-01"
SPREADSHEET = "1899-12-30"  # where the days of Excel and its like begin
REPEATED = 1.2  # an entity has so many rows on average, at least
MANY = 200  # a text with more distinct values is taken for an entity


@dataclass(frozen=True)
class Chosen:
    """What a user has chosen; None where it is to be found out."""

    label: str | None = None
    amount: str | None = None
    time: str | None = None
    id: str | None = None
    day_first: bool | None = None


@dataclass(frozen=True, eq=False)
class Time:
    """The column of the event times, and how to read it: `unit` and `origin` of numbers, `format` of texts. If `event`
    is False, it stays a number of the request, since it counts from an unknown moment and nothing needs the time."""

    column: Column
    moments: np.ndarray
    unit: str = ""
    origin: str = ""
    format: str = ""
    event: bool = True


@dataclass(eq=False)
class Roles:
    """The roles of the columns; every other one may be a value of the request."""

    label: Column
    fraud: str
    labels: np.ndarray
    amount: Column
    amounts: np.ndarray
    time: Time
    id: Column | None
    payers: list[Column] = field(default_factory=list)
    payees: list[Column] = field(default_factory=list)

    @property
    def entities(self) -> list[Column]:
        return [*self.payers, *self.payees]


def find_out(columns: list[Column], chosen: Chosen) -> Roles:
    """Find out the roles.

    Raises:
        ConfigurationError: a chosen column is not there, or a role cannot be found out; names the option.
    """
    label = _one("label", chosen.label, columns, _label, _nearly_labels)
    fraud, labels = _labels_of(label)
    others = [column for column in columns if column is not label]
    time = _time(others, chosen)
    others = [column for column in others if column is not time.column]
    amount = _one("amount", chosen.amount, others, _amount, _nearly_amounts)
    if fault := _no_amount(amount):
        raise ConfigurationError(f"--amount: {amount.name} {fault}.")
    others = [column for column in others if column is not amount]
    own_id = _one("id", chosen.id, others, _id) if chosen.id else _id(others)
    others = [column for column in others if column is not own_id]
    amounts = cast(np.ndarray, amount.numbers)
    roles = Roles(label, fraud, labels, amount, amounts, time, own_id)
    _find_entities(roles, others)
    if not roles.entities and time.origin == ORIGIN:
        roles.time = replace(time, event=False)
    return roles


def _one(
    role: str,
    chosen: str | None,
    columns: list[Column],
    find: Callable[[list[Column]], Column | None],
    nearly: Callable[[list[Column]], Iterable[str]] = lambda columns: (),
) -> Column:
    """The chosen column, or the one that is found; `nearly` says of columns why they are not."""
    if chosen is not None:
        known = {column.name: column for column in columns}
        if chosen not in known:
            raise ConfigurationError(f"--{role}: there is no column {chosen}.{did_you_mean(chosen, known)}")
        return known[chosen]
    found = find(columns)
    if found is None:
        names = ", ".join(column.name for column in columns[:40])
        why = "".join(f" {said}." for said in nearly(columns))
        raise ConfigurationError(f"Nothing says which column is the {role}: name it by --{role}, one of {names}.{why}")
    return found


def _label(columns: list[Column]) -> Column | None:
    twofold = [column for column in columns if column.distinct == 2 and not column.missing]
    # The clearest names first.
    for is_one in (lambda column: _is_named_fraud(column) and column.plain_name in LABELS, _is_named_label):
        if len(found := [column for column in twofold if is_one(column)]) == 1:
            return found[0]
    return None


def _is_named_fraud(column: Column) -> bool:
    return any(word in column.plain_name for word in ("fraud", "betrug"))


def _is_named_label(column: Column) -> bool:
    return column.plain_name in LABELS or _is_named_fraud(column)


def _nearly_labels(columns: list[Column]) -> Iterator[str]:
    named = [column for column in columns if _is_named_label(column)]
    able = [column.name for column in named if not _no_label(column)]
    if able:
        yield f"{' and '.join(able)} could be it"
    yield from (f"{column.name} {fault}" for column in named if (fault := _no_label(column)))


def _no_label(column: Column) -> str:
    """Why a column cannot be the label; empty if it can."""
    if column.distinct == 2 and not column.missing:
        return ""
    return (
        f"has {column.distinct:,} different values and {column.missing:,} missing ones. A label has two values, and is "
        "never missing"
    )


def _labels_of(column: Column) -> tuple[str, np.ndarray]:
    """The text that means fraud, empty if labels are 1 and 0 or true and false; and the labels [n] of 0 and 1."""
    if fault := _no_label(column):
        raise ConfigurationError(f"--label: {column.name} {fault}.")
    texts = [text.lower() for text in column.texts]
    known = [place for place, text in enumerate(texts) if text in YES or text in ("1.0",)]
    if column.numbers is not None and not column.is_bool:
        known = []  # of 1 and 2, or 1 and -1, either may be fraud
    if len(known) != 1:
        known = [1 - place for place, text in enumerate(texts) if text in NO]
    if len(known) != 1:
        raise ConfigurationError(
            f"--label: of {column.name}, neither {column.texts[0]!r} nor {column.texts[1]!r} is known for fraud. Write "
            "1 for fraud and 0 for legitimate."
        )
    fraud = "" if column.is_bool else column.texts[known[0]]
    return fraud, (column.codes == known[0]).astype(np.int8)


def _amount(columns: list[Column]) -> Column | None:
    numbers = [
        column for column in columns if not column.missing and column.numbers is not None and column.distinct > 2
    ]
    for name in AMOUNTS:
        exact = [column for column in numbers if column.plain_name == name]
        found = exact or [column for column in numbers if any(name in word for word in column.words)]
        if len(found) == 1:
            return found[0]
    return None


def _nearly_amounts(columns: list[Column]) -> Iterator[str]:
    named = [column for column in columns if any(name in word for word in column.words for name in AMOUNTS)]
    able = [column.name for column in named if not _no_amount(column)]
    if able:
        yield f"{' and '.join(able)} could be it"
    yield from (f"{column.name} {fault}" for column in named if (fault := _no_amount(column)))


def _no_amount(column: Column) -> str:
    """Why a column cannot be the amount; empty if it can."""
    if column.missing:
        return f"has no value in {column.missing:,} rows: leave them out, or fill them in"
    if column.numbers is None:
        numbers = as_numbers(column.values, column.form)
        strange = column.texts[int(np.argmin(np.isfinite(numbers)))]
        return f"has values that are no numbers, such as {strange!r}. Write them without currency signs"
    return ""


def _time(columns: list[Column], chosen: Chosen) -> Time:
    if chosen.time is not None:
        column = _one("time", chosen.time, columns, lambda columns: None)
        found = None if column.missing else _as_time(column, chosen)
        if found is None:
            raise ConfigurationError(f"--time: {column.name} {_no_time(column)}.")
        return found
    named = [column for column in columns if not column.missing and not column.names(NO_EVENTS)]
    typed = [column for column in named if column.moment is not None]
    counting = [column for column in named if column.numbers is not None and _sounds_like_time(column)]
    # The finer a time is, the rather it is that of the event: not the day of the booking.
    for column in sorted(typed, key=lambda column: (not column.moment.has_clock, -column.distinct)):  # type: ignore[union-attr]
        if found := _as_time(column, chosen):
            return found
    for column in sorted(counting, key=lambda column: -column.distinct):
        if found := _as_time(column, chosen):
            return found
    why = "".join(f" {column.name} {_no_time(column)}." for column in columns if _sounds_like_time(column))
    raise ConfigurationError(
        "Nothing says which column is the time of a transaction: name it by --time, one of "
        f"{', '.join(column.name for column in named[:40])}.{why}"
    )


def _no_time(column: Column) -> str:
    if column.missing:
        return f"has no value in {column.missing:,} rows"
    return f"has values that are no times, such as {column.texts[0]!r}: write them like 2026-01-31T12:00:00"


def _sounds_like_time(column: Column) -> bool:
    is_at = column.words[-1:] == ("at",)  # paid_at
    return (
        is_at or column.names(TIMES) or any(word.endswith(("time", "datum", "zeit", "date")) for word in column.words)
    )


def _as_time(column: Column, chosen: Chosen) -> Time | None:
    if (form := column.moment) is not None:
        written, other = form.format, form.other
        if other and "/" in written and chosen.day_first is None:
            raise ConfigurationError(
                f"{column.name} has times such as {column.texts[0]!r}, with the day first or the month: say which by "
                "--day-first or --month-first."
            )
        if other and chosen.day_first is False:
            written = other
        return Time(column, column.times(replace(form, format=written)), format=written)
    numbers = column.numbers
    if numbers is None or column.missing:
        return None
    counted = _since_1970(column, numbers) or _of_a_spreadsheet(column, numbers)
    return counted if counted or not column.is_whole else _as_digits(column) or _elapsed(column, numbers)


def _since_1970(column: Column, numbers: np.ndarray) -> Time | None:
    first, last = datetime(2000, 1, 1, tzinfo=UTC).timestamp(), datetime.now(UTC).timestamp() + 86_400
    for unit, per_s in SINCE_1970.items():
        if first * per_s <= numbers.min() and numbers.max() <= last * per_s:
            micros = np.rint(numbers / per_s * 1e6).astype("datetime64[us]")
            return Time(column, micros, unit=unit)
    return None


def _of_a_spreadsheet(column: Column, numbers: np.ndarray) -> Time | None:
    """Days of this century as spreadsheets count them, unless the name tells another unit."""
    origin = np.datetime64(SPREADSHEET, "us")
    first, last = (int((np.datetime64(day, "D") - origin) / np.timedelta64(1, "D")) for day in ("2000-01-01", "today"))
    if _named_unit(column) not in ("", "d") or not first <= numbers.min() <= numbers.max() <= last + 1:
        return None
    micros = np.rint(numbers * UNITS["d"] * 1e6).astype("timedelta64[us]")
    return Time(column, origin + micros, unit="d", origin=SPREADSHEET)


def _as_digits(column: Column) -> Time | None:
    texts = pd.Series(column.texts)
    for length, form in {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.items():
        is_long = (texts.str.len() == length).all() and texts.str.match("(19|20)").all()
        if is_long and pd.to_datetime(texts, format=form, errors="coerce").notna().all():
            return Time(column, column.times(moments.Form(format=form)), format=form)
    return None


def _elapsed(column: Column, numbers: np.ndarray) -> Time | None:
    """Times that count from an unknown moment, in a unit that the name tells, or else in seconds."""
    if numbers.min() < 0:
        return None
    unit = _named_unit(column) or "s"
    micros = np.rint(numbers * UNITS[unit] * 1e6).astype("timedelta64[us]")
    since_origin = np.datetime64(ORIGIN, "us") + micros
    if since_origin.max() > np.datetime64(datetime.now(UTC).replace(tzinfo=None), "us"):
        return None
    return Time(column, since_origin, unit=unit, origin=ORIGIN)


def _named_unit(column: Column) -> str:
    """The unit of time that a name tells; empty if it tells none."""
    return next((unit for unit, words in NAMED_UNITS.items() if column.names(words)), "")


def _id(columns: list[Column]) -> Column | None:
    unique = [
        column for column in columns if column.distinct == column.rows and (column.is_whole or column.numbers is None)
    ]
    found = [column for column in unique if column.names(IDS) or column.plain_name.endswith(("id", "nummer", "number"))]
    return found[0] if found else None


def _find_entities(roles: Roles, columns: Sequence[Column]) -> None:
    """Who pays and who is paid: columns that are named so or have many texts, and whose values come again."""

    def comes_again(column: Column) -> bool:
        return column.distinct >= 5 and (column.rows - column.missing) / column.distinct >= REPEATED

    def is_named(column: Column, words: Sequence[str]) -> bool:
        is_measure = any(word in column.plain_name for word in MEASURES)
        return _rank(column, words) < math.inf and (column.numbers is None or (column.is_whole and not is_measure))

    able = [column for column in columns if comes_again(column) and column.moment is None and column.is_identifier]
    payers = sorted(
        (one for one in able if is_named(one, PAYERS)),
        key=lambda one: (_rank(one, PAYERS), one.missing > 0, -one.distinct),
    )
    roles.payers = payers[:1]
    payees = [one for one in able if one not in payers and is_named(one, PAYEES)]
    payees += [one for one in able if one not in (*payers, *payees) and one.numbers is None and one.distinct > MANY]
    roles.payees = [one for one in payees if not roles.payers or not says_only(one, roles.payers[0])][:2]
    # A second payer, such as the customer beside the card, if it groups other rows than the first.
    roles.payers += [one for one in payers[1:] if one.distinct > MANY and not says_only(one, payers[0])][:1]


def _rank(column: Column, words: Sequence[str]) -> float:
    """The place of the first of these words in the name; words may be run together."""
    for place, word in enumerate(words):
        parts = [part for part in column.words if not part.isdigit()]
        if word in parts or (len(word) > 4 and any(word in part for part in parts)):
            return place
    return math.inf


def says_only(column: Column, entity: Column) -> bool:
    """Whether a column is an attribute of an entity: nearly each entity has one value of it in all its rows."""
    both = (column.codes >= 0) & (entity.codes >= 0)
    pairs = pd.DataFrame({"entity": entity.codes[both], "value": column.codes[both]}).drop_duplicates()
    if pairs.empty:
        return False
    # An entity with a single row says nothing about that.
    rows = pd.Series(entity.codes[both]).value_counts()
    several = rows.index[rows > 1]
    values = pairs[pairs["entity"].isin(several)].groupby("entity").size()
    return len(values) > 0 and float((values == 1).mean()) >= 0.99
