"""Shadows score the same live transactions as the champion, and decide nothing.

A bulk worker scores them some seconds after the answers, from the stored predictions. So no predict call waits for a
shadow, and shadows score every decided transaction, whichever way it came in.
"""

import logging
from datetime import datetime, timedelta
from time import monotonic

import numpy as np
from django.conf import settings
from django.db import transaction

from scoring.models import Prediction, ShadowProgress, ShadowScore
from scoring.worker import scorer
from scoring.worker.predictor import Predictor
from training import clock
from training.core.exceptions import BundleRefused
from training.models import ModelVersion, Stage

logger = logging.getLogger(__name__)

# A batch is committed a little after its predictions' `created_at`.
SETTLED = timedelta(seconds=3)
# More than any batch has: the predictions of a batch share one `created_at` and are scored together.
ROWS_AT_A_TIME = 2_000
SHARES = 10_000

_loaded: dict[str, Predictor] = {}


def score_new_predictions(*, now: datetime | None = None) -> int:
    """Have every shadow score the predictions since its last run. Returns how many scores were written.

    It stops after `SHADOW_INTERVAL_S`, when the next run begins and goes on.
    """
    now = now or clock.now()
    end = monotonic() + settings.SHADOW_INTERVAL_S
    shadows = list(ModelVersion.objects.filter(stage=Stage.SHADOW))
    for pk in _loaded.keys() - {version.pk for version in shadows}:
        del _loaded[pk]
    written = 0
    for version in shadows:
        try:
            predictor = _loaded.get(version.pk) or _loaded.setdefault(version.pk, Predictor(version))
        except BundleRefused as error:
            logger.warning("Shadow %s does not score: %s", version, error)
            continue
        while (scored := _score_some(predictor, now)) is not None:
            written += scored
            if monotonic() > end:
                break
    return written


def _score_some(predictor: Predictor, now: datetime) -> int | None:
    """Score the next predictions. Returns how many, or None if there are none."""
    version = predictor.version
    since, until = _since(version, now), now - SETTLED
    decided = Prediction.objects.filter(
        created_at__gt=since, created_at__lte=until, transaction__schema=version.schema
    ).select_related("transaction")
    rows = list(decided.order_by("created_at")[:ROWS_AT_A_TIME])
    if len(rows) == ROWS_AT_A_TIME:
        # The last batch may go on after the limit: score it the next time.
        whole = [row for row in rows if row.created_at < rows[-1].created_at]
        rows = whole or list(decided.filter(created_at=rows[0].created_at))
    if not rows:
        return None
    drawn = [
        row
        for row in rows
        if row.pk.int % SHARES < settings.SHADOW_SHARE * SHARES and scorer.has_inputs(predictor.schema, row)
    ]
    fields, derived = [row.transaction.fields for row in drawn], [row.derived or {} for row in drawn]
    scores = predictor.score(scorer.stored_inputs(predictor.encode, fields, derived)) if drawn else np.empty(0)
    with transaction.atomic():
        ShadowScore.objects.bulk_create(
            [
                ShadowScore(transaction_id=row.pk, model_version=version, fraud_score=score, created_at=row.created_at)
                for row, score in zip(drawn, scores.tolist(), strict=True)
                if np.isfinite(score)
            ],
            ignore_conflicts=True,
        )
        ShadowProgress.objects.update_or_create(model_version=version, defaults={"scored_until": rows[-1].created_at})
    return len(drawn)


def _since(version: ModelVersion, now: datetime) -> datetime:
    became = version.changes.filter(after=Stage.SHADOW).first()
    began = became.at if became else now
    progress = ShadowProgress.objects.filter(pk=version.pk).first()
    # After a standstill, or if there is too much traffic, older predictions are skipped.
    furthest = now - timedelta(seconds=settings.SHADOW_BEHIND_S)
    return max(began, furthest, progress.scored_until if progress else began)
