"""Counts traffic by the minute, into roll-ups."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Case, Count, IntegerField, Sum, Value, When
from django.db.models.functions import TruncMinute
from django.utils import timezone

from monitoring.models import LATENCY_EDGES_MS, SCORE_BINS, TrafficRollup
from scoring.models import Decision, Prediction

# The rows of a batch may be committed a little after the minute of their `created_at`.
LATE_MINUTES = 2
# After a standstill, one query counts at most this much traffic.
CHUNK = timedelta(hours=6)


def update_rollups(*, now: datetime | None = None) -> int:
    """Count every minute since the last one counted, and the last ones again. Returns how many minutes were written.

    Predictions are counted and the roll-ups replaced, so a second run changes nothing.
    """
    now = now or timezone.now()
    # A worker whose clock is ahead writes rows of future minutes; the next run must not start after them.
    counted = TrafficRollup.objects.filter(minute__lte=now).order_by("-minute").values_list("minute", flat=True)
    latest = counted.first()
    since = latest - timedelta(minutes=LATE_MINUTES) if latest else None
    written = 0
    while start := _first_minute(since):
        since = start + CHUNK
        written += _count(start, since)
    return written


def _first_minute(since: datetime | None) -> datetime | None:
    """The first minute with a prediction, from `since` on if it is given. It skips hours without traffic."""
    predictions = Prediction.objects.order_by("created_at").values_list("created_at", flat=True)
    first = (predictions.filter(created_at__gte=since) if since else predictions).first()
    return first.replace(second=0, microsecond=0) if first else None


@transaction.atomic
def _count(start: datetime, end: datetime) -> int:
    """Count the minutes in [start, end); both are whole minutes."""
    rollups: dict[tuple[datetime, str], TrafficRollup] = {}
    groups = (
        Prediction.objects.filter(created_at__gte=start, created_at__lt=end)
        .annotate(
            minute=TruncMinute("created_at"),
            score_bin=_bin("fraud_score", [i / SCORE_BINS for i in range(1, SCORE_BINS)]),
            latency_bin=_bin("latency_ms", LATENCY_EDGES_MS),
        )
        .order_by()
        .values_list("minute", "model_version__schema", "decision", "score_bin", "latency_bin")
        .annotate(count=Count("*"), latency=Sum("latency_ms"))
    )
    for minute, schema, decision, score_bin, latency_bin, count, latency in groups:
        rollup = rollups.setdefault(
            (minute, schema),
            TrafficRollup(
                minute=minute,
                schema=schema,
                transactions=0,
                challenged=0,
                reviewed=0,
                blocked=0,
                latency_sum_ms=0.0,
                latency_histogram=[0] * (len(LATENCY_EDGES_MS) + 1),
                score_histogram=[0] * SCORE_BINS,
            ),
        )
        rollup.transactions += count
        rollup.challenged += count if decision == Decision.CHALLENGE else 0
        rollup.reviewed += count if decision == Decision.REVIEW else 0
        rollup.blocked += count if decision == Decision.BLOCK else 0
        rollup.latency_sum_ms += latency
        rollup.latency_histogram[latency_bin] += count
        rollup.score_histogram[score_bin] += count
    TrafficRollup.objects.bulk_create(
        # Sorted, as two runs at the same time could deadlock otherwise.
        sorted(rollups.values(), key=lambda rollup: (rollup.minute, rollup.schema)),
        update_conflicts=True,
        unique_fields=["minute", "schema"],
        update_fields=[
            "transactions",
            "challenged",
            "reviewed",
            "blocked",
            "latency_sum_ms",
            "latency_histogram",
            "score_histogram",
        ],
    )
    return len({minute for minute, _ in rollups})


def _bin(column: str, upper_edges: tuple[float, ...] | list[float]) -> Case:
    """The bin number of a column's value, as an expression that works on every database."""
    whens = [When(**{f"{column}__lt": edge}, then=Value(i)) for i, edge in enumerate(upper_edges)]
    return Case(*whens, default=Value(len(upper_edges)), output_field=IntegerField())
