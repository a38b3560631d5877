"""Finds columns that a model had better not see: what gives the label away, constants, copies."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from training.core.card_numbers import holds_card_number, names_verification_code
from training.core.drafts.columns import Column
from training.core.drafts.fields import LIKE_CARDS, is_code
from training.core.drafts.roles import MANY, Roles

BINS = 50
GIVEN_AWAY = 0.98  # of the AUPRC of one column alone
FEW = 20
CERTAIN_ROWS = 10
PERIOD = 0.25  # of the whole time
PERIOD_ROWS = 50


@dataclass(frozen=True)
class Doubt:
    """A column, or all of the file with the name "", and what is wrong with it. Some are left out of the schema."""

    name: str
    why: str
    left_out: bool = False


def find(columns: list[Column], roles: Roles) -> list[Doubt]:
    """Find the doubts among the columns that have no role."""
    roled = {column.name for column in (roles.label, roles.amount, roles.id, *roles.entities) if column}
    others = [column for column in columns if column.name not in {*roled, roles.time.column.name}]
    found = [*_card_data(others), *_constants(others), *_copies(columns, {*roled, roles.time.column.name})]
    found += _card_numbers_as_ids([*([roles.id] if roles.id else []), *roles.entities])
    gone = {doubt.name for doubt in found}
    for column in others:
        if column.name not in gone:
            found += [Doubt(column.name, why, left_out=True) for why in _gives_away(column, roles)]
            found += [Doubt(column.name, why) for why in _lives_in_one_period(column, roles)]
    gone = {doubt.name for doubt in found if doubt.left_out}
    return [*found, *_ids_as_numbers(columns, roles, gone), *_equal_rows(columns)]


def _card_data(columns: Iterable[Column]) -> Iterable[Doubt]:
    for column in columns:
        if names_verification_code(column.name):
            yield Doubt(column.name, "is a verification code by its name, which is never stored", left_out=True)
        elif 2 * sum(map(holds_card_number, column.texts)) > column.distinct:  # some look like one by chance
            yield Doubt(column.name, LIKE_CARDS, left_out=True)


def _card_numbers_as_ids(columns: Iterable[Column]) -> Iterable[Doubt]:
    for column in columns:
        if cards := sum(map(holds_card_number, column.texts)):
            yield Doubt(
                column.name,
                f"has {cards:,} values that are card numbers or look like them, which the predict call refuses: have "
                "clients send tokens, and put the same into the file",
            )


def _constants(columns: Iterable[Column]) -> Iterable[Doubt]:
    for column in columns:
        if column.missing == column.rows:
            yield Doubt(column.name, "has no value in any row", left_out=True)
        elif column.distinct == 1 and not column.missing:
            yield Doubt(column.name, f"has the same value in all rows, {column.texts[0][:40]!r}", left_out=True)


def _ids_as_numbers(columns: Iterable[Column], roles: Roles, gone: set[str]) -> Iterable[Doubt]:
    for column in columns:
        if column in roles.entities and column.is_whole:
            yield Doubt(column.name, "is an id written as a number: an entity, and a text in requests")
        elif is_code(column) and column not in (roles.id, roles.label, roles.amount) and column.name not in gone:
            yield Doubt(column.name, "is a number that its name calls a code or an id: a category, not a quantity")


def _copies(columns: list[Column], roled: set[str]) -> Iterable[Doubt]:
    """Columns whose values are equal, whatever they are called, in all rows."""
    first: dict[bytes, Column] = {}
    for column in sorted(columns, key=lambda column: column.name not in roled):
        # Codes count values in the order of their first rows, so equal columns have equal codes.
        key = column.codes.tobytes()
        if column.distinct > 2 and key in first and first[key].texts == column.texts and column.name not in roled:
            yield Doubt(column.name, f"is equal to {first[key].name} in all rows", left_out=True)
        first.setdefault(key, column)


def _gives_away(column: Column, roles: Roles) -> Iterable[str]:
    bins = _bins(column)
    if bins is None:
        return
    rows, frauds = np.bincount(bins), np.bincount(bins, roles.labels)
    share = frauds / np.maximum(rows, 1)
    auprc = average_precision_score(roles.labels, share[bins])
    certain = (rows >= CERTAIN_ROWS) & (frauds == rows)
    if auprc >= GIVEN_AWAY:
        yield f"gives the label away: alone it has an AUPRC of {auprc:.2f}. It may be written after the fraud was known"
    elif column.distinct <= FEW and certain[1:].any():
        text = column.texts[int(np.flatnonzero(certain[1:])[0])]
        yield f"gives the label away: each row with {text[:40]!r} is fraud. It may be written after the fraud was known"
    elif any(word in column.plain_name for word in ("fraud", "betrug", "chargeback")):
        yield "is called after the label. It may be written after the fraud was known"


def _bins(column: Column) -> np.ndarray | None:
    """The number of each row's bin [n], 0 for missing values; None for texts with too many values to judge."""
    if column.distinct <= MANY:
        return column.codes + 1
    if column.numbers is None:
        return None
    found = pd.qcut(column.numbers, BINS, labels=False, duplicates="drop")
    return np.where(np.isnan(found), 0, np.nan_to_num(found) + 1).astype(np.int64)


def _lives_in_one_period(column: Column, roles: Roles) -> Iterable[str]:
    """Categories with values that only a part of the time has, though each has many rows."""
    if column.numbers is not None or column.moment is not None or not 2 <= column.distinct <= MANY:
        return
    time = roles.time.moments.astype(np.int64)
    frame = pd.DataFrame({"code": column.codes, "time": time})[column.codes >= 0]
    by_code = frame.groupby("code")["time"]
    span = by_code.max() - by_code.min()
    whole = time.max() - time.min()
    short = span.index[(span < PERIOD * whole) & (by_code.size() >= PERIOD_ROWS)]
    if len(short):
        shown = ", ".join(column.texts[code][:40] for code in short[:3])
        yield f"has values that live in one period only, such as {shown}: a model learns the period by them"


def _equal_rows(columns: list[Column]) -> list[Doubt]:
    equal = int(pd.DataFrame({column.name: column.codes for column in columns}).duplicated().sum())
    return [Doubt("", f"{equal:,} rows are equal to an earlier one in all columns")] if equal else []
