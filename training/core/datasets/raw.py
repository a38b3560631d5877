"""Reads raw files."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from training.core.datasets import columns, conversion, tables
from training.core.datasets.event_times import EventTimes, TimesRefused
from training.core.datasets.refusals import Refusals, Refused
from training.core.exceptions import DatasetError
from training.core.exchange.rates import NO_RATES, Rates
from training.core.schema import EVENT_TIME, TRANSACTION_ID, Schema
from training.core.schema.tokens import concealed, entity_token

ROWS_AT_ONCE = 100_000


def read_csv(path: Path, schema: Schema) -> pd.DataFrame:
    """Read a CSV with the schema's features and its label, all numbers.

    Raises:
        DatasetError: there are other columns, or values that are not numbers; names them.
    """
    try:
        frame = pd.read_csv(path, engine="pyarrow")
    except (ValueError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path.name} is not a readable CSV: {error}") from error
    expected = [*schema.feature_names, schema.label]
    if list(frame.columns) != expected:
        missing, surplus = set(expected) - set(frame.columns), set(frame.columns) - set(expected)
        raise DatasetError(f"Expected the columns {expected}; missing {sorted(missing)}, surplus {sorted(surplus)}.")
    texts = [name for name in expected if not pd.api.types.is_numeric_dtype(frame[name])]
    for name in texts:
        try:
            frame[name] = pd.to_numeric(frame[name])
        except ValueError as error:
            raise DatasetError(f"Column {name}: {error}") from error
    return frame


def read_raw(
    path: Path, schema: Schema, *, earliest: datetime, rates: Rates = NO_RATES, rows: int = ROWS_AT_ONCE
) -> Iterator[pd.DataFrame]:
    """Read the raw file of a schema by so many rows at a time, or fewer. The index are the numbers of the rows, from 0.

    Columns are renamed as `schema.source` says; others are left out. Entities and ids become strings. In a CSV any text
    of theirs is a value, also `NA` and `null`, unless the schema's `file` says otherwise; only an empty one is missing.
    The values become those that a web process would store, see `columns.read`; amounts in several currencies are
    converted by `rates`. For event times see `EventTimes`. After a refused value rows are read for other ones only.

    Raises:
        DatasetError: the file cannot be read, a column is missing or of another type, or a value is refused; names
            them.
    """
    names, texts = _columns(path, schema)
    refusals, times = Refusals(), EventTimes(schema, earliest=earliest)
    for chunk in tables.chunks(path, schema.file, list(names.values()), texts=texts, rows=rows):
        frame = _read_chunk(chunk, schema, names, times, refusals)
        if frame is None:
            continue
        if schema.amount_currency:
            try:
                frame = conversion.converted(frame, schema, rates)
            except conversion.AmountsRefused as error:
                refusals.add(len(names), schema.amount, error)
        if not refusals:
            yield frame
    try:
        times.finish()
    except TimesRefused as error:
        refusals.add(list(names).index(EVENT_TIME), names[EVENT_TIME], error)
    refusals.tell()


def _columns(path: Path, schema: Schema) -> tuple[dict[str, str], set[str]]:
    """The columns of a raw file that the schema declares, by our names: ids and event times first, as a date may not
    come after them, then other texts. And those that are texts in the file."""
    is_event = schema.time == EVENT_TIME
    texts = [TRANSACTION_ID] if is_event and not schema.file.row_ids else []
    texts += [EVENT_TIME] if is_event else []
    texts += [*schema.identifier_names, *(field.name for field in schema.features if not field.is_number)]
    ours = [*texts, *(field.name for field in schema.features if field.is_number), schema.label]
    texts += [schema.label] if schema.file.fraud and not tables.is_typed(path) else []
    return {name: schema.source.get(name, name) for name in ours}, {schema.source.get(name, name) for name in texts}


def _read_chunk(
    chunk: pd.DataFrame, schema: Schema, names: Mapping[str, str], times: EventTimes, refusals: Refusals
) -> pd.DataFrame | None:
    """The columns with our names and values. None if some are refused, which are added to `refusals`."""
    fields = {field.name: field for field in schema.features}
    made: dict[str, pd.Series] = {}
    if schema.file.row_ids and EVENT_TIME in names:
        made[TRANSACTION_ID] = pd.Series(chunk.index + 1, chunk.index).astype("str")
    for place, (name, theirs) in enumerate(names.items()):
        column = chunk[theirs]
        try:
            if name == EVENT_TIME:
                made[name] = times.read(column)
            elif name in fields:
                made[name] = columns.read(column, fields[name], made.get(EVENT_TIME), schema.file.dates)
            elif name == schema.label:
                made[name] = columns.read_labels(column, schema.file.fraud)
            elif name == TRANSACTION_ID:
                made[name] = column.astype("str")
            else:
                made[name] = columns.read_identifiers(column)
        except Refused as error:
            refusals.add(place, theirs if name == EVENT_TIME else name, error)
            return None
        except (ValueError, TypeError) as error:
            raise DatasetError(f"Column {name}: {error}") from error
    return pd.DataFrame(made, copy=False)


def with_tokens(frame: pd.DataFrame, schema: Schema, key: str) -> pd.DataFrame:
    """The frame as it is stored: with tokens instead of its entities' identifiers and of what is concealed, made as in
    a web process with this `key`."""
    made = {}
    for entity in schema.entities:
        numbers, distinct = _numbered([frame[name] for name in entity.of or (entity.name,)])
        tokens = [entity_token(schema, entity, values, key) for values in distinct]
        made[entity.name] = columns.in_place_of(numbers, tokens, frame.index)
    for field in schema.features:
        if field.is_concealed:
            make, column = partial(concealed, schema, field, key=key), frame[field.name]
            made[field.name] = (
                _concealed_numbers(column, make) if field.is_number else column.map(make, na_action="ignore")
            )
    return frame.assign(**made)


def _concealed_numbers(column: pd.Series, make: Callable[[float], float | str]) -> pd.Series:
    """What is stored in place of numbers, made once of each: 0 and -0 are two."""
    numbers, distinct = pd.factorize(column.to_numpy().view(np.int64))
    made = [value if math.isnan(value) else make(value) for value in distinct.view(np.float64).tolist()]
    return pd.Series(np.array(made, np.float64)[numbers], column.index)


def _numbered(parts: Sequence[pd.Series]) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """The number of each row [n], equal where all parts are equal, and -1 where one is missing; and the values of the
    parts, by number."""
    numbers, first = pd.factorize(parts[0])
    distinct: list[tuple[str, ...]] = [(value,) for value in first]
    for part in parts[1:]:
        further, values = pd.factorize(part)
        pairs = np.where((numbers < 0) | (further < 0), -1, numbers * len(values) + further)
        numbers = np.full(len(pairs), -1)
        numbers[pairs >= 0], found = pd.factorize(pairs[pairs >= 0])
        distinct = [(*distinct[pair // len(values)], values[pair % len(values)]) for pair in found.tolist()]
    return numbers, distinct
