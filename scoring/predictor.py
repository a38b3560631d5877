"""The champion model, held in memory by a worker process."""

import logging
import time

import numpy as np
from django.conf import settings

from scoring.decisions import Policy
from training import families, registry
from training.exceptions import BundleRefused
from training.models import ModelVersion
from training.schema import Schema, load_schema

logger = logging.getLogger(__name__)


class Predictor:
    """A loaded, warmed model and the policy that goes with it.

    Raises:
        BundleRefused: the bundle of this version is not whole, or not ours.
    """

    def __init__(self, version: ModelVersion) -> None:
        # It takes seconds to import.
        from training.features.replay import warm

        self.scorer = families.scorer_of(registry.load(version))
        self.scorer.warm()
        self.schema: Schema = load_schema(version.schema)
        warm(self.schema)
        self.adopt(version)

    def adopt(self, version: ModelVersion) -> None:
        """Take over the row's thresholds, which may change while the weights stay."""
        self.version = version
        self.policy = Policy(version.review_threshold, version.block_threshold)

    def score(self, features: np.ndarray) -> np.ndarray:
        """Score rows of the schema's inputs, [n, f] float32. Returns [n] float64 in [0, 1]; NaN where it fails."""
        try:
            return self.scorer.score(features).astype(np.float64)
        except Exception:  # whatever a model may raise: one bad row must not cost the others their score
            if len(features) == 1:
                logger.exception("The model cannot score a transaction.")
                return np.array([np.nan])
            return np.concatenate([self.score(row[None]) for row in features])

    def reasons(self, features: np.ndarray) -> list[list[dict[str, float | str]]]:
        """What pushed each row's score up most, strongest first; [n, f] float32 in.

        A contribution is in logits, against what the model takes for ordinary: see `families.Scorer.explain`.
        """
        names = self.schema.input_names
        reasons = []
        for contributions in self.scorer.explain(features):
            strongest = np.argsort(contributions)[::-1][: settings.REASONS_PER_ALERT]
            reasons.append(
                [
                    {"feature": names[i], "contribution": round(float(contributions[i]), 4)}
                    for i in strongest
                    if contributions[i] > 0
                ]
            )
        return reasons


def limit_threads() -> None:
    """Leave the machine's other cores to other workers. Before the first model is loaded, or not at all."""
    from training.model import limit_threads

    limit_threads(settings.MODEL_THREADS)


_current: dict[str, tuple[Predictor, float]] = {}


def current(schema: str) -> Predictor:
    """The champion of a schema, loaded at first use; the registry is asked anew every `MODEL_REFRESH_S` seconds.

    Raises:
        NoChampion: there is none.
        BundleRefused: its bundle is refused and there is no older model to go on with.
    """
    predictor, checked_at = _current.get(schema, (None, 0.0))
    if predictor and time.monotonic() - checked_at < settings.MODEL_REFRESH_S:
        return predictor
    champion = registry.champion(schema)
    if predictor and predictor.version.pk == champion.pk:
        predictor.adopt(champion)
    else:
        try:
            predictor = Predictor(champion)
        except BundleRefused:
            if predictor is None:
                raise
            logger.exception("Champion %s is refused; %s goes on.", champion, predictor.version)
        else:
            logger.info("Champion %s is loaded and warm.", champion)
    _current[schema] = (predictor, time.monotonic())
    return predictor
