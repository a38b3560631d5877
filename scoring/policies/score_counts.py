"""Counts predictions by the hour and by bins of their score, so that no page has to read them one by one."""

from datetime import datetime, timedelta
from typing import Any

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


def update(*, now: datetime | None = None) -> int:
    """Count every hour since the last one counted, and that one again. Returns how many hours were counted.

    The counts of an hour are replaced, so a second run changes nothing.
    """
    now = now or timezone.now()
    # A worker whose clock is ahead writes rows of future hours; the next run must not start after them.
    counted = ScoreCount.objects.filter(hour__lte=now).order_by("-hour").values_list("hour", flat=True)
    latest = counted.first()
    since = latest and hour_of(min(latest, now - LATE))
    hours = 0
    while hour := _first_hour(since):
        _count(hour)
        hours += 1
        since = hour + HOUR
    return hours


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


def _first_hour(since: datetime | None) -> datetime | None:
    """The first hour with a prediction, from `since` on if it is given. It skips hours without traffic."""
    predictions = Prediction.objects.order_by("created_at").values_list("created_at", flat=True)
    first = (predictions.filter(created_at__gte=since) if since else predictions).first()
    return hour_of(first) if first else None


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
