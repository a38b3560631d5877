"""Compares a shadow with the decisions on the same transactions: alerts, measures on labelled rows, disagreements."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from django.db.models import F

from scoring.models import Label, ShadowScore
from scoring.reviews import verdicts
from training.core import evaluation
from training.models import ModelVersion

# This many of the latest rows are compared, so that the page's cost does not grow.
COMPARED = 20_000
RESAMPLES, CELL_RESAMPLES = 200, 2_000
APART = 10
DRAWN = 600


@dataclass(frozen=True)
class Disagreement:
    """A transaction whose two scores are far apart; `is_fraud` is None without a label."""

    transaction: UUID
    amount: float
    decided: float
    shadow: float
    is_fraud: bool | None


@dataclass(frozen=True)
class ShadowComparison:
    """The comparison on the latest `rows` transactions that a shadow scored, from `since` to `until`.

    `alerts` counts transactions by who alerts, the decision or the shadow: `{"both", "decided", "shadow", "neither"}`.
    `labelled` and `frauds` count those with a label. `measures`, on these, are rows of a name, the value for the
    deciding scores, the value for the shadow's, and the interval of the difference if known, which is paired: both are
    measured on the same draws of these transactions. `points` are x, y and kind in a plot of 100 by 100.
    """

    rows: int
    since: datetime
    until: datetime
    alerts: Mapping[str, int]
    labelled: int
    frauds: int
    measures: list[tuple[str, float | None, float | None, tuple[float, float] | None]]
    apart: list[Disagreement]
    points: list[tuple[str, str, str]]

    @property
    def agreement(self) -> float:
        return (self.alerts["both"] + self.alerts["neither"]) / self.rows

    @property
    def decided_rate(self) -> float:
        return (self.alerts["both"] + self.alerts["decided"]) / self.rows

    @property
    def shadow_rate(self) -> float:
        return (self.alerts["both"] + self.alerts["shadow"]) / self.rows


def compare(version: ModelVersion) -> ShadowComparison | None:
    """Compare a version's shadow scores, under its current thresholds, with the decisions; None if it has no scores."""
    found = (
        ShadowScore.objects.filter(model_version=version)
        .order_by("-created_at")
        .annotate(
            decided=F("transaction__prediction__fraud_score"),
            threshold=F("transaction__prediction__threshold"),
            amount=F("transaction__amount"),
        )
        .values("transaction_id", "created_at", "fraud_score", "decided", "threshold", "amount")
    )
    rows: list[Any] = list(found[:COMPARED])
    if not rows:
        return None
    decided, shadow = (np.array([row[name] for row in rows]) for name in ("decided", "fraud_score"))
    decided_alert = decided >= np.array([row["threshold"] for row in rows])
    shadow_alert = shadow >= version.review_threshold
    newest = ShadowScore.objects.filter(model_version=version, created_at__gte=rows[-1]["created_at"])
    verdict_of = verdicts.known(Label.objects.filter(transaction__in=newest.values("transaction")))
    for row in rows:
        row["is_fraud"] = verdict_of.get(row["transaction_id"])
    known = np.array([row["is_fraud"] is not None for row in rows])
    labels = np.array([bool(row["is_fraud"]) for row in rows]).astype(np.int8)[known]
    furthest = np.argsort(-np.abs(decided - shadow))[:APART]
    return ShadowComparison(
        rows=len(rows),
        since=rows[-1]["created_at"],
        until=rows[0]["created_at"],
        alerts={
            "both": int((decided_alert & shadow_alert).sum()),
            "decided": int((decided_alert & ~shadow_alert).sum()),
            "shadow": int((~decided_alert & shadow_alert).sum()),
            "neither": int((~decided_alert & ~shadow_alert).sum()),
        },
        labelled=len(labels),
        frauds=int(labels.sum()),
        measures=_measures(labels, decided[known], shadow[known], decided_alert[known], shadow_alert[known]),
        apart=[
            Disagreement(row["transaction_id"], row["amount"], row["decided"], row["fraud_score"], row["is_fraud"])
            for row in (rows[index] for index in furthest)
        ],
        points=_points(rows, decided, shadow),
    )


def _measures(
    labels: np.ndarray, decided: np.ndarray, shadow: np.ndarray, decided_alert: np.ndarray, shadow_alert: np.ndarray
) -> list[tuple[str, float | None, float | None, tuple[float, float] | None]]:
    """Precision, recall and AUPRC of both on labelled rows."""
    fraud = labels == 1
    precision, recall = _differences(fraud, decided_alert, shadow_alert)
    measures: list[tuple[str, float | None, float | None, tuple[float, float] | None]] = [
        ("precision", _share(fraud[decided_alert]), _share(fraud[shadow_alert]), precision),
        ("recall", _share(decided_alert[fraud]), _share(shadow_alert[fraud]), recall),
    ]
    if 0 < fraud.sum() < len(fraud):
        # AUPRC does not depend on the threshold.
        ours, theirs = (
            evaluation.Ranking(labels, scores, threshold=0.5).metrics()["auprc"] for scores in (decided, shadow)
        )
        paired = evaluation.paired(labels, (shadow, 0.5), (decided, 0.5), resamples=RESAMPLES, seed=0)["auprc"]
        low, high = paired["low"], paired["high"]
        measures.append(("AUPRC", ours, theirs, None if low is None or high is None else (low, high)))
    return measures


def _differences(
    fraud: np.ndarray, decided: np.ndarray, shadow: np.ndarray
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """The intervals of the differences in precision and in recall, the shadow's less the decisions', by the bootstrap.

    Both depend only on how many rows there are of each kind, fraud or not and alert or not by either. So a draw of rows
    is one of these eight counts.
    """
    if not len(fraud):
        return None, None
    kinds = np.bincount(4 * fraud + 2 * decided + shadow, minlength=8)
    drawn = np.random.default_rng(0).multinomial(len(fraud), kinds / len(fraud), CELL_RESAMPLES)
    counts = drawn.reshape(-1, 2, 2, 2).astype(float)  # by fraud, decided, shadow
    by_decided, by_shadow = counts.sum(axis=3), counts.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        precisions = [by[:, 1, 1] / by[:, :, 1].sum(axis=1) for by in (by_shadow, by_decided)]
        recalls = [by[:, 1, 1] / by[:, 1].sum(axis=1) for by in (by_shadow, by_decided)]
    ends = [evaluation.interval(ours - theirs) for ours, theirs in (precisions, recalls)]
    precision, recall = (None if low is None or high is None else (low, high) for low, high in ends)
    return precision, recall


def _share(flags: np.ndarray) -> float | None:
    return float(flags.mean()) if len(flags) else None


def _points(rows: list[Any], decided: np.ndarray, shadow: np.ndarray) -> list[tuple[str, str, str]]:
    """The points of the plot. Its axes are stretched at both ends, where most scores are."""
    x, y = (100 * (0.5 + np.log((scores + 1e-4) / (1 - scores + 1e-4)) / 18.5) for scores in (decided, shadow))
    kinds = {None: "unknown", True: "fraud", False: "legitimate"}
    # If there are many, take labelled ones first.
    order = sorted(range(len(rows)), key=lambda index: rows[index]["is_fraud"] is None)[:DRAWN]
    return [(f"{x[i]:.2f}", f"{100 - y[i]:.2f}", kinds[rows[i]["is_fraud"]]) for i in order]
