"""Spreads rows over files on the disk, from which those that belong together are read again."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa


def spread(rows: pd.DataFrame | pa.Table, numbers: np.ndarray | pd.Series, directory: Path) -> None:
    """Append rows to the files with their numbers [n]. Each file keeps their order."""
    numbers = np.asarray(numbers)
    if not len(numbers):
        return
    order = np.argsort(numbers, kind="stable")
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
    table, numbers = table.take(order), numbers[order]
    starts = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]]))
    directory.mkdir(exist_ok=True)
    for start, end in pairwise([*starts.tolist(), len(numbers)]):
        with open(directory / str(numbers[start]), "ab") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table.slice(start, end - start))


def spread_rows(path: Path) -> Iterator[tuple[pd.DataFrame, bool]]:
    """What was appended to a file, if anything, in the same order, and whether more follows."""
    if path.exists():
        with path.open("rb") as file:
            while file.peek(1):
                yield pa.ipc.open_stream(file).read_pandas(), bool(file.peek(1))
