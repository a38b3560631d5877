"""Measures drift, and stores drift reports."""

from dataclasses import dataclass

import numpy as np
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from msgspec import to_builtins

from monitoring.drift import attribution, shares
from monitoring.drift.clock import of_the_clock
from monitoring.drift.psi import PopulationStabilityIndex
from monitoring.models import DriftDetail, DriftReport
from scoring.models import Prediction
from scoring.webhooks import events
from scoring.webhooks.types import EventType
from scoring.worker.scorer import stored_inputs
from training import registry
from training.core.bundle import Bundle
from training.core.families import encoding
from training.models import ModelVersion


@dataclass(frozen=True)
class TooFewSamples:
    """There are too few predictions to measure drift."""

    samples: int
    needed: int


def measure_drift(*, schema: str) -> DriftReport | TooFewSamples:
    """Compare the champion's latest traffic with its training reference, and store a report.

    The sample is the latest `DRIFT_MAX_SAMPLES` predictions of the champion; below `DRIFT_MIN_SAMPLES` nothing is
    stored.

    Raises:
        NoChampion, BundleRefused: there is no reference to compare with.
    """
    champion = registry.champion(schema)
    bundle = _reference_of(champion)
    recent = list(
        Prediction.objects.filter(model_version=champion)
        .order_by("-created_at")
        .values_list(*attribution.COLUMNS)[: settings.DRIFT_MAX_SAMPLES]
    )
    if len(recent) < settings.DRIFT_MIN_SAMPLES:
        return TooFewSamples(len(recent), settings.DRIFT_MIN_SAMPLES)
    fields = [row[2] for row in recent]
    features = stored_inputs(encoding.of_bundle(bundle), fields, [row[3] or {} for row in recent])
    inputs = shares.of_inputs(bundle, features, fields)
    of_score = shares.of_score(bundle, np.array([row[1] for row in recent]))
    by_feature, score = {each.name: each.psi for each in inputs}, of_score.psi
    report = DriftReport(
        created_at=timezone.now(),
        model_version=champion,
        window_start=recent[-1][0],
        window_end=recent[0][0],
        samples=len(recent),
        features=by_feature,
        score=score,
        unusual=shares.unusual(inputs, len(recent)),
    )
    clock = of_the_clock(bundle.declared, report)
    drifting = {name: psi for name, psi in by_feature.items() if name not in clock}
    report.status = _status(max(score, *drifting.values()))
    shift = attribution.latest(champion, recent)
    details = DriftDetail(inputs=to_builtins(inputs), score=to_builtins(of_score), shift=to_builtins(shift))
    _store(report, details, [name for name, psi in drifting.items() if psi >= PopulationStabilityIndex.MODERATE])
    return report


@transaction.atomic
def _store(report: DriftReport, details: DriftDetail, drifted: list[str]) -> None:
    """Store a report with its details, and tell of drift that the one before it did not have, with the features that
    `drifted`."""
    before = DriftReport.objects.filter(model_version=report.model_version).order_by("-created_at").first()
    report.save()
    parts = {"report": report, "inputs": details.inputs, "score": details.score, "shift": details.shift}
    DriftDetail.objects.update_or_create(model_version=report.model_version, defaults=parts)
    if report.status in (DriftReport.Status.STABLE, before.status if before else DriftReport.Status.STABLE):
        return
    version = report.model_version
    events.record(
        EventType.DRIFT_DETECTED,
        object=f"drift:{version.schema}",
        schema=version.schema,
        data={
            "schema": version.schema,
            "model_version": version.pk,
            "status": str(report.status),
            "previous_status": str(before.status) if before else None,
            "score_psi": report.score,
            "drifted_features": drifted,
        },
    )


_references: dict[str, Bundle] = {}


def _reference_of(version: ModelVersion) -> Bundle:
    """The version's bundle, checked and read once per process, as a version never changes."""
    if version.pk not in _references:
        _references.clear()
        _references[version.pk] = registry.load(version)
    return _references[version.pk]


def _status(largest: float) -> str:
    if largest >= PopulationStabilityIndex.STRONG:
        return DriftReport.Status.STRONG
    return DriftReport.Status.MODERATE if largest >= PopulationStabilityIndex.MODERATE else DriftReport.Status.STABLE
