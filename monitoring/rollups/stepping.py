"""Adds rows up by steps of time in the database."""

from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta
from math import gcd
from typing import Any

from django.db.models import IntegerField, QuerySet
from django.db.models.functions import Cast, ExtractHour, ExtractMinute, TruncDay

from monitoring.rollups.counting import DAY, MINUTE, start_of


def by_step(rows: QuerySet[Any], step: timedelta, keys: Sequence[str], **sums: Any) -> Iterator[tuple[Any, ...]]:
    """Rows that have a `start`, added up by steps and keys: the beginning of the step, the keys and the sums. What is
    read does not grow with the rows. A step that no day is a multiple of comes in parts."""
    part = gcd(step // MINUTE, DAY // MINUTE)
    hour, minute = (Cast(extract("start", tzinfo=UTC), IntegerField()) for extract in (ExtractHour, ExtractMinute))
    of_parts = rows.annotate(day=TruncDay("start", tzinfo=UTC), part=(hour * 60 + minute) / part)
    for day, number, *found in of_parts.order_by().values_list("day", "part", *keys).annotate(**sums):
        yield start_of(day + number * part * MINUTE, step), *found
