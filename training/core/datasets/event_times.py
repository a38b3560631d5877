"""Reads the event times of a raw file. Ambiguous times are refused."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from training.core.exceptions import DatasetError
from training.core.schema import EVENT_TIME_UNITS, Schema
from training.core.schema.files import EPOCH

MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}
MICROSECONDS |= {"min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
NUMBER = r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
YEAR_FIRST = r"\d{4}(?:[-/]\d{1,2}[-/]\d{1,2}|\d{4}(?=[T ]))"
OFFSET = r"[T ].*(?:Z|[+-]\d{2}(?::?\d{2})?)\s*$"


def read_event_times(column: pd.Series, schema: Schema, *, earliest: datetime) -> pd.Series:
    """Event times as datetime64[us, UTC], with the index of `column` [n]; missing values stay missing.

    Datetimes and ISO 8601 texts, year first, are read as they are; without an offset they are UTC. Numbers need the
    schema's `event_time_unit`, and texts of any other form its `event_time_format`. Messages count rows from 1.

    Raises:
        DatasetError: a value has another form, or lies before `earliest` or more than a day ahead; names the column,
            the row and the remedy.
    """
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in ("datetime", "datetime64", "date"):
        times = pd.to_datetime(column, utc=True, errors="coerce")
        remedy = "a datetime"
    elif pd.api.types.is_numeric_dtype(column) and not schema.event_time_format:
        times, remedy = _of_numbers(column, column, schema)
    else:
        times, remedy = _of_texts(column, schema)
    _refuse(column, times.isna() & column.notna(), f"which is not {remedy}")
    times = times.astype("datetime64[us, UTC]")
    latest = datetime.now(UTC) + timedelta(days=1)
    _refuse(
        column,
        times.notna() & ~times.between(earliest, latest),
        f"which lies outside of {earliest:%Y-%m-%d} to {latest:%Y-%m-%d}. Correct it, or event_time_unit or "
        "event_time_format in the schema; EVENT_TIME_EARLIEST sets the first day",
        times,
    )
    return times


def _of_texts(column: pd.Series, schema: Schema) -> tuple[pd.Series, str]:
    texts = column.astype("str").str.strip()
    if form := schema.event_time_format:
        times = pd.to_datetime(texts, format=form, utc=True, errors="coerce")
        return times, f"of the schema's event_time_format, {form}"
    numbers = texts.str.fullmatch(NUMBER).fillna(False).astype(bool)
    if schema.event_time_unit or (numbers.any() and numbers[column.notna()].all()):
        return _of_numbers(column, texts.where(numbers), schema)
    _refuse(
        column,
        ~texts.str.match(YEAR_FIRST).fillna(False).astype(bool) & column.notna(),
        "which can be read in several ways. Write times as 2026-11-01T09:30:00Z, or declare their form in the schema, "
        'such as event_time_format = "%d/%m/%Y %H:%M" or event_time_unit = "s"',
    )
    # RFC 3339 allows lower case, ISO 8601 a comma, and BigQuery writes UTC.
    texts = texts.str.upper().str.replace(",", ".").str.replace(r"\s*(UTC|GMT)$", "Z", regex=True)
    offset = texts.str.contains(OFFSET, regex=True).where(column.notna())
    if offset.nunique() > 1:
        _refuse(
            column,
            (offset == False) & column.notna(),  # noqa: E712, an element-wise comparison
            "which has no offset from UTC, while other rows have one. Write an offset everywhere or nowhere",
        )
    return pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce"), "a date and time of ISO 8601"


def _of_numbers(column: pd.Series, numbers: pd.Series, schema: Schema) -> tuple[pd.Series, str]:
    unit = schema.event_time_unit
    if not unit:
        choices = ", ".join(f'"{name}"' for name in EVENT_TIME_UNITS)
        _refuse(
            column,
            column.notna(),
            f"a number, and nothing says what it counts. Declare event_time_unit in the schema, one of {choices} since "
            'the start of 1970 or the origin of [file], or event_time_format, such as "%Y%m%d"',
        )
    counts = pd.to_numeric(numbers, errors="coerce")
    if pd.api.types.is_integer_dtype(counts.dtype) and unit != "ns":
        fits = counts.abs() <= np.iinfo(np.int64).max // MICROSECONDS[unit]
        micros = counts.where(fits, 0) * MICROSECONDS[unit]
    else:
        exact = counts // 1000 if unit == "ns" else (counts * MICROSECONDS[unit]).round()
        fits = exact.abs() < 2.0**62
        micros = exact.where(fits, 0)
    times = pd.to_datetime(micros.astype("int64"), unit="us", utc=True, errors="coerce")
    times = times + (schema.file.counts_from - EPOCH)
    return times.where(fits.fillna(False).astype(bool)), f'a number of the schema\'s event_time_unit, "{unit}"'


def _refuse(column: pd.Series, wrong: pd.Series, why: str, shown: pd.Series | None = None) -> None:
    if wrong.any():
        rows = np.flatnonzero(wrong.to_numpy())
        value = column.iloc[rows[0]]
        read_as = f", read as {shown.iloc[rows[0]].isoformat()}" if shown is not None else ""
        others = f"; and {len(rows) - 1:,} further rows" if len(rows) > 1 else ""
        raise DatasetError(f"Column {column.name}: row {rows[0] + 1:,} has {str(value)[:60]}{read_as}, {why}{others}.")
