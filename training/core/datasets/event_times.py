"""Reads the event times of a raw file. Ambiguous times are refused."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from training.core.datasets.refusals import Refused
from training.core.schema import EVENT_TIME_UNITS, Schema
from training.core.schema.files import EPOCH

MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}
MICROSECONDS |= {"min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
NUMBER = r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
YEAR_FIRST = r"\d{4}(?:[-/]\d{1,2}[-/]\d{1,2}|\d{4}(?=[T ]))"
OFFSET = r"[T ].*(?:Z|[+-]\d{2}(?::?\d{2})?)\s*$"
UNDECLARED = (
    "which can be read in several ways. Write times as 2026-11-01T09:30:00Z, or declare their form in the schema: of "
    'texts as event_time_format, such as "%d/%m/%Y %H:%M", of numbers as event_time_unit, one of '
    f"{', '.join(EVENT_TIME_UNITS)} since the start of 1970 or the origin of [file]"
)
# The checks, in the order in which they are made of a whole file.
FORM_DECLARED, OFFSETS_AGREE, FORM, RANGE = range(4)


class TimesRefused(Refused):
    """Event times are refused."""

    def __str__(self) -> str:
        others = f"; and {self.count - 1:,} further rows" if self.count > 1 else ""
        return f"{self.shown[0]}, {self.remedy}{others}."


class EventTimes:
    """Reads the event times of a raw file, part by part.

    Datetimes and ISO 8601 texts, year first, are read as they are; without an offset they are UTC. Numbers need the
    schema's `event_time_unit`, and texts of any other form its `event_time_format`. Messages count rows from 1.
    """

    def __init__(self, schema: Schema, *, earliest: datetime) -> None:
        self._schema, self._earliest, self._latest = schema, earliest, datetime.now(UTC) + timedelta(days=1)
        self._some_have_offset = False
        self._without_offset: TimesRefused | None = None

    def read(self, column: pd.Series) -> pd.Series:
        """Event times as datetime64[us, UTC]. The index of `column` [n] are the numbers of its rows, from 0, and
        missing values stay missing.

        Raises:
            TimesRefused: a value has another form, or lies before `earliest` or more than a day ahead; tells the row
                and the remedy.
        """
        kind = pd.api.types.infer_dtype(column, skipna=True)
        if kind in ("datetime", "datetime64", "date"):
            times = pd.to_datetime(column, utc=True, errors="coerce")
            remedy = "a datetime"
        elif pd.api.types.is_numeric_dtype(column) and not self._schema.event_time_format:
            times, remedy = self._of_numbers(column, column)
        else:
            times, remedy = self._of_texts(column)
        _refuse(FORM, column, times.isna() & column.notna(), f"which is not {remedy}")
        times = times.astype("datetime64[us, UTC]")
        _refuse(
            RANGE,
            column,
            times.notna() & ~times.between(self._earliest, self._latest),
            f"which lies outside of {self._earliest:%Y-%m-%d} to {self._latest:%Y-%m-%d}. Correct it, or "
            "event_time_unit or event_time_format in the schema; EVENT_TIME_EARLIEST sets the first day",
            times,
        )
        return times

    def finish(self) -> None:
        """Check what only all parts tell.

        Raises:
            TimesRefused: some texts have an offset from UTC and others do not.
        """
        if self._some_have_offset and self._without_offset:
            raise self._without_offset

    def _of_texts(self, column: pd.Series) -> tuple[pd.Series, str]:
        texts = column.astype("str").str.strip()
        if form := self._schema.event_time_format:
            times = pd.to_datetime(texts, format=form, utc=True, errors="coerce")
            return times, f"of the schema's event_time_format, {form}"
        if self._schema.event_time_unit:
            texts = texts.str.replace(self._schema.file.decimal, ".", regex=False)
            return self._of_numbers(column, texts.where(texts.str.fullmatch(NUMBER).fillna(False).astype(bool)))
        _refuse(
            FORM_DECLARED, column, ~texts.str.match(YEAR_FIRST).fillna(False).astype(bool) & column.notna(), UNDECLARED
        )
        # RFC 3339 allows lower case, ISO 8601 a comma, and BigQuery writes UTC.
        texts = texts.str.upper().str.replace(",", ".").str.replace(r"\s*(UTC|GMT)$", "Z", regex=True)
        offset = texts.str.contains(OFFSET, regex=True).fillna(False).astype(bool)
        self._some_have_offset |= bool(offset.any())
        why = "which has no offset from UTC, while other rows have one. Write an offset everywhere or nowhere"
        if without := _refused(OFFSETS_AGREE, column, ~offset & column.notna(), why):
            if self._without_offset:
                self._without_offset.add(without)
            else:
                self._without_offset = without
        return pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce"), "a date and time of ISO 8601"

    def _of_numbers(self, column: pd.Series, numbers: pd.Series) -> tuple[pd.Series, str]:
        unit = self._schema.event_time_unit
        if not unit:
            _refuse(FORM_DECLARED, column, column.notna(), UNDECLARED)
        counts = pd.to_numeric(numbers, errors="coerce")
        if pd.api.types.is_integer_dtype(counts.dtype) and unit != "ns":
            fits = counts.abs() <= np.iinfo(np.int64).max // MICROSECONDS[unit]
            micros = counts.where(fits, 0) * MICROSECONDS[unit]
        else:
            exact = counts // 1000 if unit == "ns" else (counts * MICROSECONDS[unit]).round()
            fits = exact.abs() < 2.0**62
            micros = exact.where(fits, 0)
        times = pd.to_datetime(micros.astype("int64"), unit="us", utc=True, errors="coerce")
        times = times + (self._schema.file.counts_from - EPOCH)
        return times.where(fits.fillna(False).astype(bool)), f'a number of the schema\'s event_time_unit, "{unit}"'


def _refuse(check: int, column: pd.Series, wrong: pd.Series, why: str, shown: pd.Series | None = None) -> None:
    if refused := _refused(check, column, wrong, why, shown):
        raise refused


def _refused(
    check: int, column: pd.Series, wrong: pd.Series, why: str, shown: pd.Series | None = None
) -> TimesRefused | None:
    """The values that are wrong, if any."""
    rows = np.flatnonzero(wrong.to_numpy())
    if not len(rows):
        return None
    first = rows[0]
    read_as = f", read as {shown.iloc[first].isoformat()}" if shown is not None else ""
    told = f"row {column.index[first] + 1:,} has {str(column.iloc[first])[:60]}{read_as}"
    return TimesRefused(check, len(rows), [told], why)
