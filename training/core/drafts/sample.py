"""Reads a bounded part of a file of any size, by which the file can be judged."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from training.core.datasets import tables
from training.core.drafts import columns
from training.core.exceptions import DatasetError
from training.core.schema.files import FileForm

BLOCKS = 64  # of rows, at most; of a longer file at least half of them
STRANGE = 5  # different texts, of each column
ROW = "\0number of the row"


def read(path: Path, form: FileForm, values: int) -> tuple[pd.DataFrame, int]:
    """Read about so many values of a file: whole blocks of rows, evenly spread over it. Returns the rows, and how many
    the file has.

    If that is not all of it, there are some more rows: of each column the first one without a value, the least and the
    greatest number or time, the longest text, and the first different texts. So ranges and what may be missing are
    those of the whole file, and a value that is no number among numbers is seen.

    Raises:
        DatasetError: the file cannot be read, or has no rows.
    """
    first = next((block for block in tables.blocks(path, form, 1) if block.num_rows and block.num_columns), None)
    if first is None:
        raise DatasetError(f"{path} has no rows, or no columns: there is nothing to draft from.")
    block_rows = max(1, values // first.num_columns // BLOCKS)
    kept: list[pa.Table] = []
    telling: list[pa.Table] = []
    rows, every = 0, 1
    for number, block in enumerate(filter(len, tables.blocks(path, form, block_rows))):
        numbered = block.append_column(ROW, pa.array(np.arange(rows, rows + len(block))))
        rows += len(block)
        dropped = [numbered] if number % every else []
        kept += [] if dropped else [numbered]
        if len(kept) > BLOCKS:
            dropped += kept[1::2]
            kept, every = kept[::2], 2 * every
        if dropped:
            telling = [_telling(_joined([*telling, *dropped]), form)]
    frame = _joined([*kept, *telling]).to_pandas(ignore_metadata=True)
    return frame.sort_values(ROW, ignore_index=True).drop(columns=ROW), rows


def _joined(parts: list[pa.Table]) -> pa.Table:
    """Rows whose columns may be missing in some parts, or have no values there."""
    return pa.concat_tables(parts, promote_options="permissive")


def _telling(table: pa.Table, form: FileForm) -> pa.Table:
    """The rows that tell most of each column."""
    found: set[int] = set()
    for name in table.column_names:
        column = table[name].to_pandas()
        if name == ROW or columns.is_nested(column):
            continue
        found.update(np.flatnonzero(column.isna())[:1].tolist())
        is_time = pd.api.types.is_datetime64_any_dtype(column)
        order = column.astype("int64").where(column.notna()) if is_time else pd.Series(columns.as_numbers(column, form))
        present = order[np.isfinite(order)]
        found.update([int(present.idxmin()), int(present.idxmax())] if len(present) else [])
        texts = column[column.notna() & ~np.isfinite(order)].astype("str")
        found.update(texts.drop_duplicates().index[:STRANGE].tolist())
        found.update([int(texts.str.len().idxmax())] if len(texts) else [])
    return table.take(sorted(found))
