"""A file's columns, and what their values are: numbers, moments, texts."""

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import pandas as pd

from training.core.drafts import moments
from training.core.schema.files import FileForm
from training.core.schema.tokens import is_identifier

# What stands for a missing value where the others are numbers.
MISSING = {"NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "-", "--", "?", "\\N", "#N/A"}
RESERVED = {"transaction_id", "event_time", "deadline_ms", "schema"}


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the file. `values` are its distinct values, and `codes` [n] int64 the number of each row's value
    among them, -1 if it is missing. `ours` is its name in the schema."""

    name: str
    ours: str
    codes: np.ndarray
    values: pd.Series
    form: FileForm

    @property
    def distinct(self) -> int:
        return len(self.values)

    @cached_property
    def missing(self) -> int:
        """How many rows have no value."""
        return int((self.codes < 0).sum())

    @property
    def rows(self) -> int:
        return len(self.codes)

    @cached_property
    def plain_name(self) -> str:
        """The name in lower case, letters and digits alone."""
        return re.sub(r"[^a-z0-9]", "", _ascii(self.name).lower())

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the name in lower case: of `nameOrig` name and orig."""
        return tuple(re.findall(r"[a-z]+|[0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", _ascii(self.name)).lower()))

    @cached_property
    def texts(self) -> list[str]:
        """The distinct values as texts."""
        return [str(value).strip() for value in self.values]

    @cached_property
    def is_identifier(self) -> bool:
        """Whether all values can name entities."""
        return all(map(is_identifier, self.texts))

    @cached_property
    def is_bool(self) -> bool:
        """Whether its values are true and false, or 1 and 0, both of them."""
        return self.distinct == 2 and {text.lower() for text in self.texts} in BOOLEANS

    @cached_property
    def distinct_numbers(self) -> np.ndarray | None:
        """The distinct values as float64; None if one is no number."""
        if pd.api.types.is_datetime64_any_dtype(self.values) or not self.distinct:
            return None
        numbers = as_numbers(self.values, self.form)
        return None if np.isnan(numbers).any() or np.isinf(numbers).any() else numbers

    @cached_property
    def numbers(self) -> np.ndarray | None:
        """The values of all rows as float64, NaN if missing; None if one is no number."""
        if self.distinct_numbers is None:
            return None
        return np.append(self.distinct_numbers, math.nan)[self.codes]

    @cached_property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        found = self.distinct_numbers
        return found is not None and bool((found == np.rint(found)).all() and (np.abs(found) < 2**53).all())

    @cached_property
    def moment(self) -> "moments.Form | None":
        """How the values are written if all are dates or times; None if they are not."""
        if pd.api.types.is_datetime64_any_dtype(self.values):
            return moments.TYPED
        return moments.form_of(self.texts) if self.distinct_numbers is None and self.distinct else None

    def times(self, form: "moments.Form") -> np.ndarray:
        """The moments of all rows in UTC, [n] datetime64[us]; NaT if missing."""
        return np.append(moments.read(self.values, form), np.datetime64("NaT"))[self.codes]

    def names(self, words: Iterable[str]) -> bool:
        """Whether one of these words is among those of its name."""
        return bool(set(words) & set(self.words))


BOOLEANS = ({"0", "1"}, {"0.0", "1.0"}, {"true", "false"})


@cache
def grouped(decimal: str, thousands: str) -> re.Pattern[str]:
    """What numbers look like, with or without a point and what stands between thousands."""
    point, between = re.escape(decimal), re.escape(thousands)
    return re.compile(rf"[+-]?(?:\d+|[1-9]\d{{0,2}}(?:{between}\d{{3}})+)(?:{point}\d+)?")


def as_numbers(values: pd.Series, form: FileForm) -> np.ndarray:
    """Values as float64; NaN where one is no number."""
    if not pd.api.types.is_numeric_dtype(values):
        values = values.astype("str").str.strip()
        if form.thousands:  # a date such as 18.03.1978 is no number
            values = values.where(values.str.fullmatch(grouped(form.decimal, form.thousands))).str.replace(
                form.thousands, "", regex=False
            )
        if form.decimal != ".":
            values = values.str.replace(form.decimal, ".", regex=False)
    return pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def of_frame(frame: pd.DataFrame, form: FileForm) -> tuple[list[Column], FileForm]:
    """The columns of a file's rows, and its form with what stands for missing values."""
    names = [str(name) for name in frame.columns]
    found = {name: pd.factorize(frame.pop(name)) for name in names if not is_nested(frame[name])}
    values = {name: pd.Series(distinct) for name, (_, distinct) in found.items()}
    missing: set[str] = set()
    for column in values.values():
        missing |= _markers(column, form)
    form = replace(form, missing=tuple(sorted(missing)))
    ours = _our_names(list(found))
    kept = {name: _without(codes, values[name], missing) for name, (codes, _) in found.items()}
    return [Column(name, ours[name], codes, values, form) for name, (codes, values) in kept.items()], form


def is_nested(column: pd.Series) -> bool:
    """Whether the values of a column are tables or lists themselves."""
    present = column.dropna()
    return bool(len(present)) and isinstance(present.iloc[0], list | dict | np.ndarray)


def _markers(values: pd.Series, form: FileForm) -> set[str]:
    """What stands for a missing value among numbers."""
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        return set()
    strange = set(values[np.isnan(as_numbers(values, form))].astype("str"))
    return strange if strange <= MISSING and len(strange) < len(values) else set()


def _without(codes: np.ndarray, values: pd.Series, missing: set[str]) -> tuple[np.ndarray, pd.Series]:
    """Codes and distinct values without those that stand for a missing one."""
    kept = ~values.isin(missing).to_numpy() if missing and not pd.api.types.is_numeric_dtype(values) else None
    if kept is None or kept.all():
        return codes, values
    new = np.where(kept, np.cumsum(kept) - 1, -1)
    return np.append(new, -1)[codes], values[kept].reset_index(drop=True)


def _our_names(names: list[str]) -> dict[str, str]:
    """A name in the schema for each column: its own, if it is a plain word."""
    ours: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        word = re.sub(r"[^A-Za-z0-9]+", "_", _ascii(name)).strip("_") or f"column_{number}"
        word = f"{word}_{number}" if word in RESERVED or word in ours.values() else word
        ours[name] = word
    return ours


def _ascii(name: str) -> str:
    for letter, written in {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"}.items():
        name = unicodedata.normalize("NFC", name).replace(letter, written)
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
