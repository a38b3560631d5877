"""Proposes the kinds of values: which columns become which fields of a request, and which are left out."""

import ipaddress
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from training.core.card_numbers import holds_card_number
from training.core.datasets.columns import FREE
from training.core.drafts import moments
from training.core.drafts.columns import Column
from training.core.drafts.roles import MANY, REPEATED, Roles, says_only
from training.core.features.declaration import MOST_MINOR
from training.core.schema.kinds import codes, dates
from training.core.schema.kinds.categories import LONG_TEXT_LIMIT
from training.core.schema.kinds.kind import TEXT_LIMIT, ValueRefused
from training.core.schema.values import MOST, Field

SAMPLE = 500
LIKE_CARDS = "has values that are card numbers or look like them, which `ingest` and the predict call refuse"
MAX_VALUES = 1_000
CODES = {
    *("code", "type", "mcc", "zip", "plz", "postal", "postcode", "addr", "card", "bank", "branch", "channel", "kind"),
    *("category", "cat", "id", "product", "entry", "mode", "region", "district", "terminal", "merchant", "device"),
}
MONEY = ("amount", "balance", "saldo", "limit", "price", "fee", "betrag")
FROM_BIRTH = ("birth", "dob", "born", "geburt", "geburtsdatum", "naissance", "nacimiento")
ISO = "ISO 8601"
AS_POINTS = (("latitude", ("lat", "latitude")), ("longitude", ("long", "lon", "lng", "longitude")))


@dataclass
class Proposed:
    """A table of the schema's file, with remarks that become comments above it."""

    table: dict[str, Any]
    remarks: list[str] = field(default_factory=list)


@dataclass
class Fields:
    """The proposed fields, by column, and the points; the columns that are left out, with the reasons; how dates
    are written, if there are any: `ISO` or a format."""

    fields: dict[str, Proposed] = field(default_factory=dict)
    points: list[Proposed] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    dates: str = ""


def propose(columns: list[Column], roles: Roles, left_out: dict[str, str], currency: str) -> Fields:
    """Propose a field for each column that has no other role and is not left out already."""
    found = Fields(left_out=dict(left_out))
    taken = {column.name for column in (roles.label, roles.id, *roles.entities) if column}
    if roles.time.event:
        taken.add(roles.time.column.name)
    places = _places([column for column in columns if column.name not in taken])
    for column in columns:
        if column.name in taken or column.name in left_out:
            continue
        if column.name in places:
            proposed: Proposed | str = Proposed({"kind": places[column.name][0], "model": False})
        elif column is roles.amount:
            proposed = _number(column, roles.amounts, currency)
            most = MOST_MINOR / 10 ** decimals(roles.amounts)
            proposed.table["minimum"] = max(proposed.table["minimum"], -most)
            proposed.table["maximum"] = min(proposed.table["maximum"], most)
        elif column is roles.time.column and column.numbers is not None:
            proposed = _number(column, column.numbers, roles.time.unit or "s")
        else:
            proposed = _kind(column, roles, currency, found)
        if isinstance(proposed, str):
            found.left_out[column.name] = proposed
            continue
        described = {"description": f"Column {column.name} of the file."}
        optional = {"optional": True} if column.missing else {}
        proposed.table = {"name": column.ours} | proposed.table | optional | described
        if refused := _refused(column, Field(**proposed.table)):
            found.left_out[column.name] = refused
            continue
        _spare_names(column, roles, proposed)
        found.fields[column.name] = proposed
    found.points = _points(columns, roles, places)
    _offer_conversion(columns, roles, found)
    return found


def _refused(column: Column, field: Field) -> str:
    """Why `ingest` and the predict call refuse values of a field; empty if they take all of them."""
    is_written_otherwise = field.kind == "date" and not (column.moment and column.moment.is_iso)
    if field.is_number or is_written_otherwise:
        return ""
    if field.kind in FREE and any(map(holds_card_number, column.texts)):
        return LIKE_CARDS
    for text in column.texts:
        try:
            field.of_kind.read(field, text)
        except ValueRefused as error:
            return f"{text[:40]!r} is refused as a {field.kind}. {error.remedy.removesuffix('.')}"
    return ""


def _offer_conversion(columns: list[Column], roles: Roles, found: Fields) -> None:
    """Say how amounts are declared that are in the currencies of a column, where the file has several."""
    several = [
        column.ours
        for column in columns
        if column.distinct > 1 and not column.missing and column.name in found.fields
        if found.fields[column.name].table.get("kind") == "currency"
    ]
    if several and roles.amount.name in found.fields:
        found.fields[roles.amount.name].remarks.append(
            f'If amounts are in the currency of {several[0]}, declare amount_currency = "{several[0]}" above, beside '
            "amount. Unit, minimum and maximum are then of the currency to which they are converted."
        )


def _kind(column: Column, roles: Roles, currency: str, found: Fields) -> Proposed | str:
    """What a column is, or why it is left out."""
    if column.is_bool:
        return Proposed({"kind": "boolean"})
    if column.numbers is not None:
        if is_code(column):
            return _category(column, [])
        if column.is_whole and column.distinct > MANY and column.distinct == column.rows - column.missing:
            return "each row has another whole number, as an id has"
        if _is_written_whole(column) and not column.is_whole:
            return "it has whole numbers beyond 2^53, of which several would be one: write ids as texts with a letter"
        if np.nanmax(np.abs(column.numbers)) > MOST:
            return f"it has numbers beyond {MOST:g}, which no model takes"
        unit = currency if any(word in column.plain_name for word in MONEY) else "1"
        return _number(column, column.numbers, unit)
    if column.moment is not None:
        return _date(column, column.moment, roles, found)
    if max(map(len, column.texts)) > LONG_TEXT_LIMIT:
        return f"its texts are longer than {LONG_TEXT_LIMIT} characters"
    if kind := _address(column):
        return Proposed({"kind": kind})
    if max(map(len, column.texts)) > TEXT_LIMIT:
        return Proposed({"kind": "text"}, [f"texts of more than {TEXT_LIMIT} characters: stored, and no model input"])
    if kind := code_kind(column):
        return Proposed({"kind": kind})
    return _category(column, [])


def is_code(column: Column) -> bool:
    """Whether its values are numbers, and its name says that they are codes or ids: to be told apart, not compared."""
    return column.is_whole and column.names(CODES)


def _number(column: Column, numbers: np.ndarray, unit: str) -> Proposed:
    """A range that leaves room beyond what the file has."""
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    minimum = 0.0 if low >= 0 else -_beyond(-low)
    maximum = 0.0 if high < 0 else _beyond(high)
    kind = {"kind": "integer"} if _is_written_whole(column) and column.is_whole else {}
    seen = f"in the file {low:g} to {high:g}"
    return Proposed({**kind, "unit": unit, "minimum": minimum, "maximum": max(maximum, minimum + 1)}, [seen])


def _beyond(number: float) -> float:
    """A power of ten, about ten times the number.

    >>> _beyond(28948.9), _beyond(0.2)
    (1000000.0, 10.0)
    """
    return max(number, min(10.0 ** (math.ceil(math.log10(max(number, 1.0))) + 1), MOST))


def _is_written_whole(column: Column) -> bool:
    if pd.api.types.is_numeric_dtype(column.values):
        return pd.api.types.is_integer_dtype(column.values)
    return all(text.lstrip("+-").isdigit() for text in column.texts)


def _category(column: Column, remarks: list[str]) -> Proposed | str:
    rows = column.rows - column.missing
    if column.distinct > MANY and rows / column.distinct < REPEATED:
        return "nearly each row has another value"
    if column.distinct > MAX_VALUES:
        remarks = [*remarks, f"{column.distinct:,} values, of which the model learns the most frequent"]
    more = {"max_values": min(column.distinct, MAX_VALUES)} if column.distinct > MANY else {}
    return Proposed({"kind": "category", **more}, remarks or [_values_of(column)])


def _values_of(column: Column) -> str:
    rows = np.bincount(column.codes[column.codes >= 0], minlength=column.distinct)
    first = [column.texts[place] for place in np.argsort(-rows, kind="stable")[:5]]
    return f"{column.distinct:,} values: {', '.join(first)}{', …' if column.distinct > len(first) else ''}"


def _date(column: Column, form: moments.Form, roles: Roles, found: Fields) -> Proposed | str:
    is_typed = not form.format and not form.is_iso
    if form.has_clock and not is_typed:
        return "a second time, with a clock: a date is sent as 2026-01-31"
    if form.other and roles.time.format.startswith("%m"):
        form = replace(form, format=form.other, other=form.format)
    written = form.format or ISO
    if not is_typed and found.dates not in ("", written):
        return f"its dates are written as {written}, and those of another column as {found.dates}"
    moments_of = column.times(form)
    outside = (moments_of < np.datetime64(dates.EARLIEST)) | (moments_of > np.datetime64(dates.LATEST))
    if outside.any():
        day = str(moments_of[outside][0])[:10]
        return f"it has dates outside of {dates.EARLIEST} to {dates.LATEST}, such as {day}: leave them empty"
    found.dates = found.dates if is_typed else written
    late = moments_of > roles.time.moments + np.timedelta64(dates.ZONES)
    future = {"future": True} if late.any() else {}
    return Proposed({"kind": "date", **future}, ["the model gets its age, see below"])


def _address(column: Column) -> str:
    """email or ip, if nearly all of a sample are one; else empty."""
    sample = column.texts[:SAMPLE]
    if all(re.fullmatch(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+", text) for text in sample):
        return "email"
    try:
        for text in sample:
            ipaddress.ip_address(text)
    except ValueError:
        return ""
    return "ip"


def code_kind(column: Column) -> str:
    """country or currency, if the name says so and all values are such codes; timezone, if the values say so; else
    empty."""
    texts = [text.upper() for text in column.texts]
    if column.names(("country", "land", "pays", "pais", "nation")) and set(texts) <= codes.countries().keys():
        return "country"
    if column.names(("currency", "waehrung", "devise", "moneda", "ccy")) and set(texts) <= codes.currencies():
        return "currency"
    zones = {text.lower() for text in column.texts}
    if any("/" in zone for zone in zones) and zones <= codes.timezones().keys():
        return "timezone"
    return ""


def _spare_names(column: Column, roles: Roles, proposed: Proposed) -> None:
    """Keep from the model what is constant for each card and all but names it: it would learn who was robbed. Clients
    may leave it out."""
    if not roles.payers or proposed.table.get("kind") in ("date", "latitude", "longitude") or column is roles.amount:
        return
    card = roles.payers[0]
    if column.distinct >= max(20, card.distinct // 20) and says_only(column, card):
        proposed.table |= {"model": False, "optional": True}
        proposed.remarks.append(
            f"each {card.name} has one value of it, and few share it, so that it all but names the {card.name}: no "
            "model input"
        )


def _places(columns: Iterable[Column]) -> dict[str, tuple[str, str]]:
    """Kind and prefix of each column that is a latitude or a longitude, where both of a pair are there."""
    halves: dict[str, dict[str, str]] = {}
    for column in columns:
        for kind, words in AS_POINTS:
            limit = 90 if kind == "latitude" else 180
            if column.numbers is not None and column.names(words) and np.nanmax(np.abs(column.numbers)) <= limit:
                prefix = "_".join(word for word in column.words if word not in words)
                halves.setdefault(prefix, {})[kind] = column.name
    return {name: (kind, prefix) for prefix, pair in halves.items() if len(pair) == 2 for kind, name in pair.items()}


def _points(columns: list[Column], roles: Roles, places: dict[str, tuple[str, str]]) -> list[Proposed]:
    by_prefix: dict[str, dict[str, Column]] = {}
    for column in columns:
        if column.name in places:
            kind, prefix = places[column.name]
            by_prefix.setdefault(prefix, {})[kind] = column
    points = []
    taken = {column.ours for column in columns}
    for prefix, pair in by_prefix.items():
        is_home = bool(roles.payers) and says_only(pair["latitude"], roles.payers[0])
        name = prefix or ("home" if is_home else "place")
        name = f"{name}_point" if name in taken else name
        points.append(Proposed({"name": name} | {kind: column.ours for kind, column in pair.items()}))
    return points


def decimals(amounts: np.ndarray) -> int:
    """How many decimals the amounts have, 2 if more than 4.

    >>> decimals(np.array([1.0, 2.5, 3.125]))
    3
    """
    for count in range(5):
        scaled = amounts * 10**count
        if np.allclose(scaled, np.rint(scaled), rtol=0, atol=1e-4 * math.sqrt(10**count)):
            return count
    return 2
