"""Hours and days of refused calls, of rules and of decided reviews, from their counts by the minute or from their rows.

Web processes and workers add to these counts a few seconds late, and later while the database is away; a decision can
be taken back. So each run adds up the last hours again, and once an hour the last two days.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Sum, Value
from django.db.models.functions import Coalesce, TruncDay, TruncHour

from monitoring.rollups.counting import ALL_CLIENTS, DAY, EPOCH, HOUR, start_of
from monitoring.rollups.models import RefusalRollup, ReviewRollup, RuleRollup, Span
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
    """Add up the hours and days since an hour before a moment; the last two days, or at first all, without one."""
    for kind in KINDS:
        whole = now - LATE if kind.rollups.objects.exists() else kind.oldest_whole(now)
        _add_up(kind, start_of(since - HOUR if since else whole, HOUR))


def rebuild(start: datetime, end: datetime, *, now: datetime) -> None:
    """Add up the hours and days of [start, end) again, as far back as both rows and hours are still kept whole."""
    hours_kept = start_of(now - timedelta(days=settings.ROLLUP_HOURS_DAYS), DAY) + DAY
    for kind in KINDS:
        _add_up(kind, start_of(max(start, kind.oldest_whole(now), hours_kept), HOUR), end)


def _add_up(kind: Kind, start: datetime, end: datetime | None = None) -> None:
    with transaction.atomic():
        _replace(kind.rollups, Span.HOUR, chain(*(_hours(source, kind.columns, start, end) for source in kind.sources)))
        first_day = start_of(start, DAY)
        of_hours = kind.rollups.objects.filter(span=Span.HOUR, start__gte=first_day)
        of_hours = of_hours.filter(start__lt=start_of(end - timedelta.resolution, DAY) + DAY) if end else of_hours
        keys = {f"key_{name}": F(name) for name in kind.sources[0].keys}
        days = of_hours.annotate(begin=TruncDay("start", tzinfo=UTC), **keys).order_by().values("begin", *keys)
        _replace(kind.rollups, Span.DAY, days.annotate(**{f"sum_{column}": Sum(column) for column in kind.columns}))


def _hours(source: Source, columns: dict[str, Any], start: datetime, end: datetime | None) -> Iterable[dict[str, Any]]:
    of_time = {f"{source.at}__gte": start} | ({f"{source.at}__lt": end} if end else {})
    keys = {f"key_{name}": expression for name, expression in source.keys.items()}
    begin = TruncHour(source.at, tzinfo=UTC)
    rows = source.model.objects.filter(**of_time).annotate(begin=begin, **keys).order_by().values("begin", *keys)
    return rows.annotate(**{f"sum_{column}": expression for column, expression in columns.items()})


def _replace(rollups: Any, span: Span, rows: Iterable[dict[str, Any]]) -> None:
    """Write sums in place of those of the same hours or days. An hour without counts keeps what it has."""
    made = [
        rollups(
            span=span,
            start=row.pop("begin"),
            **{name.removeprefix("key_").removeprefix("sum_"): value for name, value in row.items()},
        )
        for row in rows
    ]
    rollups.objects.filter(span=span, start__in={row.start for row in made}).delete()
    rollups.objects.bulk_create(made, batch_size=WRITTEN_AT_ONCE)
