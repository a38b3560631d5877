"""Decided cases whose scores were made in the same way, and what became of them.

Cases are near if the contributions of the model's inputs are: all are in logits, so no input has to be scaled, and what
did not matter to the score does not matter here (S. Lundberg, G. Erion and S. Lee, Consistent Individualized Feature
Attribution for Tree Ensembles, 2018, section "supervised clustering"). The distance is Euclidean, over the latest
`CASE_SIMILAR_SEARCHED` decided cases of the schema.
"""

from datetime import datetime
from math import dist
from typing import NamedTuple

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import TextField
from django.db.models.functions import Cast

from scoring.messages.explanation import Explanation
from scoring.models import Prediction, Review
from scoring.reviews import second_opinions
from scoring.tenancy import restriction

SHOWN = 5
REASONS = 3


class Similar(NamedTuple):
    """A decided case. `distance` is in logits, and `reasons` are what raised both scores most."""

    review: Review
    distance: float
    reasons: list[str]


def find(review: Review, viewer: User, before: datetime | None = None) -> list[Similar]:
    """The nearest decided cases, the nearest first; none if no contributions are stored with this one. Those on which
    the viewer may give a second opinion are left out, and with `before` those that were decided later."""
    own = (review.prediction.explanation or {}).get("contributions")
    if not own:
        return []
    # PostgreSQL would otherwise begin with the open ones, which have no such time, and read them all.
    decided = Review.objects.exclude(state=Review.State.OPEN).exclude(pk=review.pk).filter(closed_at__isnull=False)
    decided = decided.filter(schema=review.prediction.transaction.schema)  # the review's own copy, which joins nothing
    decided = restriction.visible(decided.filter(closed_at__lt=before) if before else decided, viewer)
    keys = list(decided.order_by("-closed_at").values_list("pk", flat=True)[: settings.CASE_SIMILAR_SEARCHED])
    hidden = second_opinions.hidden_among(viewer, keys)
    keys = [key for key in keys if key not in hidden]
    # As text, which msgspec reads several times as fast as Django.
    told = Prediction.objects.filter(pk__in=keys, explanation__isnull=False).annotate(
        told=Cast("explanation", TextField())
    )
    others = {
        key: msgspec.json.decode(text, type=Explanation).contributions for key, text in told.values_list("pk", "told")
    }
    names = sorted(set(own).union(*others.values()))
    here = [own.get(name, 0.0) for name in names]
    distances = [(dist(here, [theirs.get(name, 0.0) for name in names]), key, theirs) for key, theirs in others.items()]
    nearest = sorted(distances, key=lambda each: each[0])[:SHOWN]
    rows = Review.objects.select_related("prediction__transaction", "reviewer").in_bulk([key for _, key, _ in nearest])
    return [Similar(rows[key], distance, _shared(own, theirs)) for distance, key, theirs in nearest if key in rows]


def _shared(one: dict[str, float], other: dict[str, float]) -> list[str]:
    both = {name: min(added, other.get(name, 0.0)) for name, added in one.items()}
    raised = sorted((name for name, added in both.items() if added > 0), key=both.__getitem__, reverse=True)
    return raised[:REASONS]
