"""Shadows score the same live transactions as the champion, and decide nothing.

They come some seconds after the answers, in a bulk worker, from the stored predictions: no predict call knows of them,
and what is scored along is what was decided, whichever way it came in.
"""

import logging
from datetime import datetime, timedelta
from time import monotonic

import numpy as np
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from scoring.models import Prediction, ShadowProgress, ShadowScore
from scoring.worker import scorer
from scoring.worker.predictor import Predictor
from training.core.exceptions import BundleRefused
from training.core.schema import Schema
from training.models import ModelVersion, Stage

logger = logging.getLogger(__name__)

# A batch is committed a little after the time that its predictions bear.
SETTLED = timedelta(seconds=3)
# More than any batch has, as the predictions of one batch bear one time and are taken together.
ROWS_AT_A_TIME = 2_000
SHARES = 10_000

_loaded: dict[str, Predictor] = {}


def score_along(*, now: datetime | None = None) -> int:
    """Have every shadow score what has been decided since it last did. Returns how many scores were written.

    Stops after `SHADOW_INTERVAL_S`, when the next run begins, and goes on there.
    """
    now = now or timezone.now()
    end = monotonic() + settings.SHADOW_INTERVAL_S
    shadows = list(ModelVersion.objects.filter(stage=Stage.SHADOW))
    for pk in _loaded.keys() - {version.pk for version in shadows}:
        del _loaded[pk]
    written = 0
    for version in shadows:
        try:
            predictor = _loaded.get(version.pk) or _loaded.setdefault(version.pk, Predictor(version))
        except BundleRefused as error:
            logger.warning("Shadow %s does not score along: %s", version, error)
            continue
        while (scored := _score_some(predictor, now)) is not None:
            written += scored
            if monotonic() > end:
                break
    return written


def _score_some(predictor: Predictor, now: datetime) -> int | None:
    """Score the next predictions along; None when there are none."""
    version = predictor.version
    since, until = _since(version, now), now - SETTLED
    decided = Prediction.objects.filter(
        created_at__gt=since, created_at__lte=until, transaction__schema=version.schema
    ).select_related("transaction")
    rows = list(decided.order_by("created_at")[:ROWS_AT_A_TIME])
    if len(rows) == ROWS_AT_A_TIME:
        # The last batch may go on behind the limit: it is taken next time.
        whole = [row for row in rows if row.created_at < rows[-1].created_at]
        rows = whole or list(decided.filter(created_at=rows[0].created_at))
    if not rows:
        return None
    drawn = [row for row in rows if row.pk.int % SHARES < settings.SHADOW_SHARE * SHARES and _is_whole(predictor, row)]
    scores = predictor.score(_inputs(predictor.schema, drawn)) if drawn else np.empty(0)
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
    # After a standstill, or where there is too much traffic, what lies between is passed over.
    furthest = now - timedelta(seconds=settings.SHADOW_BEHIND_S)
    return max(began, furthest, progress.scored_until if progress else began)


def _is_whole(predictor: Predictor, row: Prediction) -> bool:
    """Whether all that a shadow takes is known: a champion of an older declaration computed no new feature."""
    fields, derived = row.transaction.fields.keys(), (row.derived or {}).keys()
    schema = predictor.schema
    return fields >= set(schema.feature_names) and derived >= {feature.name for feature in schema.derived}


def _inputs(schema: Schema, rows: list[Prediction]) -> np.ndarray:
    """What the champion was given, [n, f] float32."""
    given = np.array([[row.transaction.fields[name] for name in schema.feature_names] for row in rows], np.float64)
    computed = [row.derived or {} for row in rows]
    derived = np.array([[values[feature.name] for feature in schema.derived] for values in computed], np.float64)
    return scorer.inputs_of(schema, given, derived)
