"""Finds rows that come again anywhere in a file, with a part of its rows in memory."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from training.core.datasets.validation import Counts, counted
from training.core.datasets.waiting import Waiting, plain
from training.core.exceptions import DatasetError
from training.core.schema import TRANSACTION_ID, Schema
from training.core.spreading import spread, spread_rows

PORTIONS = 64  # in which hashes, and the rows whose hash comes again, are looked at
SHOWN = 5  # how many ids, and rows of each, an error names
ROW, HASH = "number of the row", "hash of the row"  # no column is named so


class Repeated:
    """Rows with the same id or, in a schema without ids, with the same values. `directory` keeps what is known of them.

    After `find`, `count` is the number of copies: rows that equal an earlier one in every column, id included; `counts`
    is what `validation.counted` finds in them.
    """

    def __init__(self, schema: Schema, directory: Path) -> None:
        self._schema, self._directory = schema, directory
        self.count, self.counts = 0, Counts()
        self._ids = 0
        self._shown: list[list[int]] = []
        directory.mkdir()

    def add(self, part: pd.DataFrame) -> None:
        """Note the hashes of the rows of a part."""
        if self._schema.file.row_ids and self._schema.has_ids:
            return  # each row has an id of its own
        if self._schema.has_ids:
            hashes = pd.util.hash_pandas_object(part[TRANSACTION_ID], index=False)
        else:
            numbers = part.select_dtypes("float")  # in which 0 and -0 are equal
            hashes = pd.util.hash_pandas_object(part.assign(**(numbers + 0.0)), index=False)
        spread(pa.table({HASH: hashes, ROW: part.index}), hashes % PORTIONS, self._directory / "hashes")

    def find(self, waiting: Waiting) -> None:
        """Find the copies among the rows.

        Raises:
            DatasetError: different rows have the same id; names the rows.
        """
        for hashes in self._portions("hashes"):
            again = hashes[hashes[HASH].duplicated(keep=False)]
            if len(again):
                spread(again, waiting.parts_of(again[ROW]), self._directory / "suspects")
        if not (self._directory / "suspects").exists():
            return
        for number, part in enumerate(waiting):
            suspects = self._all("suspects", number)
            if len(suspects):
                suspects = suspects.sort_values(ROW)
                rows = part.loc[suspects[ROW]].assign(**{ROW: suspects[ROW].to_numpy()})
                spread(plain(rows), suspects[HASH] % PORTIONS, self._directory / "rows")
        for rows in self._portions("rows"):
            self._compare(rows, waiting)
        self._refuse()

    def without(self, part: pd.DataFrame, number: int) -> pd.DataFrame:
        """The rows of the part with this number that are no copies."""
        copies = self._all("copies", number)
        return part.drop(copies[ROW]) if len(copies) else part

    def _compare(self, rows: pd.DataFrame, waiting: Waiting) -> None:
        values = rows.drop(columns=ROW)
        is_copy = values.duplicated()
        self.count += int(is_copy.sum())
        if not self._schema.has_ids:
            return
        if is_copy.any():
            self.counts.update(counted(values[is_copy], self._schema))
            copies = rows.loc[is_copy, [ROW]]
            spread(copies, waiting.parts_of(copies[ROW]), self._directory / "copies")
        others = rows[~is_copy & rows[TRANSACTION_ID].notna()]
        several = others[others[TRANSACTION_ID].duplicated(keep=False)]
        groups = [found.tolist() for _, found in several.groupby(TRANSACTION_ID, sort=False)[ROW]]
        self._ids += len(groups)
        self._shown = sorted([*self._shown, *(rows[:SHOWN] for rows in groups)])[:SHOWN]

    def _refuse(self) -> None:
        if self._ids:
            shown = "; ".join("rows " + ", ".join(f"{row + 1}" for row in rows) for rows in self._shown)
            more = "; …" if self._ids > SHOWN else ""
            raise DatasetError(
                f"Column {TRANSACTION_ID}: several different rows have the same id, {self._ids:,} times "
                f"({shown}{more}; the first row of data is row 1). Give each transaction an id of its own, or keep one "
                "row."
            )

    def _portions(self, name: str) -> Iterator[pd.DataFrame]:
        found = (self._all(name, number) for number in range(PORTIONS))
        return (rows for rows in found if len(rows))

    def _all(self, name: str, number: int) -> pd.DataFrame:
        found = [rows for rows, _ in spread_rows(self._directory / name / str(number))]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()
