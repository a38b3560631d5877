"""Reads and validates raw files."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from training.core import stages
from training.core.datasets import columns, conversion, tables
from training.core.datasets.event_times import read_event_times
from training.core.datasets.storage import Report
from training.core.exceptions import DatasetError
from training.core.exchange.rates import NO_RATES, Rates
from training.core.schema import EVENT_TIME, RATE_STALE, TRANSACTION_ID, Schema
from training.core.schema.tokens import concealed, entity_token

SHOWN = 5  # how many ids, and rows of each, an error names


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


def read_raw(path: Path, schema: Schema, *, earliest: datetime, rates: Rates = NO_RATES) -> tuple[pd.DataFrame, int]:
    """Read the raw file of a schema. Returns the rows, sorted by time, and how many copies of an earlier row, id
    included, were left out. If the time is a feature, rows have no ids, and keep their order.

    Columns are renamed as `schema.source` says; others are left out. Entities and ids become strings. In a CSV any text
    of theirs is a value, also `NA` and `null`, unless the schema's `file` says otherwise; only an empty one is missing.
    The values become those that a web process would store, see `columns.read`; amounts in several currencies are
    converted by `rates`. For event times see `read_event_times`.

    Raises:
        DatasetError: the file cannot be read, a column is missing or of another type, a value is refused, or different
            rows have the same id; names them.
    """
    fields = {field.name: field for field in schema.features}
    times = None  # event times first: a date may not come after them
    made: dict[str, pd.Series] = {}
    for name, column in _renamed(path, schema):
        try:
            if name == EVENT_TIME:
                made[name] = times = read_event_times(column, schema, earliest=earliest)
            elif name in fields:
                made[name] = columns.read(column, fields[name], times, schema.file.dates)
            elif name == schema.label:
                made[name] = columns.read_labels(column, schema.file.fraud)
            elif name == TRANSACTION_ID:
                made[name] = column.astype("str")
            else:
                numbers, identifiers = pd.factorize(column.astype("str"))
                made[name] = columns.in_place_of(numbers, identifiers.tolist(), column.index)
        except (ValueError, TypeError) as error:
            raise DatasetError(f"Column {name}: {error}") from error
    frame = pd.DataFrame(made, copy=False)
    made.clear()
    if times is None:
        return frame, 0
    if schema.amount_currency:
        frame = conversion.converted(frame, schema, rates)
    repeated = frame[TRANSACTION_ID].duplicated(keep=False)  # only these can be copies
    copies = frame[repeated].duplicated()
    copies = copies[copies].index
    _refuse_ids_on_several(frame[TRANSACTION_ID].drop(copies))
    if copies.empty and frame[EVENT_TIME].is_monotonic_increasing:  # as most files are
        return frame, 0
    return frame.drop(copies).sort_values(EVENT_TIME, kind="stable", ignore_index=True), len(copies)


def _renamed(path: Path, schema: Schema) -> Iterator[tuple[str, pd.Series]]:
    """The columns of a raw file that the schema declares, with our names: ids and event times first, then other
    texts."""
    is_event = schema.time == EVENT_TIME
    texts_of_ours = [TRANSACTION_ID] if is_event and not schema.file.row_ids else []
    texts_of_ours += [EVENT_TIME] if is_event else []
    texts_of_ours += [*schema.identifier_names, *(field.name for field in schema.features if not field.is_number)]
    ours = [*texts_of_ours, *(field.name for field in schema.features if field.is_number), schema.label]
    theirs = {name: schema.source.get(name, name) for name in ours}
    texts = {theirs[name] for name in texts_of_ours}
    for name, column in zip(
        ours, tables.columns_of(path, schema.file, list(theirs.values()), texts=texts), strict=True
    ):
        if schema.file.row_ids and name == ours[0]:
            yield TRANSACTION_ID, pd.Series(np.arange(1, len(column) + 1))
        yield name, column


def _refuse_ids_on_several(ids: pd.Series) -> None:
    """`ids` [n] are those of different rows."""
    several = ids[ids.notna() & ids.duplicated(keep=False)]
    by_id = several.groupby(several, sort=False).groups
    if by_id:
        shown = "; ".join(
            "rows " + ", ".join(f"{row + 1}" for row in found[:SHOWN]) for found in list(by_id.values())[:SHOWN]
        )
        more = "; …" if len(by_id) > SHOWN else ""
        raise DatasetError(
            f"Column {TRANSACTION_ID}: several different rows have the same id, {len(by_id):,} times "
            f"({shown}{more}; the first row of data is row 1). Give each transaction an id of its own, or keep one row."
        )


def validate(frame: pd.DataFrame, schema: Schema, *, source_sha256: str, left_out: int = 0) -> Report:
    """Check a frame against its schema. `left_out` is the number of copies that were left out, for the report.

    Raises:
        DatasetError: there are no rows, values are missing or out of range, or labels are not 0 and 1 or all the same;
            names the columns.
    """
    if frame.empty:
        raise DatasetError("There are no rows, only column names.")
    nulls = frame.isna().sum()
    out_of_range = {
        field.name: int((~frame[field.name].between(field.lowest, field.highest)).sum() - nulls[field.name])
        for field in schema.features
        if field.is_number
    }
    labels_wrong = int((~frame[schema.label].isin([0, 1])).sum())
    optional = {field.name for field in schema.features if field.optional}
    optional |= {entity.name for entity in schema.entities if entity.optional}
    faults = [f"{name}: {count} missing" for name, count in nulls.items() if count and name not in optional]
    faults += [f"{name}: {count} out of range" for name, count in out_of_range.items() if count]
    faults += [f"{schema.label}: {labels_wrong} neither 0 nor 1"] if labels_wrong else []
    if faults:
        raise DatasetError("The data do not fit the schema: " + "; ".join(faults) + ".")
    if frame[schema.label].nunique() == 1:
        raise DatasetError(
            f"The column {schema.label} has nothing but {int(frame[schema.label].iloc[0])}: training needs frauds (1) "
            "and legitimate transactions (0)."
        )
    foreign = frame[schema.amount_currency] != schema.currency if schema.amount_currency else pd.Series(dtype=bool)
    return Report(
        schema=schema.name,
        source_sha256=source_sha256,
        rows=len(frame),
        frauds=int(frame[schema.label].sum()),
        duplicates=0 if schema.has_ids else int(frame.duplicated().sum()),
        nulls=int(nulls.sum()),
        out_of_range=sum(out_of_range.values()),
        left_out=left_out,
        converted=int(foreign.sum()),
        stale=int(frame[RATE_STALE].sum()) if schema.amount_currency else 0,
    )


def with_tokens(frame: pd.DataFrame, schema: Schema, key: str) -> pd.DataFrame:
    """The frame as it is stored: with tokens instead of its entities' identifiers and of what is concealed, made as in
    a web process with this `key`."""
    made = {}
    for entity in schema.entities:
        stages.enter(f"Making the tokens of {entity.name}")
        numbers, distinct = _numbered([frame[name] for name in entity.of or (entity.name,)])
        tokens = [entity_token(schema, entity, values, key) for values in distinct]
        made[entity.name] = columns.in_place_of(numbers, tokens, frame.index)
    for field in schema.features:
        if field.is_concealed:
            made[field.name] = frame[field.name].map(partial(concealed, schema, field, key=key), na_action="ignore")
    return frame.assign(**made)


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
