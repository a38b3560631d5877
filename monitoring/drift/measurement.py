"""Measures drift, and stores drift reports."""

from dataclasses import dataclass

import numpy as np
from django.conf import settings
from django.utils import timezone

from monitoring.drift.psi import PopulationStabilityIndex
from monitoring.models import DriftReport
from scoring.models import Prediction
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
        .values_list("created_at", "fraud_score", "transaction__fields", "derived")[: settings.DRIFT_MAX_SAMPLES]
    )
    if len(recent) < settings.DRIFT_MIN_SAMPLES:
        return TooFewSamples(len(recent), settings.DRIFT_MIN_SAMPLES)
    features = stored_inputs(encoding.of_bundle(bundle), [row[2] for row in recent], [row[3] or {} for row in recent])
    by_feature = {
        name: PopulationStabilityIndex(**bundle.reference["features"][name]).measure(features[:, i])
        for i, name in enumerate(bundle.feature_names)
    }
    score = PopulationStabilityIndex(**bundle.reference["score"]).measure(np.array([row[1] for row in recent]))
    return DriftReport.objects.create(
        created_at=timezone.now(),
        model_version=champion,
        window_start=recent[-1][0],
        window_end=recent[0][0],
        samples=len(recent),
        features=by_feature,
        score=score,
        status=_status(max(score, *by_feature.values())),
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
