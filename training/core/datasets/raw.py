"""Reads and validates raw files."""

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
    frame = _renamed(path, schema)
    fields = {field.name: field for field in schema.features}
    times = None  # event times first: a date may not come after them
    for name in frame.columns:
        try:
            if name == EVENT_TIME:
                theirs_named = frame[name].rename(schema.source.get(name, name))
                frame[name] = times = read_event_times(theirs_named, schema, earliest=earliest)
            elif name in fields:
                frame[name] = columns.read(frame[name], fields[name], times, schema.file.dates)
            elif name == schema.label:
                frame[name] = columns.read_labels(frame[name], schema.file.fraud)
            else:
                frame[name] = frame[name].astype("str")
        except (ValueError, TypeError) as error:
            raise DatasetError(f"Column {name}: {error}") from error
    if times is None:
        return frame, 0
    if schema.amount_currency:
        frame = conversion.converted(frame, schema, rates)
    different = frame[~frame.duplicated()]
    _refuse_ids_on_several(different)
    rows = different.sort_values(EVENT_TIME, kind="stable", ignore_index=True)
    return rows, len(frame) - len(different)


def _renamed(path: Path, schema: Schema) -> pd.DataFrame:
    """The columns of a raw file that the schema declares, by our names: ids and event times first, then other texts."""
    is_event = schema.time == EVENT_TIME
    texts_of_ours = [TRANSACTION_ID] if is_event and not schema.file.row_ids else []
    texts_of_ours += [EVENT_TIME] if is_event else []
    texts_of_ours += [*schema.identifier_names, *(field.name for field in schema.features if not field.is_number)]
    ours = [*texts_of_ours, *(field.name for field in schema.features if field.is_number), schema.label]
    theirs = {name: schema.source.get(name, name) for name in ours}
    frame = tables.read(path, schema.file, list(theirs.values()), texts={theirs[name] for name in texts_of_ours})
    frame = frame.set_axis(ours, axis=1)
    if schema.file.row_ids:
        frame.insert(0, TRANSACTION_ID, np.arange(1, len(frame) + 1))
    return frame


def _refuse_ids_on_several(rows: pd.DataFrame) -> None:
    known = rows[rows[TRANSACTION_ID].notna()]
    by_id = known[known[TRANSACTION_ID].duplicated(keep=False)].groupby(TRANSACTION_ID, sort=False).groups
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
        duplicates=int(frame.duplicated().sum()),
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
        parts = [frame[name] for name in entity.of or (entity.name,)]
        numbers, distinct = pd.factorize(pd.MultiIndex.from_arrays(parts)) if len(parts) > 1 else pd.factorize(parts[0])
        of_each = [distinct.get_level_values(level) for level in range(len(parts))] if len(parts) > 1 else [distinct]
        tokens = [
            None if any(pd.isna(value) for value in values) else entity_token(schema, entity, values, key)
            for values in zip(*of_each, strict=True)
        ]
        made[entity.name] = pd.Series(np.array([*tokens, None], object)[numbers], frame.index)
    for field in schema.features:
        if field.is_concealed:
            made[field.name] = frame[field.name].map(partial(concealed, schema, field, key=key), na_action="ignore")
    return frame.assign(**made)
