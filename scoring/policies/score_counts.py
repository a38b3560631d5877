"""Counts predictions by the hour and by bins of their score, so that no page has to read them one by one."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Case, CharField, Count, F, Q, QuerySet, TextField, Value, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce
from django.utils import timezone

from scoring.models import Prediction
from scoring.policies.bins import bin_of
from scoring.policies.evidence import Basis
from scoring.policies.models import ScoreCount

HOUR = timedelta(hours=1)
# The rows of a batch may be committed a little after their `created_at`. It is called more often than that.
LATE = timedelta(minutes=2)


class Progress(NamedTuple):
    """The hours that are counted, from `since` on, before `until`; both are None if none is. `is_whole` says whether no
    other hour has predictions, as far back as counts are kept."""

    since: datetime | None
    until: datetime | None
    is_whole: bool


def update(*, now: datetime | None = None, seconds: float = 30.0) -> int:
    """Count every hour since the last one counted, and that one again; then the hours before the first one counted, the
    latest first, as far back as counts are kept. Returns how many hours were counted.

    After so many seconds no hour is begun but the second one, so that each run gets on; the next run goes on. Counts of
    an hour are replaced, so a second run changes nothing.
    """
    now = now or timezone.now()
    give_up = monotonic() + seconds
    hours = 0
    for hours, hour in enumerate(_to_count(now), 1):
        _count(hour)
        if hours > 1 and monotonic() > give_up:
            break
    return hours


def progress(*, now: datetime | None = None) -> Progress:
    """How far the counting has come."""
    now = now or timezone.now()
    first, last = _counted().first(), _counted().last()
    left = _next_hour(last + HOUR if last else hour_of(now), now) or _hour_before(now)
    return Progress(first, last and last + HOUR, left is None)


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def grouped(rows: QuerySet[Any], of: str = "") -> Any:
    """Rows with the columns `number` (of the policy, 0 for none), `segment`, `decided` and `bin`, as in `ScoreCount`.
    `of` is the path from the rows to their predictions."""
    by_others = Q(**{f"{of}evidence__basis__in": [Basis.RULE, Basis.LIST]})
    return rows.annotate(
        number=Coalesce(F(f"{of}policy__number"), 0),
        segment=Coalesce(KeyTextTransform("segment", f"{of}evidence"), Value(""), output_field=TextField()),
        decided=Case(
            When(by_others, then=Cast(f"{of}decision", CharField())), default=Value(""), output_field=CharField()
        ),
        bin=bin_of(f"{of}fraud_score"),
    )


def _to_count(now: datetime) -> Iterator[datetime]:
    """The hours that `update` counts, in its order. Each has to be counted before the next one is asked for."""
    latest = _counted().last()
    since = hour_of(min(latest, now - LATE) if latest else now)
    while hour := _next_hour(since, now):
        yield hour
        since = hour + HOUR
    while hour := _hour_before(now):
        yield hour


def _counted() -> QuerySet[ScoreCount, datetime]:
    return ScoreCount.objects.order_by("hour").values_list("hour", flat=True)


def _next_hour(since: datetime, now: datetime) -> datetime | None:
    """The first hour with a prediction from `since` on. A worker whose clock is ahead writes rows of hours that have
    not begun: these are left for later, as counting goes on after the last hour that is counted."""
    moments = Prediction.objects.filter(created_at__gte=since, created_at__lte=now).order_by("created_at")
    first = moments.values_list("created_at", flat=True).first()
    return first and hour_of(first)


def _hour_before(now: datetime) -> datetime | None:
    """The last hour with a prediction before the first hour that is counted, of those whose counts are kept."""
    kept = hour_of(now - timedelta(days=settings.COUNTS_RETENTION_DAYS)) + HOUR
    moments = Prediction.objects.filter(created_at__gte=kept, created_at__lt=_counted().first() or hour_of(now))
    last = moments.order_by("-created_at").values_list("created_at", flat=True).first()
    return last and hour_of(last)


@transaction.atomic
def _count(hour: datetime) -> None:
    of_hour = Prediction.objects.filter(created_at__gte=hour, created_at__lt=hour + HOUR)
    keys = ("model_version", "number", "segment", "decided")
    counts: dict[tuple[Any, ...], dict[str, int]] = {}
    groups = grouped(of_hour).order_by().values_list(*keys, "bin").annotate(count=Count("*"))
    for *key, number_of_bin, count in groups:
        counts.setdefault(tuple(key), {})[str(number_of_bin)] = count
    ScoreCount.objects.bulk_create(
        # Sorted, as two runs at the same time could deadlock otherwise.
        [
            ScoreCount(hour=hour, model_version_id=model, number=number, segment=segment, decided=decided, counts=found)
            for (model, number, segment, decided), found in sorted(counts.items())
        ],
        update_conflicts=True,
        unique_fields=["hour", "model_version", "number", "segment", "decided"],
        update_fields=["counts"],
    )
