"""Finds out how dates and times are written."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from training.core.datasets.event_times import YEAR_FIRST

SAMPLE = 2_000
DAYS = [f"%{first}{mark}%{second}{mark}%{year}" for mark in "./-" for first, second in ("dm", "md") for year in "Yy"]
DAYS += [f"%d{mark}%b{mark}%{year}" for mark in "./- " for year in "Yy"]  # 31-Jan-2026
CLOCKS = ["", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p"]


@dataclass(frozen=True)
class Form:
    """How a column's moments are written: datetimes of the file's own type, texts of ISO 8601, or texts of a `strptime`
    format. `other` is a second format that all of them fit, with day and month exchanged. `has_clock` says whether they
    have a time of the day."""

    format: str = ""
    is_iso: bool = False
    other: str = ""
    has_clock: bool = True


TYPED = Form()


def form_of(texts: list[str]) -> Form | None:
    """The form of texts that are all dates or times; None if they are not."""
    column = pd.Series(texts)
    if column.head(SAMPLE).str.match(YEAR_FIRST).all():
        if _fits(column, "ISO8601"):
            return Form(is_iso=True, has_clock=bool(column.str.contains(":").any()))
        return None
    if not column.head(SAMPLE).str.match(r"\d{1,2}(?:[./-]\d{1,2}[./-]|[./ -][A-Za-z]{3}[./ -])\d{2}").all():
        return None
    candidates = [day + clock for day, clock in product(DAYS, CLOCKS) if _fits(column.head(SAMPLE), day + clock)]
    fitting = [form for form in candidates if _fits(column, form)]
    if not fitting:
        return None
    return Form(format=fitting[0], other="".join(fitting[1:2]), has_clock="%H" in fitting[0] or "%I" in fitting[0])


def _fits(texts: pd.Series, form: str) -> bool:
    return bool(pd.to_datetime(texts, format=form, errors="coerce", utc=True).notna().all())


def read(values: pd.Series, form: Form) -> np.ndarray:
    """The moments in UTC, [n] datetime64[us]."""
    if form.is_iso or form.format:
        values = values.astype("str").str.strip()
    found = pd.to_datetime(values, format=form.format or ("ISO8601" if form.is_iso else None), utc=True)
    return found.dt.tz_localize(None).to_numpy("datetime64[us]")
