"""The one way to score: takes the fields and computed features of transactions, and gives scores, decisions and
reasons.

Realtime and bulk batches, pending transactions and shadows use it. It stores nothing.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scoring.decisions import ALERTS, Decision
from scoring.messages.answers import Reason
from scoring.messages.explanation import Explanation
from scoring.messages.replies import Stages
from scoring.models import Prediction
from scoring.policies.engine import Decided
from scoring.policies.expressions import Case
from scoring.worker.predictor import About, Predictor
from training.core.families.encoding import Encoding
from training.core.schema import Schema
from training.core.schema.values import Value


@dataclass(slots=True)
class Scored:
    """The score, decision and reasons of one transaction. `derived` are its computed features, in the schema's order.
    Only an alert has reasons and an explanation. `fraud_score` is NaN if the model has no finite score; the other
    fields are meaningless then."""

    fraud_score: float
    decided: Decided
    reasons: list[Reason]
    derived: Sequence[float]
    explanation: Explanation | None = None

    @property
    def decision(self) -> Decision:
        return self.decided.decision

    @property
    def is_alert(self) -> bool:
        return self.decision in ALERTS


def score(
    predictor: Predictor,
    cases: Sequence[Case],
    given: np.ndarray,
    derived: np.ndarray,
    stages: Stages,
    about: Sequence[About] = (),
) -> list[Scored]:
    """Score, decide on and explain `n` transactions. Only alerts have reasons.

    `cases` are the transactions as the policy sees them. `given` are the fields that were sent,
    [n, len(schema.features)] float64; `derived` are the computed features, [n, len(schema.derived)] float64. The
    elapsed time is added to `stages`. `about` says for each which transaction it is, and of which request, for the log.
    """
    began = time.perf_counter()
    inputs = inputs_of(predictor.encode, given, derived)
    prepared = time.perf_counter()
    scores = predictor.score(inputs, about)
    rows = derived.tolist()
    decided = predictor.policy.decide(cases, rows, scores.tolist())
    scored = [
        Scored(fraud_score, each, [], values)
        for fraud_score, each, values in zip(scores.tolist(), decided, rows, strict=True)
    ]
    if alerts := [index for index, each in enumerate(scored) if each.is_alert]:
        for index, explanation in zip(alerts, predictor.explain(inputs[alerts], scores[alerts]), strict=True):
            scored[index].explanation = explanation
            scored[index].reasons = predictor.reasons(inputs[index], explanation)
    stages.features_s += prepared - began
    stages.model_s += time.perf_counter() - prepared
    return scored


def inputs_of(encode: Encoding, given: np.ndarray, derived: np.ndarray) -> np.ndarray:
    """The encoded inputs of a model, [n, len(schema.input_names)] float32; shapes as in `score`."""
    from training.core.features.replay import model_inputs  # numba takes a second to import, and only workers need it

    return encode(model_inputs(encode.schema, given, derived)).astype(np.float32)


def stored_inputs(
    encode: Encoding, fields: Sequence[Mapping[str, Value]], derived: Sequence[Mapping[str, float | None]]
) -> np.ndarray:
    """The encoded inputs of `n` stored transactions, [n, len(schema.input_names)] float32, from their values and their
    computed features by name. What is None is missing."""
    schema = encode.schema
    given = schema.encode([[values.get(name) for name in schema.feature_names] for values in fields])
    computed = np.array([[values[feature.name] for feature in schema.derived] for values in derived], np.float64)
    return inputs_of(encode, given, computed)


def has_inputs(schema: Schema, prediction: Prediction) -> bool:
    """Whether a stored prediction has all inputs that a schema declares: those of older declarations lack new ones."""
    fields, derived = prediction.transaction.fields.keys(), (prediction.derived or {}).keys()
    return fields >= set(schema.feature_names) and derived >= {feature.name for feature in schema.derived}


def nothing_derived(rows: int) -> np.ndarray:
    """The computed features of a schema without any, [rows, 0]."""
    return np.empty((rows, 0))
