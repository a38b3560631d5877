"""The row of years, months or days above a list of the admin, for tables that grow without end.

Django's own asks the database for all distinct months of a list's rows, which reads the whole table. Here they are all
those from the first row to the last, which an index knows.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any, cast

from django.contrib.admin.views.main import ChangeList
from django.utils import timezone


class Periods:
    """Stands for a list, and for its rows, where the tag `date_hierarchy` of Django asks for them."""

    def __init__(self, changes: ChangeList) -> None:
        self.date_hierarchy = cast(str, changes.date_hierarchy)
        self.model = changes.model
        self.params = changes.params
        self.get_query_string = changes.get_query_string
        self._rows = changes.root_queryset

    @property
    def queryset(self) -> "Periods":
        return self

    def aggregate(self, **_: Any) -> dict[str, datetime | None]:
        """The moments of the first row and of the last."""
        field = self.date_hierarchy
        # Two queries, as SQLite reads the whole index for both in one.
        moments = self._rows.exclude(**{field: None}).values_list(field, flat=True)
        return {"first": moments.order_by(field).first(), "last": moments.order_by(f"-{field}").first()}

    def datetimes(self, _: str, kind: str) -> list[date]:
        """The first days of the years or months in question, or the days, that have rows before and after them."""
        ends = self.aggregate()
        if ends["first"] is None or ends["last"] is None:
            return []
        # The year after 9998 has no end in Python, and no filter takes it.
        first, last = (min(timezone.localtime(ends[end]).date(), date(9998, 12, 31)) for end in ("first", "last"))
        return [day for day in self._starts(kind, first, last) if self._is_asked_for(day)]

    def _starts(self, kind: str, first: date, last: date) -> Iterator[date]:
        day = first
        while day <= last:
            yield day
            later = {
                "year": date(day.year + 1, 1, 1),
                "month": (day.replace(day=1) + timedelta(days=31)).replace(day=1),
            }
            day = later.get(kind, day + timedelta(days=1))

    def _is_asked_for(self, day: date) -> bool:
        asked = {part: self.params.get(f"{self.date_hierarchy}__{part}") for part in ("year", "month")}
        return all(value is None or getattr(day, part) == int(value) for part, value in asked.items())
