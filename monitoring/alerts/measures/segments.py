"""The share of fraud by segment of the live policy, told by scores: labels come weeks later.

Scores are calibrated probabilities, so their sum is the number of frauds to be expected. It is read from the counts of
scores by segment and hour. A segment of which nothing was counted in an hour is unknown then. The kind of these values
is a share whose numerator need not be whole.
"""

from datetime import datetime
from functools import cache

import numpy as np
from django.utils import timezone

from monitoring.alerts.measures.base import HOUR, Scope, SeriesBySubject, Subject, filled, start_of
from monitoring.alerts.series import Kind
from scoring.models import ScoreCount
from scoring.policies import bins, score_counts

# Of transactions without a segment.
REST = "no segment"


def expected_fraud(scope: Scope, since: datetime, until: datetime) -> SeriesBySubject:
    until = min(until, timezone.now()) - score_counts.LATE
    rows = ScoreCount.objects.filter(hour__gte=since, hour__lt=start_of(until, HOUR)).order_by()
    if scope.schema:
        rows = rows.filter(model_version__schema=scope.schema)
    middles = _middles()

    def of_row(counts: dict[str, int]) -> tuple[float, int]:
        places = np.fromiter(map(int, counts), int, len(counts))
        numbers = np.fromiter(counts.values(), float, len(counts))
        return float(middles[places] @ numbers), int(numbers.sum())

    by_step = (
        (Subject(schema, None, segment or REST), hour, *of_row(counts))
        for schema, segment, hour, counts in rows.values_list("model_version__schema", "segment", "hour", "counts")
    )
    return filled(by_step, since, until, HOUR, Kind.SHARE)


@cache
def _middles() -> np.ndarray:
    """The middle of each bin of scores."""
    edges = np.array([*bins.edges(), 1.0])
    return (edges[:-1] + edges[1:]) / 2
