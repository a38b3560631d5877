"""Refused values of a file that is read by parts: those of all parts make one error, as if it were read as a whole."""

from collections.abc import Sequence
from typing import Self

from training.core.exceptions import DatasetError

SHOWN = 3  # refused values that an error names


class Refused(ValueError):
    """Values of a column are refused. `check` is the number of the check that they failed, in the order in which a
    column's are made, `shown` the first of the `count` values, with their rows."""

    def __init__(self, check: int, count: int, shown: Sequence[str], remedy: str) -> None:
        super().__init__(remedy)
        self.check, self.count, self.shown, self.remedy = check, count, list(shown), remedy

    def add(self, later: Self) -> None:
        """Add what failed the same check in a later part of the column."""
        self.count += later.count
        self.shown = (self.shown + later.shown)[:SHOWN]

    def __str__(self) -> str:
        more = "; …" if self.count > len(self.shown) else ""
        return f"{self.count:,} values are refused ({', '.join(self.shown)}{more}). {self.remedy}"


class Refusals:
    """What was refused so far: only of the first column, and there of the first check, as no other would be made."""

    def __init__(self) -> None:
        self._key: tuple[int, int] | None = None
        self._column, self._refused = "", Refused(0, 0, [], "")

    def __bool__(self) -> bool:
        return self._key is not None

    def add(self, place: int, column: str, refused: Refused) -> None:
        """Add those of the column with this place among the columns."""
        key = (place, refused.check)
        if key == self._key:
            self._refused.add(refused)
        elif self._key is None or key < self._key:
            self._key, self._column, self._refused = key, column, refused

    def tell(self) -> None:
        """
        Raises:
            DatasetError: something was refused.
        """
        if self:
            raise DatasetError(f"Column {self._column}: {self._refused}")
