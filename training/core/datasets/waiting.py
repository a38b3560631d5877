"""Rows of a dataset that wait on the disk while the rest of its file is read."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from training.core.schema import EVENT_TIME
from training.core.spreading import spread, spread_rows

# Of so many event times of a part, in their order, one is kept to tell how all times are distributed.
SAMPLED = 250
TIME = "datetime64[us]"
LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


class Waiting:
    """Parts of the rows, in the order of the file. The index of each are the numbers of its rows, from 0."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._starts = directory, [0]
        directory.mkdir()

    def add(self, part: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(part, preserve_index=False)
        with pa.ipc.new_file(self._directory / str(len(self._starts) - 1), table.schema, options=LZ4) as file:
            file.write_table(table)
        self._starts.append(self._starts[-1] + len(part))

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """The parts. Each is read when its turn comes."""
        for number, (start, end) in enumerate(pairwise(self._starts)):
            with pa.ipc.open_file(self._directory / str(number)) as file:
                yield file.read_pandas().set_axis(pd.RangeIndex(start, end))

    def parts_of(self, rows: pd.Series) -> np.ndarray:
        """The number of the part that has each row [n], [n] int64."""
        return np.searchsorted(self._starts, rows, side="right") - 1


class Order:
    """The order of rows by their event times; rows of the same time keep theirs."""

    def __init__(self, rows: int) -> None:
        self._rows, self._is_kept = rows, True
        self._latest = np.datetime64("NaT", "us")
        self._sampled: list[np.ndarray] = []

    def add(self, part: pd.DataFrame) -> None:
        """Take the next part of the file into account."""
        times = part[EVENT_TIME].to_numpy(TIME)
        self._is_kept &= part[EVENT_TIME].is_monotonic_increasing and not (len(times) and times[0] < self._latest)
        times = np.sort(times)
        if len(times):
            self._latest = np.fmax(self._latest, times[-1])
        self._sampled.append(times[::SAMPLED].copy())  # a view would keep all of them

    def ordered(self, parts: Iterable[pd.DataFrame], directory: Path) -> Iterator[pd.DataFrame]:
        """The rows of all parts in order, in other parts. Those that wait for their turn do so in the directory.

        Bounds are chosen of the sampled times, about `rows` rows apart. Rows between two bounds are in memory together;
        those at a bound, which may be very many, are in order as they come.
        """
        if self._is_kept:
            yield from parts
            return
        sampled = np.sort(np.concatenate(self._sampled))
        bounds = np.unique(sampled[:: max(1, self._rows // SAMPLED)])
        for part in parts:
            times = part[EVENT_TIME].to_numpy(TIME)
            numbers = np.searchsorted(bounds, times, side="left") + np.searchsorted(bounds, times, side="right")
            spread(plain(part), numbers, directory)
        for number in range(2 * len(bounds) + 1):
            waiting = (part for part, _ in spread_rows(directory / str(number)))
            if number % 2:  # at a bound
                yield from waiting
            elif between := list(waiting):
                yield pd.concat(between).sort_values(EVENT_TIME, kind="stable")


def plain(rows: pd.DataFrame) -> pa.Table:
    """Rows to be spread, with texts that stand for themselves: each file would have all texts of a category."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    types = [
        pa.field(field.name, pa.large_string() if pa.types.is_dictionary(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(types, metadata={}))
