"""Whole columns of values: reads them as `Kind.read` reads one value, and encodes them as `Schema.encode` does."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from training.core.card_numbers import holds_card_number
from training.core.datasets.refusals import SHOWN, Refused
from training.core.schema import Field, Schema
from training.core.schema.kinds import dates
from training.core.schema.kinds.kind import ValueRefused
from training.core.schema.tokens import USABLE_IDENTIFIER, is_identifier

# The checks of a column, in their order.
FORM, VALUE, TOGETHER = range(3)
FREE = ("category", "text")  # kinds of texts that are of any form
BOOLEANS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}


def read(column: pd.Series, field: Field, event_times: pd.Series | None, dates_format: str = "") -> pd.Series:
    """Read a column of a raw file, or a part of it: numbers as float64, others as texts that were read, each of which
    is in memory once; missing values are null. The index are the numbers of the rows, from 0.

    No card number is taken among texts that are stored as they stand. Numbers are not compared with their bounds here:
    `validation.counted` counts those outside. Texts of the kind date are ISO 8601, or of the `strptime` format
    `dates_format`.

    Raises:
        Refused: values are refused; names some, their rows and the remedy.
    """
    if field.kind == "boolean":
        return _read_booleans(column)
    if field.is_number:
        numbers = _read_numbers(column)
        if field.kind == "integer" and not (whole := numbers.isna() | (numbers % 1 == 0)).all():
            raise _refusal(VALUE, column, ~whole, "Give whole numbers.")
        return numbers
    if field.kind == "date" and dates_format and not pd.api.types.is_datetime64_any_dtype(column):
        column = _read_dates(column, dates_format)
    if pd.api.types.is_datetime64_any_dtype(column):
        column = column.dt.strftime("%Y-%m-%d")
    # A number, such as a merchant's category code, is the text that one would write.
    numbers, distinct = pd.factorize(column.astype("str"))
    cards = [number for number, text in enumerate(distinct) if field.kind in FREE and holds_card_number(text)]
    if cards:
        raise _refusal(VALUE, column, np.isin(numbers, cards), "Give tokens of card numbers, which are never stored.")
    known: list[float | str | None] = []
    refused: dict[int, str] = {}
    for number, text in enumerate(distinct):
        try:
            known.append(field.of_kind.read(field, text))
        except ValueRefused as error:
            known.append(None)
            refused[number] = error.remedy
    if refused:
        raise _refusal(VALUE, column, np.isin(numbers, list(refused)), next(iter(refused.values())))
    made = in_place_of(numbers, known, column.index)
    if field.kind == "date" and not field.future and event_times is not None:
        late = made.astype("str") > (event_times + dates.ZONES).dt.strftime("%Y-%m-%d")
        if late.any():
            raise _refusal(TOGETHER, column, late, "The date lies after the event. Declare future = true if it may.")
    return made


def read_identifiers(column: pd.Series) -> pd.Series:
    """Read a column of identifiers of entities, which are texts as they stand.

    Raises:
        Refused: values are none that a request could have; names some, their rows and the remedy.
    """
    numbers, texts = pd.factorize(column.astype("str"))
    if refused := [number for number, text in enumerate(texts) if not is_identifier(text)]:
        raise _refusal(VALUE, column, np.isin(numbers, refused), USABLE_IDENTIFIER)
    return in_place_of(numbers, texts.tolist(), column.index)


def in_place_of(numbers: np.ndarray, texts: Sequence[str | float | None], index: pd.Index) -> pd.Series:
    """A column of the texts with these numbers [n]. It is null for None, and for the number -1."""
    codes, distinct = pd.factorize(np.array([*texts, None], object))
    return pd.Series(pd.Categorical.from_codes(codes[numbers], distinct), index)


def read_labels(column: pd.Series, fraud: str) -> pd.Series:
    """Labels of a raw file as numbers: 1 where they are the text `fraud`, or as they are if that is empty.

    Raises:
        Refused: some are no numbers.
    """
    if not fraud:
        return _read_numbers(column)
    labels = (column.astype("str").str.strip() == fraud).astype(float)
    return labels.where(column.notna())


def _read_dates(column: pd.Series, dates_format: str) -> pd.Series:
    found = pd.to_datetime(column.astype("str").str.strip(), format=dates_format, errors="coerce")
    if (wrong := found.isna() & column.notna()).any():
        raise _refusal(FORM, column, wrong, f"Dates are written as {dates_format}, which [file] of the schema says.")
    return found


def _read_booleans(column: pd.Series) -> pd.Series:
    known = column.map(lambda value: BOOLEANS.get(str(value).lower(), math.nan), na_action="ignore").astype(float)
    if (wrong := known.isna() & column.notna()).any():
        raise _refusal(FORM, column, wrong, "Give true and false, or 1 and 0.")
    return known


def _read_numbers(column: pd.Series) -> pd.Series:
    try:
        return pd.to_numeric(column).astype(np.float64)
    except (ValueError, TypeError):
        found = pd.to_numeric(column, errors="coerce")
        wrong = found.isna() & column.notna() & (column.astype("str") != "")
        raise _refusal(FORM, column, wrong, "Give numbers.") from None


def _refusal(check: int, column: pd.Series, refused: pd.Series | np.ndarray, remedy: str) -> Refused:
    places = np.flatnonzero(refused)
    texts = [str(column.iloc[place]) for place in places[:SHOWN]]
    told = ["what looks like a card number" if holds_card_number(text) else repr(text[:40]) for text in texts]
    shown = [f"{text} in row {column.index[place] + 1}" for text, place in zip(told, places, strict=False)]
    return Refused(check, len(places), shown, remedy)


def encoded(table: pa.Table, schema: Schema) -> tuple[np.ndarray, dict[str, Mapping[float, str]]]:
    """The values of a stored dataset as `Schema.encode` encodes them, [n, len(schema.features)] float64, and what
    models learn of the texts of each category by its codes."""
    given = np.empty((table.num_rows, len(schema.features)))
    texts: dict[str, Mapping[float, str]] = {}
    for index, field in enumerate(schema.features):
        column = table[field.name]
        if field.is_number:
            given[:, index] = column.to_numpy()
            continue
        numbers, distinct = pd.factorize(column.to_pandas())
        codes = [field.of_kind.encode(text) for text in distinct]
        given[:, index] = np.array([*codes, math.nan])[numbers]  # missing ones have the number -1
        if field.is_category:
            texts[field.name] = dict(zip(codes, map(field.of_kind.learned, distinct), strict=True))
    return given, texts
