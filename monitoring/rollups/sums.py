"""Longer spans of refused calls, of rules and of decided reviews, from their counts by the minute or from their rows.

Web processes and workers add to these counts a few seconds late, and later while the database is away; a decision can
be taken back. So each run adds up the last hours again, and once an hour the last two days; after a standstill, all
since the last hour that is there.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Max, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce

from monitoring.rollups.counting import ALL_CLIENTS, DAY, EPOCH, HOUR, start_of
from monitoring.rollups.models import RefusalRollup, ReviewRollup, RuleRollup, Span
from monitoring.rollups.stepping import by_step
from scoring.models import RefusalCount, RefusalOfClientCount, Review, RuleCount, RuleOfClientCount
from scoring.retention import periods

LATE = timedelta(days=2)
WRITTEN_AT_ONCE = 500


class Source(NamedTuple):
    """Rows with their moment in the column `at`, and the keys of their roll-ups as expressions."""

    model: Any
    at: str
    keys: dict[str, Any]


class Kind(NamedTuple):
    """Roll-ups, what they are added up from, and the columns with their sums over the rows of a source."""

    rollups: Any
    sources: tuple[Source, ...]
    columns: dict[str, Any]

    @property
    def keys(self) -> list[str]:
        return list(self.sources[0].keys)

    def oldest_whole(self, now: datetime) -> datetime:
        """The first midnight from which on no rows have been deleted. Reviews go with their predictions, which are
        older: by the time that is left for labels, at most."""
        if self.rollups is ReviewRollup:
            since = periods.complete_since()
            deleted = since + timedelta(days=settings.LABEL_MATURITY_DAYS) if since else EPOCH
        else:
            deleted = now - timedelta(days=settings.COUNTS_RETENTION_DAYS)
        return start_of(deleted, DAY) + DAY


def _summed(*columns: str) -> dict[str, Any]:
    return {column: Sum(column) for column in columns}


_REVIEW = {
    "schema": F("schema"),
    "analyst": Coalesce(F("reviewer_id"), Value(0)),
    "state": F("state"),
    "is_sample": F("is_sample"),
    "by_default": F("decided_by_default"),
}
_OF_ALL, _OF_CLIENT = {"client": Value(ALL_CLIENTS)}, {"client": F("client")}
_REFUSAL = {"status": F("status"), "kind": F("kind")}
_RULE = {"schema": F("policy__schema"), "policy": F("policy__number"), "rule": F("rule")}
KINDS = (
    Kind(
        RefusalRollup,
        (
            Source(RefusalCount, "minute", _OF_ALL | _REFUSAL),
            Source(RefusalOfClientCount, "minute", _OF_CLIENT | _REFUSAL),
        ),
        _summed("count"),
    ),
    Kind(
        RuleRollup,
        (Source(RuleCount, "minute", _OF_ALL | _RULE), Source(RuleOfClientCount, "minute", _OF_CLIENT | _RULE)),
        _summed("decided", "matched", "absent", "failed"),
    ),
    Kind(
        ReviewRollup,
        (
            Source(Review, "closed_at", _OF_ALL | _REVIEW),
            Source(Review, "closed_at", {"client": F("client_id")} | _REVIEW),
        ),
        {"decided": Count("*")},
    ),
)


def update(*, since: datetime | None, now: datetime) -> None:
    """Add up all spans since an hour before a moment; without one those of the last two days. In any case all since the
    last hour that is added up, at first all that are whole."""
    for kind in KINDS:
        last = kind.rollups.objects.filter(span=Span.HOUR, start__lte=now).aggregate(last=Max("start"))["last"]
        lacking = max(last or EPOCH, kind.oldest_whole(now))
        _add_up(kind, start_of(min(since - HOUR if since else now - LATE, lacking), HOUR), now=now)


def rebuild(start: datetime, end: datetime, *, even_if_fewer: bool = False, now: datetime) -> None:
    """Add up the spans of [start, end) again, as far back as both rows and hours are still kept whole. One of which no
    counts are left keeps what it has, unless `even_if_fewer`."""
    hours_kept = start_of(now - timedelta(days=settings.ROLLUP_HOURS_DAYS), DAY) + DAY
    for kind in KINDS:
        since = start_of(max(start, kind.oldest_whole(now), hours_kept), HOUR)
        _add_up(kind, since, end, empties=even_if_fewer, now=now)


def merge_back(day: datetime, *, now: datetime) -> None:
    """Add up the quarters and thirds of a day, as far as the rows and hours that they are made of are kept whole."""
    for kind in KINDS:
        _merge_hours(kind, Span.THIRD, day, day + DAY)
        if day >= max(kind.oldest_whole(now), now - timedelta(days=settings.ROLLUP_MINUTES_DAYS)):
            _count(kind, Span.QUARTER, day, day + DAY)


def _add_up(kind: Kind, start: datetime, end: datetime | None = None, *, empties: bool = False, now: datetime) -> None:
    # The only decision of an hour may be taken back. Counts by the minute are never: where none is, they were deleted.
    empties = empties or kind.rollups is ReviewRollup
    emptied_from = max(start, kind.oldest_whole(now)) if empties else None
    with transaction.atomic():
        for span, parts in Span.longer():
            if parts == Span.MINUTE:
                _count(kind, span, start, end, emptied_from)
            else:
                _merge_hours(kind, span, start, end, emptied_from)


def _count(kind: Kind, span: Span, start: datetime, end: datetime | None, emptied_from: datetime | None = None) -> None:
    """Add up rows."""
    parts = []
    for model, at, keys in kind.sources:
        of_time = {f"{at}__gte": start} | ({f"{at}__lt": end} if end else {})
        rows = model.objects.filter(**of_time).annotate(start=F(at))
        parts.append(_summed_rows(rows, span, keys, kind.columns))
    _replace(kind, span, chain(*parts), emptied_from, end)


def _merge_hours(
    kind: Kind, span: Span, start: datetime, end: datetime | None, emptied_from: datetime | None = None
) -> None:
    """Add up hours to the longer spans that [start, end) has a part of."""
    of_hours = kind.rollups.objects.filter(span=Span.HOUR, start__gte=start_of(start, span.length))
    if end:
        of_hours = of_hours.filter(start__lt=start_of(end - timedelta.resolution, span.length) + span.length)
    keys, sums = ({name: of(name) for name in names} for names, of in ((kind.keys, F), (kind.columns, Sum)))
    _replace(kind, span, _summed_rows(of_hours, span, keys, sums), emptied_from, end)


def _summed_rows(rows: QuerySet[Any], span: Span, keys: dict[str, Any], columns: dict[str, Any]) -> Iterator[Any]:
    """Rows that have a `start`, added up: the beginning of their span, their keys and their sums."""
    named = rows.annotate(**{f"key_{name}": expression for name, expression in keys.items()})
    sums = {f"sum_{name}": expression for name, expression in columns.items()}
    return by_step(named, span.length, [f"key_{name}" for name in keys], **sums)


def _replace(
    kind: Kind,
    span: Span,
    rows: Iterable[tuple[Any, ...]],
    emptied_from: datetime | None = None,
    end: datetime | None = None,
) -> None:
    """Write sums in place of those of the same spans. A span without counts keeps what it has, unless it is one that
    [emptied_from, end) has a part of."""
    names = [*kind.keys, *kind.columns]
    made = [kind.rollups(span=span, start=start, **dict(zip(names, found, strict=True))) for start, *found in rows]
    if not made and not emptied_from:
        return
    replaced = Q(start__in={row.start for row in made})
    if emptied_from:
        replaced |= Q(start__gte=start_of(emptied_from, span.length), **({"start__lt": end} if end else {}))
    kind.rollups.objects.filter(replaced, span=span).delete()
    kind.rollups.objects.bulk_create(made, batch_size=WRITTEN_AT_ONCE)
