"""The random sample: a small share of approved traffic that analysts look at, so that recall is known honestly.

Alerts alone tell nothing of the frauds that were no alerts. A task draws the sample from stored predictions, some
seconds after the answers: each transaction by a hash of its id and `SAMPLE_SEED`, so a repeat draws the same. What a
run drew, and how far it came, is written in one database transaction.

`SAMPLE_DAILY_LIMIT` is kept without leaving a part of the day out, which would bias every estimate. The probability is
`SAMPLE_SHARE` until half of the day's limit is drawn, then falls with the square of what is left. It depends on earlier
draws only and is never 0 before the limit, so weights of 1 / probability are unbiased. It is stored with each review.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet, Sum
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now
from django.utils import timezone

from scoring import linked, served
from scoring.decisions import Decision
from scoring.models import Prediction, Review, ReviewLink, SampledPeriod
from scoring.worker.opening import review_of

# A batch is committed a little after its predictions' `created_at`.
SETTLED = timedelta(seconds=10)
# After a standstill, older traffic is left out: it is in no period.
FURTHEST = timedelta(hours=1)
ROWS, STEPS = 10_000, 20
DAY = timedelta(days=1)


def draw() -> int:
    """Draw from the predictions since the last run. Returns how many reviews were opened."""
    if not settings.SAMPLE_SHARE:
        return 0
    opened = 0
    for _ in range(STEPS):
        drawn, is_done = _step()
        opened += drawn
        if is_done:
            break
    return opened


def probability(drawn: int) -> float:
    """The probability for the next transaction of a day of which so many were drawn."""
    left = max(0.0, 1 - drawn / settings.SAMPLE_DAILY_LIMIT)
    return float(settings.SAMPLE_SHARE * min(1.0, (2 * left) ** 2))


def place_of(key: UUID) -> float:
    """The place of a transaction in [0, 1): it is drawn if its probability is larger."""
    return int.from_bytes(sha256(f"{settings.SAMPLE_SEED}:{key}".encode()).digest()[:8]) / 2**64


@transaction.atomic
def _step() -> tuple[int, bool]:
    """Draw from the next predictions. Returns how many reviews were opened, and whether no predictions are left."""
    period, now = _period()
    if period is None:
        return 0, True
    end = min(now - SETTLED, _midnight(period.since) + DAY)
    if end <= period.until:
        return 0, True
    approved = _approved(period.until, end)
    rows = list(approved[:ROWS])
    if is_full := len(rows) == ROWS:
        # A batch shares one `created_at`: what is left of the last one is for the next step.
        last = rows[-1][1]
        rows = [row for row in rows if row[1] < last] or list(approved.filter(created_at=last))
        end = rows[-1][1]
    chosen = dict(_chosen((key for key, _ in rows), _drawn_on(period.since)))
    _open(chosen)
    SampledPeriod.objects.filter(pk=period.pk).update(until=end, drawn=period.drawn + len(chosen))
    return len(chosen), not is_full and end == now - SETTLED


def _chosen(keys: Iterator[UUID], drawn: int) -> Iterator[tuple[UUID, float]]:
    for key in keys:
        chance = probability(drawn)
        if place_of(key) < chance:
            drawn += 1
            yield key, chance


def _open(chosen: dict[UUID, float]) -> None:
    """Open a review, with its links to others, of each chosen transaction."""
    rows = Prediction.objects.filter(pk__in=list(chosen)).select_related("transaction")
    now = timezone.now()
    reviews = [review_of(row) for row in rows]
    for review in reviews:
        review.is_sample, review.sample_probability, review.opened_at = True, chosen[review.pk], now
    Review.objects.bulk_create(reviews, ignore_conflicts=True)
    schemas = served.now().schemas
    for row in rows:
        if declared := schemas.get(row.transaction.schema):
            ReviewLink.objects.bulk_create(linked.rows_of(declared, [row.transaction]), ignore_conflicts=True)


def _approved(since: datetime, until: datetime) -> QuerySet[Prediction, tuple[UUID, datetime]]:
    """What was approved after `since`, up to `until`, and has no review. What the control group let through is left
    out: it stands for alerts."""
    no_control = Q(evidence__isnull=True) | Q(evidence__control__isnull=True)
    rows = Prediction.objects.filter(no_control, decision=Decision.APPROVE, review=None)
    rows = rows.filter(created_at__gt=since, created_at__lte=until)
    return rows.order_by("created_at", "pk").values_list("pk", "created_at")


def _period() -> tuple[SampledPeriod | None, datetime]:
    """The period that goes on, locked, and the time by the database's clock. None if another run has just moved on."""
    periods = SampledPeriod.objects.order_by("-until", "-pk")
    period = periods.select_for_update().annotate(now=Now()).first()
    if period is None:
        first = _begin(Now() - SETTLED)
        return first, first.until + SETTLED
    if period.pk != periods.values_list("pk", flat=True).first():
        return None, period.now
    if period.until >= _midnight(period.since) + DAY:
        return _begin(period.until if period.until > period.now - FURTHEST else period.now - FURTHEST), period.now
    if period.until < period.now - FURTHEST:
        return _begin(period.now - FURTHEST), period.now
    return period, period.now


def _begin(since: datetime | CombinedExpression) -> SampledPeriod:
    period = SampledPeriod.objects.create(since=since, until=since)
    period.refresh_from_db()
    return period


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _drawn_on(moment: datetime) -> int:
    day = _midnight(moment)
    periods = SampledPeriod.objects.filter(since__gte=day, since__lt=day + DAY)
    return periods.aggregate(drawn=Sum("drawn"))["drawn"] or 0
