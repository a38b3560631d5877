"""A transaction that the model cannot score is refused alone."""

import time

import numpy as np
import pytest

from fraudsite.testing import seed_payload, submission
from scoring.messages.replies import Kind
from scoring.models import Prediction, Transaction
from scoring.worker import batches
from scoring.worker.predictor import Predictor
from training.core.evaluation.calibration import Calibration
from training.core.families import Calibrated
from training.core.families.networks.scorer import Scorer
from training.core.schema import load_schema
from training.tests.support import networks_of

V1 = load_schema("ulb").feature_names.index("V1")


@pytest.fixture
def predictor(champion, bundle):
    """A model whose first layer overflows on a large V1, as broken weights would have it."""
    kernel = bundle.weights["dense_1/kernel"].copy()
    kernel[V1] = np.finfo(np.float32).max
    predictor = Predictor(champion)
    broken = Scorer(networks_of(bundle), bundle.weights | {"dense_1/kernel": kernel})
    predictor.scorer = Calibrated(broken, Calibration())
    return predictor


def test_the_others_of_its_batch_are_scored_and_stored(predictor, bundle, acme):
    mean = float(bundle.weights["standardise/mean"][V1])
    batch = [
        submission(acme.pk, seed_payload(V1=mean, transaction_id="good")),
        submission(acme.pk, seed_payload(V1=200.0, transaction_id="bad")),
    ]
    outcomes, _ = batches.score_batch(submissions=batch, predictor=predictor, started_at=time.time())
    assert [outcome.kind for outcome in outcomes] == [Kind.SCORED, Kind.UNSCORABLE]
    assert [row.transaction_id for row in Transaction.objects.all()] == ["good"]
    assert Prediction.objects.count() == 1
