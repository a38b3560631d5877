"""Which inputs moved the score, and by how much.

The contributions of a row add up to its logit less that of an ordinary transaction (`training.core.families`: exact
Shapley values of trees, integrated gradients of networks). So the mean logit of recent traffic less that of earlier
traffic is a sum as well, of the differences of each input's mean contribution; nothing is left over. Lundberg and
others watch single features of a model at work by their contributions in this way (From local explanations to global
understanding with explainable AI for trees, Nature Machine Intelligence 2, 2020). It tells what the model made of the
traffic: an input that moved and adds nothing did not move the score.

It needs the model, so a worker does it, for `EXPLAINED` rows of both windows and not more often than `EVERY`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
from django.utils import timezone
from msgspec import Struct

from monitoring.models import DriftDetail
from scoring.models import Prediction
from scoring.policies.backtesting import WITHIN_95
from scoring.worker import predictor
from scoring.worker.scorer import stored_inputs
from training.models import ModelVersion

# What is read of a prediction, here and by the measurement.
COLUMNS = ("created_at", "fraud_score", "transaction__fields", "derived")
EXPLAINED, FEWEST = 500, 100
# Earlier traffic is that of a week before, or the version's first if it is younger.
APART = timedelta(days=7)
EVERY = timedelta(hours=1)


class Added(Struct, frozen=True):
    """By how much an input moved the mean logit, with the 95 % interval that the two samples leave."""

    value: float
    low: float
    high: float


class Shift(Struct, frozen=True):
    """How the mean logit of recent traffic differs from that of earlier traffic: in all, and by input. Each window has
    its first and last moment and its rows."""

    made_at: datetime
    before: tuple[datetime, datetime, int]
    now: tuple[datetime, datetime, int]
    total: Added
    inputs: dict[str, Added]


def latest(version: ModelVersion, recent: Sequence[Any]) -> Shift | None:
    """What moved the scores of a version's recent traffic, newest first; the stored answer while it is young enough.
    None without enough earlier traffic.

    Raises:
        BundleRefused: the version cannot be loaded.
    """
    kept = DriftDetail.objects.filter(pk=version.pk).values_list("shift", flat=True).first()
    if kept and (found := msgspec.convert(kept, Shift)).made_at > timezone.now() - EVERY:
        return found
    now = recent[:EXPLAINED]
    before = _earlier(version, now[-1][0])
    if len(before) < FEWEST:
        return None
    model = predictor.of_version(version)
    parts = []
    for rows in (before, now):
        inputs = stored_inputs(model.encode, [row[2] for row in rows], [row[3] or {} for row in rows])
        parts.append(model.scorer.explain(inputs, np.array([row[1] for row in rows])))
    names = model.schema.input_names
    by_input = [
        added(*(part.contributions[:, column] for part in parts)) for column in range(parts[0].contributions.shape[1])
    ]
    return Shift(
        timezone.now(),
        (before[-1][0], before[0][0], len(before)),
        (now[-1][0], now[0][0], len(now)),
        added(*(part.logits for part in parts)),
        dict(zip(names, by_input, strict=True)),
    )


def added(before: np.ndarray, now: np.ndarray) -> Added:
    """The difference of the means of two samples [n], [m], with its normal interval.

    >>> added(np.array([1.0, 1.0]), np.array([3.0, 3.0]))
    Added(value=2.0, low=2.0, high=2.0)
    """
    value = float(now.mean() - before.mean())
    reach = WITHIN_95 * float(np.sqrt(before.var() / len(before) + now.var() / len(now)))
    return Added(value, value - reach, value + reach)


def _earlier(version: ModelVersion, until: datetime) -> list[Any]:
    """Rows of a version from well before a moment, newest first."""
    rows = Prediction.objects.filter(model_version=version)
    found = list(rows.filter(created_at__lt=until - APART).order_by("-created_at").values_list(*COLUMNS)[:EXPLAINED])
    if len(found) < FEWEST:
        first = rows.filter(created_at__lt=until).order_by("created_at").values_list(*COLUMNS)[:EXPLAINED]
        found = list(first)[::-1]
    return found
